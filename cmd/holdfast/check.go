package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"holdfast/gateway"
	"holdfast/gateway/config"
	"holdfast/gateway/uplinks"
)

func checkCommand() *cobra.Command {
	var files []string
	c := &cobra.Command{
		Use:   "check -c FILE",
		Short: "Check a configuration without starting anything",
		Long: "Check reads the configuration and prints every mistake as file:line: key: what is wrong, and\n" +
			"what is wrong with the files that it names. The exit code is 0 if there is none, 2 otherwise.\n" +
			"Warnings, of what is possible and hardly meant, go to standard error and do not change it.",
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := check(files)
			if err != nil {
				return usageError{err}
			}
			for _, w := range cfg.Warnings() {
				fmt.Fprintf(c.ErrOrStderr(), "warning: %v\n", w)
			}
			fmt.Fprintf(c.OutOrStdout(), "ok: device %s, %d sensors, %d outputs, %d bridges\n",
				cfg.Device.ID, len(cfg.Sensors), len(cfg.Outputs), len(cfg.Bridges))
			used, err := uplinks.Identify(cfg)
			for _, b := range used.Bridges {
				switch {
				case b.NewClientID == "": // the file has it
				case err != nil:
					fmt.Fprintf(c.OutOrStdout(), "bridge %s: %v\n", b.Name, err)
				default:
					fmt.Fprintf(c.OutOrStdout(), "bridge %s: client identifier %s\n", b.Name, b.ClientID)
				}
			}
			return nil
		},
	}
	filesFlag(c, &files)
	return c
}

// check checks a configuration: its own text, and the files that it names.
func check(files []string) (*config.Config, error) {
	cfg, err := load(files)
	if err != nil {
		return nil, err
	}
	return cfg, gateway.Check(cfg)
}
