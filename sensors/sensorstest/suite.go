// Package sensorstest is the suite that every driver passes: on a simulated Pi, with the faults that
// real hardware shows.
//
// It promises nothing about values: that they are right is for each driver's own test to show.
package sensorstest

import (
	"context"
	"errors"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/sensors"
	"holdfast/sensors/bus"
	"holdfast/sensors/simulated"
)

// Test runs the suite for one driver, configured as c on a simulated bus.
func Test(t *testing.T, d sensors.Driver, c sensors.Config) {
	c.Driver, c.Bus = d.Name, "simulated"
	if len(d.Addresses) > 0 {
		c.Address = d.Addresses[0]
	}
	options := map[string]any{}
	for _, o := range d.Options {
		if o.Default != nil {
			options[o.Name] = o.Default
		}
	}
	for name, v := range c.Options {
		options[name] = v
	}
	c.Options = options
	s := suite{d, c}
	t.Run("table", s.table)
	t.Run("readings", s.readings)
	if d.Bus == sensors.BusI2C {
		t.Run("absent", s.absent)
		t.Run("unplugged", s.unplugged)
		t.Run("deadline", s.deadline)
	}
}

type suite struct {
	driver sensors.Driver
	config sensors.Config
}

// table checks the driver's row.
func (s suite) table(t *testing.T) {
	d := s.driver
	if d.Doc == "" || d.Timeout <= 0 || len(d.Quantities) == 0 || (d.Bus == sensors.BusI2C) != (len(d.Addresses) > 0) {
		t.Errorf("incomplete: %+v", d)
	}
	common := map[string]bool{"name": true, "driver": true, "bus": true, "address": true, "every": true, "timeout": true}
	for _, o := range d.Options {
		if common[o.Name] {
			t.Errorf("option %s hides a common key", o.Name)
		}
		common[o.Name] = true
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
		}
		if !ok || o.Doc == "" || o.Required && o.Default != nil {
			t.Errorf("option %+v", o)
		}
	}
}

func (s suite) open(t *testing.T, pi *simulated.Pi) (sensors.Sensor, error) {
	buses := bus.NewSet(pi)
	t.Cleanup(func() { buses.Close() })
	ctx, cancel := context.WithTimeout(context.Background(), s.driver.Timeout)
	defer cancel()
	return s.driver.Open(ctx, s.config, buses)
}

func (s suite) sense(t *testing.T, dev sensors.Sensor) ([]sensors.Measurement, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), s.driver.Timeout)
	defer cancel()
	m, err := dev.Sense(ctx)
	if err != nil && len(m) > 0 {
		t.Errorf("measurements beside the error %v: %v", err, m)
	}
	return m, err
}

// check checks one set of measurements against the table.
func (s suite) check(t *testing.T, m []sensors.Measurement) {
	t.Helper()
	seen := map[string]bool{}
	for _, v := range m {
		known := false
		for _, q := range s.driver.Quantities {
			known = known || q == sensors.Quantity{Name: v.Quantity, Unit: v.Unit}
		}
		if !known || seen[v.Quantity] || math.IsNaN(v.Value) || math.IsInf(v.Value, 0) {
			t.Errorf("got %+v, want one each of %v", v, s.driver.Quantities)
		}
		seen[v.Quantity] = true
	}
	if len(m) == 0 {
		t.Error("no measurement")
	}
}

func (s suite) readings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dev, err := s.open(t, simulated.New(simulated.Options{}))
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			m, err := s.sense(t, dev)
			if err != nil {
				t.Fatal(err)
			}
			s.check(t, m)
			time.Sleep(time.Minute)
		}
		if err := dev.Close(); err != nil {
			t.Error(err)
		}
	})
}

func (s suite) absent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pi := simulated.New(simulated.Options{})
		pi.Bus("simulated").Chip(s.config.Address).Nack(true)
		if _, err := s.open(t, pi); !errors.Is(err, bus.ErrAbsent) {
			t.Errorf("open: got %v, want %v", err, bus.ErrAbsent)
		}
	})
}

// unplugged checks that a chip that comes back is not read as if nothing had happened.
func (s suite) unplugged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pi := simulated.New(simulated.Options{})
		chip := pi.Bus("simulated").Chip(s.config.Address)
		dev, err := s.open(t, pi)
		if err != nil {
			t.Fatal(err)
		}
		before, err := s.sense(t, dev)
		if err != nil {
			t.Fatal(err)
		}
		chip.Unplug()
		if _, err := s.sense(t, dev); !errors.Is(err, bus.ErrAbsent) {
			t.Errorf("unplugged: got %v, want %v", err, bus.ErrAbsent)
		}
		chip.Replug()
		compare := func(m []sensors.Measurement) {
			t.Helper()
			for i := range m {
				if math.Abs(m[i].Value-before[i].Value) > 0.01*math.Abs(before[i].Value) {
					t.Errorf("after the replug %+v, before %+v", m[i], before[i])
				}
			}
		}
		// The old device may refuse, but must not return something else.
		if m, err := s.sense(t, dev); err == nil {
			compare(m)
		}
		dev.Close()
		if dev, err = s.open(t, pi); err != nil {
			t.Fatal(err)
		}
		m, err := s.sense(t, dev)
		if err != nil {
			t.Fatal(err)
		}
		compare(m)
	})
}

// deadline checks that a driver whose time is over makes no more transfers.
func (s suite) deadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dev, err := s.open(t, simulated.New(simulated.Options{}))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if _, err := dev.Sense(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want %v", err, context.Canceled)
		}
	})
}
