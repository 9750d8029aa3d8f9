package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"holdfast/gateway/config"
	"holdfast/gateway/firstconfig"
	"holdfast/sensors/bus"
	"holdfast/sensors/chips"
	"holdfast/sensors/scan"
)

const (
	defaultConfig = "/etc/holdfast/holdfast.yaml"
	shippedConfig = "/usr/share/holdfast/holdfast.yaml" // what the package puts there
)

func initCommand() *cobra.Command {
	var a firstconfig.Answers
	var out string
	var yes, force bool
	c := &cobra.Command{
		Use:   "init",
		Short: "Write this device's first configuration: what is connected, and where readings go",
		Long: `Init asks for what it has to know, or takes it from flags, scans the buses as 'holdfast scan' does, and
writes a configuration with comments, its JSON Schema for editors beside it, and the password in a file of
its own. It is checked before it is written. Without a terminal, or with --yes, nothing is asked, and the
password for --user is the first line of stdin.`,
		Example: `  holdfast init
  holdfast init --upstream mqtt://broker.example:1883 --user greenhouse-1 --yes < password
  holdfast init --simulate --out trial.yaml --data-dir ./trial`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, w := c.Context(), c.OutOrStdout()
			var x *terminal
			if !yes {
				x = openTerminal(c.ErrOrStderr())
			}
			if err := answer(ctx, c, x, &a); err != nil {
				return err
			}
			if !a.Simulate {
				var err error
				if a.Found, err = scan.Run(ctx, bus.NewSet(nil), chips.Drivers()); err != nil {
					return err
				}
				fmt.Fprintln(w, strings.TrimSuffix(a.Found.Table(), "\n"))
			}
			var cfg *config.Config
			// The package's own file, unchanged, is kept as .old, too, but needs no --force.
			written, err := firstconfig.Write(out, a, force || sameContent(out, shippedConfig), func(file string) (err error) {
				if cfg, err = check([]string{file}); err != nil {
					return usageError{errors.New(strings.ReplaceAll(err.Error(), filepath.Dir(file)+"/", ""))}
				}
				return nil
			})
			for _, name := range written {
				fmt.Fprintln(w, "wrote", name)
			}
			if err != nil {
				return err
			}
			fmt.Fprintf(w, "ok: device %s, %d sensors, %d bridges\n", cfg.Device.ID, len(cfg.Sensors), len(cfg.Bridges))
			nextSteps(w, out, cfg)
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&a.Device, "device", "", "the device's `NAME` in topics; the host name if it is not given")
	f.StringVar(&a.Upstream, "upstream", "", "the broker that readings go to, `URL` such as mqtt://broker.example:1883")
	f.StringVar(&a.User, "user", "", "`NAME` to log in there with")
	f.StringVar(&a.DataDir, "data-dir", "", "`DIR` for everything durable; /var/lib/holdfast if it is not given")
	f.BoolVar(&a.Simulate, "simulate", false, "some simulated chips instead of what is connected: runs anywhere")
	f.StringVarP(&out, "out", "o", defaultConfig, "`FILE` to write")
	f.BoolVarP(&yes, "yes", "y", false, "ask nothing")
	f.BoolVar(&force, "force", false, "replace a file that is there, and keep it as FILE.old")
	return c
}

// sameContent reports whether both files exist and hold the same bytes.
func sameContent(one, other string) bool {
	a, err := os.ReadFile(one)
	b, err2 := os.ReadFile(other)
	return err == nil && err2 == nil && bytes.Equal(a, b)
}

// answer asks on x for the answers that the flags have not given. x is nil with --yes, and without a terminal.
func answer(ctx context.Context, c *cobra.Command, x *terminal, a *firstconfig.Answers) error {
	host, _ := os.Hostname()
	for _, q := range []struct {
		flag, question, def string
		to                  *string
	}{
		{"device", "Name of this device in topics", host, &a.Device},
		{"upstream", "Broker that readings go to, such as mqtt://broker.example:1883 (none yet)", "", &a.Upstream},
		{"user", "User there (none)", "", &a.User},
	} {
		if x != nil && !c.Flags().Changed(q.flag) && (q.flag != "user" || a.Upstream != "") {
			if q.def != "" {
				q.question += " [" + q.def + "]"
			}
			line, err := x.ask(ctx, q.question+": ")
			if err != nil {
				return err
			}
			*q.to = strings.TrimSpace(string(line))
		}
		*q.to = cmp.Or(*q.to, q.def)
	}
	switch {
	case a.User == "":
		return nil
	case a.Upstream == "":
		return usageError{errors.New("--user is a user of the upstream: give that as well, with --upstream")}
	case x != nil:
		var err error
		a.Password, err = x.password(ctx)
		return err
	}
	data, err := readInput("-")
	if err != nil {
		return err
	}
	a.Password, err = someText(firstLine(data))
	return err
}

// nextSteps returns the next commands for a new configuration.
func nextSteps(w io.Writer, file string, cfg *config.Config) {
	if len(cfg.Sensors) == 1 {
		fmt.Fprintln(w, "No chip was recognised: holdfast doctor says which buses are switched on, holdfast sensors how to wire.")
	}
	fmt.Fprintf(w, "Look at it, and take a reading:\n  holdfast read %s -c %s\n", cfg.Sensors[0].Name, file)
	fmt.Fprintln(w, "Then start it:")
	_, systemd := os.Stat("/run/systemd/system")
	if abs, err := filepath.Abs(file); err == nil && abs == defaultConfig && systemd == nil {
		fmt.Fprintln(w, "  sudo systemctl enable holdfast && sudo systemctl restart holdfast")
		return
	}
	fmt.Fprintf(w, "  holdfast run -c %s\n", file)
}
