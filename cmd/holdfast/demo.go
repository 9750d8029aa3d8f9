package main

import (
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"

	"holdfast/gateway"
	"holdfast/gateway/config"
	"holdfast/gateway/demo"
	"holdfast/gateway/logs"
	"holdfast/gateway/reconfigure"
	"holdfast/gateway/tap"
	"holdfast/sensors/simulated"
)

func demoCommand() *cobra.Command {
	opts := demo.Options{}
	var verbose bool
	c := &cobra.Command{
		Use:   "demo",
		Short: "Show a whole gateway at work: simulated sensors, and an upstream that comes and goes",
		Args:  noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			opts.Out = raw(c.OutOrStdout())
			if info, err := os.Stdout.Stat(); err == nil {
				opts.Screen = info.Mode()&os.ModeCharDevice != 0
			}
			opts.Log = slog.New(logs.Handler(slog.LevelError))
			if verbose {
				opts.Log, opts.Screen = slog.New(logs.Handler(slog.LevelInfo)), false
			}
			opts.New = func(cfg *config.Config, source *reconfigure.Source, pi *simulated.Pi, t tap.Options, log *slog.Logger) (demo.Gateway, error) {
				return gateway.New(cfg, gateway.Options{Log: log, Pi: pi, Taps: []tap.Options{t}, Source: source})
			}
			return demo.Run(c.Context(), opts)
		},
	}
	c.Flags().DurationVar(&opts.For, "for", time.Duration(0), "how long to measure; 0 means until Ctrl-C")
	c.Flags().StringVar(&opts.Listen, "listen", "127.0.0.1:1883", "where the gateway's broker listens, `HOST:PORT`")
	c.Flags().BoolVarP(&verbose, "verbose", "v", false, "show the log as well")
	return c
}
