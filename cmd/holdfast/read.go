package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"holdfast/gateway/config"
	"holdfast/sensors"
	"holdfast/sensors/bus"
	"holdfast/sensors/chips"
	"holdfast/sensors/simulated"
)

// readFlags say which sensor is to be read.
type readFlags struct {
	files           []string
	driver, bus     string
	address         string
	options         map[string]string
	wait            time.Duration
	simulate, bytes bool
}

func readCommand() *cobra.Command {
	var f readFlags
	c := &cobra.Command{
		Use:   "read NAME -c FILE | read --driver DRIVER --bus BUS",
		Short: "Take one reading of a configured sensor, or of any chip",
		Example: "  holdfast read air -c device.yaml\n" +
			"  holdfast read --driver bme280 --bus i2c-1 --address 0x76 -v\n" +
			"  holdfast read --driver ads1115 --bus i2c-1 --option channel=2 --simulate",
		RunE: func(c *cobra.Command, args []string) error {
			sensor, err := f.sensor(args)
			if err != nil {
				return usageError{err}
			}
			return f.read(c, sensor)
		},
	}
	filesFlag(c, &f.files)
	c.Flags().StringVar(&f.driver, "driver", "", "driver, instead of a configured sensor; see 'holdfast sensors'")
	c.Flags().StringVar(&f.bus, "bus", "", "where the chip is, such as i2c-1, spi-0.0 or simulated")
	c.Flags().StringVar(&f.address, "address", "", "I2C address, if it is not the driver's first")
	c.Flags().StringToStringVar(&f.options, "option", nil, "option of the driver, as `KEY=VALUE`; may be given several times")
	c.Flags().DurationVar(&f.wait, "wait", time.Minute, "how long to wait for a chip that warms up")
	c.Flags().BoolVar(&f.simulate, "simulate", false, "simulate the bus")
	c.Flags().BoolVarP(&f.bytes, "verbose", "v", false, "show the bytes on the bus")
	return c
}

// sensor finds the sensor in the configuration, or makes one of the flags.
func (f *readFlags) sensor(args []string) (*sensors.Config, error) {
	switch {
	case f.driver == "" && len(args) == 1:
		cfg, err := load(f.files)
		if err != nil {
			return nil, err
		}
		var known []string
		for i := range cfg.Sensors {
			if cfg.Sensors[i].Name == args[0] {
				return &cfg.Sensors[i], nil
			}
			known = append(known, cfg.Sensors[i].Name)
		}
		return nil, fmt.Errorf("no sensor %q in the configuration: it has %q", args[0], known)
	case f.driver != "" && len(args) == 0:
		return f.made()
	}
	return nil, errors.New("want the name of one configured sensor, or --driver: see 'holdfast read --help'")
}

// made puts the flags through the same checks as a configuration.
func (f *readFlags) made() (*sensors.Config, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "sensors:\n  - name: sensor\n    driver: %s\n", quoted(f.driver))
	if f.bus != "" {
		fmt.Fprintf(&b, "    bus: %s\n", quoted(f.bus))
	}
	if f.address != "" {
		fmt.Fprintf(&b, "    address: %s\n", quoted(f.address))
	}
	if d, err := findDriver(f.driver); err == nil && d.Every > 0 {
		fmt.Fprintf(&b, "    every: %s\n", d.Every)
	}
	for _, name := range slices.Sorted(maps.Keys(f.options)) {
		fmt.Fprintf(&b, "    %s: %s\n", quoted(name), f.option(name))
	}
	dir, err := os.MkdirTemp("", "holdfast-read-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "flags")
	if err := os.WriteFile(file, []byte(b.String()), 0o600); err != nil {
		return nil, err
	}
	cfg, err := load([]string{file})
	var mistakes config.Errors
	if errors.As(err, &mistakes) {
		var texts []string
		for _, m := range mistakes {
			texts = append(texts, strings.TrimPrefix(m.Key, "sensors[sensor].")+": "+m.Text)
		}
		return nil, errors.New(strings.Join(texts, "\n"))
	}
	if err != nil {
		return nil, err
	}
	return &cfg.Sensors[0], nil
}

// quoted is text as YAML, unless it is a number.
func quoted(s string) string {
	if _, err := strconv.ParseInt(s, 0, 64); err == nil {
		return s
	}
	return strconv.Quote(s)
}

// option is the value of a driver's option as YAML of the kind that the driver wants.
func (f *readFlags) option(name string) string {
	v := f.options[name]
	if d, err := findDriver(f.driver); err == nil {
		for _, o := range d.Options {
			switch {
			case o.Name != name:
			case o.Kind == sensors.OptionString || o.Kind == sensors.OptionDuration:
				return strconv.Quote(v)
			case o.Kind == sensors.OptionStrings:
				return "[" + strconv.Quote(v) + "]"
			case o.Kind == sensors.OptionInts:
				return "[" + v + "]"
			default:
				return v
			}
		}
	}
	return strconv.Quote(v)
}

func (f *readFlags) read(c *cobra.Command, sensor *sensors.Config) error {
	d, err := findDriver(sensor.Driver)
	if err != nil {
		return err
	}
	buses := bus.NewSet(nil)
	if f.simulate || bus.IsSimulated(sensor.Bus) {
		pi := simulated.New(simulated.Options{})
		if err := pi.Populate(chips.Drivers(), *sensor); err != nil {
			return err
		}
		buses = bus.NewSimulatedSet(pi)
	}
	defer buses.Close()
	out := c.OutOrStdout()
	if f.bytes {
		begun := time.Now()
		buses.Trace = func(t bus.Transfer) { fmt.Fprintln(out, transfer(time.Since(begun), t)) }
	}
	ctx, cancel := context.WithTimeout(c.Context(), f.wait)
	defer cancel()
	readings, err := sensors.ReadOnce(ctx, *sensor, d, buses)
	if err != nil {
		return fmt.Errorf("%s: %s: %w", sensor.Driver, sensors.ClassOf(err), err)
	}
	for _, r := range readings {
		fmt.Fprintln(out, strings.TrimSpace(fmt.Sprintf("%-14s %s %s", r.Quantity, decimal(r.Value), r.Unit)))
	}
	return nil
}

// transfer is one line of the bytes on a bus: what was written, then what was read.
func transfer(at time.Duration, t bus.Transfer) string {
	line := fmt.Sprintf("%8.1f ms  %s", float64(at.Microseconds())/1e3, t.Bus)
	if t.Address != 0 {
		line += fmt.Sprintf(" %#02x", t.Address)
	}
	if len(t.W) > 0 {
		line += fmt.Sprintf("  > % x", t.W)
	}
	switch {
	case t.Err != nil:
		line += "  ! " + t.Err.Error()
	case len(t.R) > 0:
		line += fmt.Sprintf("  < % x", t.R)
	}
	return line
}
