// Package sensorstest is the suite that every driver passes: on a simulated Pi, with the faults that
// real hardware shows.
//
// It promises, for every driver of the table: values are right across the chip's range, also negative
// ones and at both ends, and also while the chip's clock is slow; a chip that does not answer, hangs,
// stays busy, is another one, sends wrong checksums, is unplugged and back, or loses its power in the
// middle of a reading, gives an error of the right class and never a wrong value; a reading that is
// cancelled ends at once; and nothing is left behind. That formulas agree with the data sheet's worked
// examples is for each driver's own test to show.
package sensorstest

import (
	"context"
	"errors"
	"math"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/sensors"
	"holdfast/sensors/bus"
	"holdfast/sensors/simulated"
)

// All runs the suite for every driver of a table.
func All(t *testing.T, drivers []sensors.Driver) {
	var names []string
	for _, d := range drivers {
		names = append(names, d.Name)
		t.Run(d.Name, func(t *testing.T) { Test(t, d) })
	}
	if !slices.IsSorted(names) || len(slices.Compact(slices.Clone(names))) != len(names) {
		t.Errorf("the table is not sorted, or has a name twice: %v", names)
	}
	for name := range cases {
		if !slices.Contains(names, name) {
			t.Errorf("there are cases for %s, which is no driver", name)
		}
	}
}

// Test runs the suite for one driver.
func Test(t *testing.T, d sensors.Driver) {
	t.Run("row", func(t *testing.T) { row(t, d) })
	list := casesOf(d)
	if len(list) == 0 {
		t.Fatal("no model in package simulated has the driver's name, and sensorstest has no case for it")
	}
	for _, c := range list {
		name := c.Name
		if c.Kind != "" {
			name += " " + string(c.Kind)
		}
		t.Run(name, func(t *testing.T) {
			switch {
			case c.Own != "":
			case c.Fixtures != nil:
				fixtures(t, d, c)
			default:
				newChipSuite(t, d, c).run(t)
			}
		})
	}
}

// row checks that the driver's row is complete.
func row(t *testing.T, d sensors.Driver) {
	if d.Doc == "" || d.Chip == "" || d.Datasheet == "" || d.Timeout <= 0 || d.Open == nil || len(d.Buses) > 0 && d.Wiring == "" {
		t.Errorf("the row is incomplete: %+v", d)
	}
	if d.Has(sensors.BusI2C) != (len(d.Addresses) > 0) {
		t.Errorf("addresses %v with buses %v", d.Addresses, d.Buses)
	}
	if len(d.Quantities) == 0 && d.QuantitiesOf == nil {
		t.Error("it measures nothing")
	}
	for _, q := range d.Quantities {
		if q.Name == "" || q.Min > q.Max {
			t.Errorf("quantity %+v", q)
		}
	}
	seen := map[string]bool{}
	for _, common := range []string{"name", "driver", "bus", "address", "every", "timeout", "quantities", "calibrate", "limits", "filter", "round", "report"} {
		seen[common] = true
	}
	for _, o := range d.Options {
		if seen[o.Name] {
			t.Errorf("option %s is there twice, or hides a common key", o.Name)
		}
		seen[o.Name] = true
		ok := o.Default == nil
		switch o.Default.(type) {
		case string:
			ok = o.Kind == sensors.OptionString
		case int64:
			ok = o.Kind == sensors.OptionInt
		case float64:
			ok = o.Kind == sensors.OptionFloat
		case bool:
			ok = o.Kind == sensors.OptionBool
		case time.Duration:
			ok = o.Kind == sensors.OptionDuration
		case []string:
			ok = o.Kind == sensors.OptionStrings
		case []int64:
			ok = o.Kind == sensors.OptionInts
		case map[string]string:
			ok = o.Kind == sensors.OptionMap
		}
		if !ok || o.Doc == "" || o.Required && o.Default != nil {
			t.Errorf("option %+v", o)
		}
	}
}

// configure fills in the defaults.
func configure(d sensors.Driver, busName string, options ...map[string]any) sensors.Config {
	c := sensors.Config{Name: "s", Driver: d.Name, Bus: busName, Every: time.Second, Timeout: d.Timeout, Options: d.Defaults()}
	if d.Kind(busName) == sensors.BusI2C {
		c.Address = d.Addresses[0]
	}
	for _, more := range options {
		for name, v := range more {
			c.Options[name] = v
		}
	}
	return c
}

// bench is a driver over one simulated machine, inside of a bubble.
type bench struct {
	t      *testing.T
	driver sensors.Driver
	config sensors.Config
	pi     *simulated.Pi
	buses  *bus.Set
	dev    sensors.Sensor
	waited time.Duration // for chips that were not ready yet
}

func newBench(t *testing.T, d sensors.Driver, c sensors.Config) *bench {
	pi := simulated.New(simulated.Options{})
	return &bench{t: t, driver: d, config: c, pi: pi, buses: bus.NewSet(pi)}
}

// read takes a reading, with a device that is opened if there is none and dropped after an error.
func (b *bench) read(ctx context.Context) (map[string]float64, error) {
	b.t.Helper()
	return b.call(ctx, sensors.SenseWait)
}

// once is read, but for a chip that is not ready yet: that is an error, and the device is kept.
func (b *bench) once(ctx context.Context) (map[string]float64, error) {
	b.t.Helper()
	return b.call(ctx, func(ctx context.Context, s sensors.Sensor) ([]sensors.Measurement, error) { return s.Sense(ctx) })
}

