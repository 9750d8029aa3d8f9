package main

import (
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"holdfast/sensors"
	"holdfast/sensors/chips"
)

func sensorsCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "sensors [NAME...]",
		Short: "List every sensor driver, or say everything about some: quantities, options, wiring, addresses",
		RunE: func(c *cobra.Command, names []string) error {
			out := c.OutOrStdout()
			if len(names) == 0 {
				fmt.Fprint(out, sensors.Catalogue(chips.Drivers()))
				return nil
			}
			for i, name := range names {
				d, err := findDriver(name)
				if err != nil {
					return err
				}
				if i > 0 {
					fmt.Fprintln(out)
				}
				fmt.Fprint(out, d.Describe())
			}
			return nil
		},
	}
}

func findDriver(name string) (*sensors.Driver, error) {
	all := chips.Drivers()
	i := slices.IndexFunc(all, func(d sensors.Driver) bool { return d.Name == name })
	if i < 0 {
		return nil, usageError{fmt.Errorf("no driver %q: 'holdfast sensors' lists them", name)}
	}
	return &all[i], nil
}
