package main

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"holdfast/broker/diagnose"
	"holdfast/gateway/uplinks"
)

func bridgeCommand() *cobra.Command {
	c := &cobra.Command{Use: "bridge", Short: "Try the bridges to upstreams", Args: noArgs}
	c.AddCommand(bridgeTestCommand())
	return c
}

func bridgeTestCommand() *cobra.Command {
	var files []string
	var opts uplinks.TryOptions
	c := &cobra.Command{
		Use:   "test NAME -c FILE",
		Short: "Try the way to a bridge's upstreams step by step, and say what to do where it fails",
		Long: "Test connects to every upstream of a bridge as the gateway would, subscribes to each filter of in, subscribes to\n" +
			"and publishes on a topic holdfast-test below those of each rule of out, and prints a line for each step: what it met, and the remedy where it\n" +
			"failed. The gateway may be running. The exit code is 0 if everything that the bridge needs works, 1 if not.",
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usageError{fmt.Errorf("%s: want the name of one bridge", c.CommandPath())}
			}
			if opts.Timeout <= 0 {
				return usageError{fmt.Errorf("--timeout %v: want more than 0", opts.Timeout)}
			}
			cfg, err := load(files)
			if err != nil {
				return usageError{err}
			}
			out := c.OutOrStdout()
			begun := false
			good, err := uplinks.Try(c.Context(), cfg, args[0], opts,
				func(url string) { begun = true; fmt.Fprintln(out, url) }, func(s diagnose.Step) { printStep(out, s) })
			switch {
			case err != nil && !begun:
				return usageError{err}
			case err != nil:
				return err
			case !good:
				return errors.New("this bridge does not work yet: see above")
			}
			return nil
		},
	}
	filesFlag(c, &files)
	c.Flags().StringVar(&opts.ClientID, "client-id", "", "client `IDENTIFIER` to connect with; by default that of the bridge, and with -test after it while a gateway runs or where there are in rules, for all but connecting")
	c.Flags().DurationVar(&opts.Timeout, "timeout", 10*time.Second, "how long to wait for each answer")
	return c
}

func printStep(out io.Writer, s diagnose.Step) {
	fmt.Fprintf(out, "  %-4s  %-10s  %s\n", s.Outcome, s.Name, s.Answer)
	if s.Remedy != "" {
		fmt.Fprintf(out, "  %-4s  %-10s  → %s\n", "", "", s.Remedy)
	}
}