func (b *bench) call(ctx context.Context, sense func(context.Context, sensors.Sensor) ([]sensors.Measurement, error)) (map[string]float64, error) {
	b.t.Helper()
	if b.dev == nil {
		dev, err := b.driver.Open(ctx, b.config, b.buses)
		if err != nil {
			return nil, err
		}
		b.dev = dev
	}
	m, err := sense(ctx, b.dev)
	if err != nil {
		if !errors.As(err, new(*sensors.NotYet)) {
			b.close()
		}
		if len(m) > 0 {
			b.t.Errorf("measurements beside the error %v: %v", err, m)
		}
		return nil, err
	}
	return b.values(m), nil
}

// quantities are those of the row, or of the device that knows better.
func (b *bench) quantities() []sensors.Quantity {
	if m, ok := b.dev.(sensors.Measurer); ok {
		return m.Quantities()
	}
	return b.driver.Measures(b.config.Options)
}

// values checks measurements against the row.
func (b *bench) values(all []sensors.Measurement) map[string]float64 {
	b.t.Helper()
	quantities := b.quantities()
	v := map[string]float64{}
	for _, m := range all {
		known := slices.ContainsFunc(quantities, func(q sensors.Quantity) bool { return q.Name == m.Quantity && q.Unit == m.Unit })
		if _, twice := v[m.Quantity]; twice || !known || math.IsNaN(m.Value) || math.IsInf(m.Value, 0) {
			b.t.Errorf("got %+v, want one each of %v", m, quantities)
		}
		v[m.Quantity] = m.Value
	}
	if len(v) == 0 {
		b.t.Error("no measurement")
	}
	return v
}

// patience is how often a chip may say that it is not ready yet. It has to give up by itself before.
const patience = 100

// attempt is what supervision does for a reading: every call has the driver's deadline, and a chip that
// is not ready yet is asked again.
func (b *bench) attempt() (map[string]float64, error) {
	b.t.Helper()
	for range patience {
		ctx, cancel := context.WithTimeout(context.Background(), b.driver.Timeout)
		v, err := b.once(ctx)
		late := ctx.Err() != nil
		cancel()
		var later *sensors.NotYet
		if !errors.As(err, &later) {
			return v, err
		}
		if late { // supervision has given it up
			b.close()
			return nil, err
		}
		time.Sleep(later.After)
		b.waited += later.After
	}
	b.t.Errorf("not ready after %d questions: the driver has to give up", patience)
	return nil, errors.New("not ready")
}

func (b *bench) close() {
	if b.dev != nil {
		if err := b.dev.Close(); err != nil {
			b.t.Errorf("close: %v", err)
		}
		b.dev = nil
	}
}

// end closes everything. The bubble then fails if a goroutine is left.
func (b *bench) end() {
	b.close()
	if err := b.buses.Close(); err != nil {
		b.t.Errorf("close: %v", err)
	}
}

// fixtures runs a driver of the kernel.
func fixtures(t *testing.T, d sensors.Driver, c Case) {
	for _, f := range c.Fixtures {
		t.Run(f.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, d, configure(d, "simulated", c.Options, f.Options))
				defer b.end()
				for name, text := range f.Files {
					b.pi.Files().Set(name, text)
				}
				for offset, high := range f.Lines {
					b.pi.GPIO(offset).Set(high)
				}
				got, err := b.attempt()
				if f.Error != "" {
					if err == nil {
						err = b.beyond(got)
					}
					if err == nil || sensors.ClassOf(err) != f.Error {
						t.Errorf("got %v, %v, want an error of class %s", got, err, f.Error)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				for q, want := range f.Want {
					if v, ok := got[q]; !ok || math.Abs(v-want) > 1e-9*math.Max(1, math.Abs(want)) {
						t.Errorf("%s: got %v, want %v", q, got, want)
					}
				}
				unplugFiles(b, f)
			})
		})
	}
}

// unplugFiles makes the fixture's files unreadable, gone, and back.
func unplugFiles(b *bench, f Fixture) {
	var restore []func()
	for name := range f.Files {
		restore = append(restore, b.pi.Files().Remove(name))
		b.pi.Files().Func(name, func() (string, error) { return "", simulated.ErrIO })
	}
	if len(restore) == 0 {
		return
	}
	if got, err := b.attempt(); err == nil {
		b.t.Errorf("files that cannot be read: got %v", got)
	}
	for name := range f.Files {
		b.pi.Files().Remove(name)
	}
	if got, err := b.attempt(); sensors.ClassOf(err) != sensors.Absent {
		b.t.Errorf("no files: got %v, %v, want absent", got, err)
	}
	for _, back := range restore {
		back()
	}
	got, err := b.attempt()
	for q, want := range f.Want {
		if err != nil || math.Abs(got[q]-want) > 1e-9*math.Max(1, math.Abs(want)) {
			b.t.Errorf("files that are back: got %v, %v", got, err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if got, err := b.read(ctx); !errors.Is(err, context.Canceled) {
		b.t.Errorf("cancelled: got %v, %v", got, err)
	}
}

// beyond is the error that supervision makes of values outside of their range.
func (b *bench) beyond(values map[string]float64) error {
	for _, q := range b.quantities() {
		if v, ok := values[q.Name]; ok && (q.Min != 0 || q.Max != 0) && (v < q.Min || v > q.Max) {
			return sensors.OutOfRange(q.Name, v, q.Unit, q.Min, q.Max)
		}
	}
	return nil
}
