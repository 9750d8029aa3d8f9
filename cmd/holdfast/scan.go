package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"holdfast/sensors/bus"
	"holdfast/sensors/chips"
	"holdfast/sensors/scan"
	"holdfast/sensors/simulated"
)

func scanCommand() *cobra.Command {
	var simulate, table bool
	c := &cobra.Command{
		Use:   "scan",
		Short: "Find what is connected, and print a configuration for it",
		Long: "Scan looks at the I2C buses, 1-Wire, IIO, hwmon and GPIO chips without changing anything, and prints\n" +
			"what it finds as a configuration: the table as comments, then the sensors. SPI and serial ports are\n" +
			"listed and not touched.",
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			buses := bus.NewSet(nil)
			if simulate {
				pi, err := simulated.Everything(simulated.Options{})
				if err != nil {
					return err
				}
				buses = bus.NewSimulatedSet(pi)
			}
			r, err := scan.Run(c.Context(), buses, chips.Drivers())
			if err != nil {
				return err
			}
			text := r.YAML(chips.Drivers())
			if table {
				text = r.Table()
			}
			fmt.Fprint(c.OutOrStdout(), text)
			return nil
		},
	}
	c.Flags().BoolVar(&simulate, "simulate", false, "scan a simulated Pi that has one of every chip")
	c.Flags().BoolVar(&table, "table", false, "print the table alone")
	return c
}
