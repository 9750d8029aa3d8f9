package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"holdfast/gateway/config"
	"holdfast/sensors/chips"
	"holdfast/sensors/outputs"
)

func schemaCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON Schema of the configuration, with which editors complete and check it",
		Long: "Schema prints the JSON Schema (2020-12) of configuration files, every driver's options included. Keep it\n" +
			"beside the configuration, and begin that with\n\n" +
			"  # yaml-language-server: $schema=holdfast.schema.json\n\n" +
			"What contradicts itself only as a whole is for 'holdfast check' to find.",
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			text, err := config.Schema(chips.Drivers(), outputs.Drivers())
			if err == nil {
				_, err = fmt.Fprintf(c.OutOrStdout(), "%s\n", text)
			}
			return err
		},
	}
}
