package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"time"

	"github.com/spf13/cobra"

	"holdfast/gateway/torture"
)

func tortureCommand() *cobra.Command {
	var opts torture.Options
	var verbose bool
	c := &cobra.Command{
		Use:   "torture",
		Short: "Prove on this machine's own card that nothing acknowledged is lost",
		Long: `Torture runs a gateway of its own in --dir, with simulated sensors and publishers, and an upstream in this
process. It kills the gateway with SIGKILL at random, cuts its link, takes the upstream away, and fills its
journal and its disk; as root, the disk is a small file system of its own. Then it compares by sequence number what
was acknowledged with what has arrived. The exit code is 1 if anything is missing that was not announced as
dropped, or came out of order.

It takes free ports of 127.0.0.1, leaves a gateway that runs alone, and writes up to 300 MiB, which it removes.`,
		Example: `  holdfast torture --for 10m --dir /var/lib/holdfast     # on the card that will hold the data`,
		Args:    noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if opts.For < 5*time.Second {
				return usageError{fmt.Errorf("--for %v: too short to tell anything: want at least 5s", opts.For)}
			}
			var err error
			if opts.Program, err = os.Executable(); err != nil {
				return err
			}
			opts.Out = c.OutOrStdout()
			if verbose {
				opts.Log = c.ErrOrStderr()
			}
			if opts.Seed == 0 {
				opts.Seed = rand.Uint64N(1e6) + 1
			}
			_, err = torture.Run(c.Context(), opts)
			if errors.Is(err, torture.ErrBroken) {
				return fmt.Errorf("holdfast torture: %w: see the table above", err)
			}
			return err
		},
	}
	c.Flags().DurationVar(&opts.For, "for", 10*time.Minute, "how long; a full disk may take longer to come about")
	c.Flags().StringVar(&opts.Dir, "dir", ".", "`DIR` on the card to be tried")
	c.Flags().Uint64Var(&opts.Seed, "seed", 0, "order of the faults; a random one if it is not given")
	c.Flags().BoolVarP(&verbose, "verbose", "v", false, "tell of each fault")
	return c
}
