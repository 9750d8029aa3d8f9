package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"holdfast/gateway/control"
)

func reloadCommand() *cobra.Command {
	var s socket
	c := &cobra.Command{
		Use:   "reload",
		Short: "Make the running gateway load its configuration again",
		Long: "Reload makes the running gateway load the files that it was started with, and apply what is\n" +
			"different. It returns when that is done and prints what was changed. A file with mistakes changes\n" +
			"nothing: they are printed, and the exit code is 1.",
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			gateway, err := s.client()
			if err != nil {
				return err
			}
			var done control.Changed
			if err := gateway.Post(c.Context(), "/reload", nil, &done); err != nil {
				return err
			}
			showChanges(c.OutOrStdout(), done.Changes)
			return nil
		},
	}
	s.flags(c)
	return c
}

func showChanges(w io.Writer, changes []string) {
	if len(changes) == 0 {
		fmt.Fprintln(w, "nothing is different")
	}
	for _, line := range changes {
		fmt.Fprintln(w, strings.Map(printable, line))
	}
}
