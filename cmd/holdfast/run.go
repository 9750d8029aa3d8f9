package main

import (
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"sync"
	"syscall"

	"github.com/spf13/cobra"

	"holdfast/gateway"
	"holdfast/gateway/config"
	"holdfast/gateway/logs"
	"holdfast/gateway/reconfigure"
	"holdfast/gateway/status"
	"holdfast/sensors/chips"
	"holdfast/sensors/outputs"
	"holdfast/sensors/simulated"
)

// memoryLimit is what Go's memory may grow to before it is collected harder, in bytes: what the gateway takes by
// itself, and what its limits allow to be queued and retained.
func memoryLimit(cfg *config.Config) int64 {
	const itself = 60 << 20
	return itself + cfg.Broker.Limits.QueuedTotal + cfg.Broker.Limits.RetainedTotal
}

func runCommand() *cobra.Command {
	var files []string
	var verbose, simulate bool
	var lines string
	c := &cobra.Command{
		Use:   "run -c FILE",
		Short: "Run the gateway until SIGTERM or Ctrl-C",
		Args:  noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			level := slog.LevelInfo
			if verbose {
				level = slog.LevelDebug
			}
			log := slog.New(logs.Handler(level))
			source := reconfigure.NewSource(files, loadOptions())
			start := source.Start
			if simulate { // nothing of the device's is changed
				start = func(*slog.Logger) (*config.Config, error) { return source.Load() }
			}
			cfg, err := start(log)
			if err != nil {
				return usageError{err}
			}
			if os.Getenv("GOMEMLIMIT") == "" {
				debug.SetMemoryLimit(memoryLimit(cfg))
			}
			opts := gateway.Options{Log: log, Version: version(), Simulate: simulate, Source: source}
			if lines != "" {
				opts.Pi = simulated.New(simulated.Options{})
				if err := opts.Pi.KeepLines(lines); err != nil {
					return fmt.Errorf("--line-history: %w", err)
				}
			}
			a, err := gateway.New(cfg, opts)
			if err != nil {
				return err
			}
			log.Info("running", "device", cfg.Device.ID, "sensors", len(cfg.Sensors), "bridges", len(cfg.Bridges))
			defer onHangup(func() { _, _ = a.Changes().Reload(status.BySignal) })() // which logs what becomes of it
			return a.Run(c.Context())
		},
	}
	filesFlag(c, &files)
	c.Flags().BoolVar(&simulate, "simulate", false, "simulate every bus, keep the data in a temporary directory and open no bridge: runs anywhere")
	c.Flags().StringVar(&lines, "line-history", "", "have simulated GPIO lines start at the levels that `FILE` ends with, and add every change to it")
	c.Flags().BoolVarP(&verbose, "verbose", "v", false, "log what is of use only when looking for a fault")
	return c
}

// onHangup calls f at every SIGHUP until stop.
func onHangup(f func()) (stop func()) {
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	var work sync.WaitGroup
	work.Go(func() {
		for range hangups {
			f()
		}
	})
	return func() {
		signal.Stop(hangups)
		close(hangups)
		work.Wait()
	}
}

func filesFlag(c *cobra.Command, files *[]string) {
	c.Flags().StringArrayVarP(files, "config", "c", []string{defaultConfig},
		"configuration `FILE`; given more than once, later files win")
}

func load(files []string) (*config.Config, error) {
	return config.Load(files, loadOptions())
}

func loadOptions() config.Options {
	return config.Options{
		Drivers: chips.Drivers(), Outputs: outputs.Drivers(), Hostname: os.Hostname, Getenv: os.LookupEnv,
	}
}
