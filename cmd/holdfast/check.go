package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"holdfast/gateway"
)

func checkCommand() *cobra.Command {
	var files []string
	c := &cobra.Command{
		Use:   "check -c FILE",
		Short: "Check a configuration without starting anything",
		Long: "Check reads the configuration and prints every mistake as file:line: key: what is wrong, and\n" +
			"what is wrong with the files that it names. The exit code is 0 if there is none, 2 otherwise.",
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := load(files)
			if err != nil {
				return usageError{err}
			}
			if err := gateway.Check(cfg); err != nil {
				return usageError{err}
			}
			fmt.Fprintf(c.OutOrStdout(), "ok: device %s, %d sensors, %d outputs, %d bridges\n",
				cfg.Device.ID, len(cfg.Sensors), len(cfg.Outputs), len(cfg.Bridges))
			return nil
		},
	}
	filesFlag(c, &files)
	return c
}
