package main

import (
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"holdfast/sensors/outputs"
)

func outputsCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "outputs [NAME...]",
		Short: "List every output driver, or say everything about some: values, options, wiring, addresses",
		RunE: func(c *cobra.Command, names []string) error {
			out := c.OutOrStdout()
			if len(names) == 0 {
				fmt.Fprint(out, outputs.Catalogue(outputs.Drivers()))
				return nil
			}
			for i, name := range names {
				all := outputs.Drivers()
				n := slices.IndexFunc(all, func(d outputs.Driver) bool { return d.Name == name })
				if n < 0 {
					return usageError{fmt.Errorf("no driver %q: 'holdfast outputs' lists them, 'holdfast sensors' those of sensors", name)}
				}
				if i > 0 {
					fmt.Fprintln(out)
				}
				fmt.Fprint(out, all[n].Describe())
			}
			return nil
		},
	}
}
