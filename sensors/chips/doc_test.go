// The tests of this package speak a small language. Every driver passes sensorstest (TestEveryDriver), with
// a model from package simulated for its chip, or with fixtures of files for a driver of the kernel
// (sensorstest/cases.go). What only one driver can show is in CHIP_test.go, and is written with:
//
//	pi := simulated.New(simulated.Options{})   a machine without hardware
//	chip := place(t, pi, "vl53l0x", "simulated", 0x29)
//	                                           a model on a bus of it; 0 is the driver's own address
//	chip.Set("signal", 0.15)                   what is physically there, by the names of the model's inputs
//	chip.Fault(simulated.NACK)                 what goes wrong from now on
//	put(pi.Files(), dir, "sht3x", values)      a device of the kernel: its name and files in /sys
//	s, err := open(t, "vl53l0x", pi, options)  a driver over it, with its defaults and these options
//	s, err := outside(t, "exec", options)      a driver that needs no machine, with its options checked
//	sense(t, s)                                one reading, by quantity; an error ends the test
//	patiently(t, s)                            one reading of one quantity, from a chip that needs time
//
// Tests of formulas and checksums are in package chips itself, each with the section of the data sheet that
// has the worked example. Time is fake in a synctest bubble: a conversion takes as long as the model says.
package chips_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"holdfast/sensors"
	"holdfast/sensors/bus"
	"holdfast/sensors/chips"
	"holdfast/sensors/simulated"
)

func place(t *testing.T, pi *simulated.Pi, model, bus string, addr uint16) *simulated.Chip {
	t.Helper()
	c, err := pi.Place(model, bus, addr)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func driver(t *testing.T, name string) sensors.Driver {
	t.Helper()
	all := chips.Drivers()
	i := slices.IndexFunc(all, func(d sensors.Driver) bool { return d.Name == name })
	if i < 0 {
		t.Fatalf("no driver %s", name)
	}
	return all[i]
}

// config is a sensor with the driver's defaults.
func config(name, driver, bus string, every time.Duration) sensors.Config {
	c := sensors.Config{Name: name, Driver: driver, Bus: bus, Every: every, Options: map[string]any{}}
	for _, d := range chips.Drivers() {
		if d.Name == driver {
			c.Options = d.Defaults()
		}
	}
	return c
}

// open opens a sensor with the driver's defaults and the options given.
func open(t *testing.T, name string, sim bus.Simulator, options map[string]any) (sensors.Sensor, error) {
	t.Helper()
	d := driver(t, name)
	c := config("s", name, "simulated", 0)
	if len(d.Addresses) > 0 {
		c.Address = d.Addresses[0]
	}
	for k, v := range options {
		c.Options[k] = v
	}
	return d.Open(context.Background(), c, bus.NewSet(sim))
}

func sense(t *testing.T, s sensors.Sensor) map[string]float64 {
	t.Helper()
	m, err := s.Sense(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]float64{}
	for _, v := range m {
		values[v.Quantity] = v.Value
	}
	return values
}

// outside opens a driver that needs no simulated machine.
func outside(t *testing.T, name string, options map[string]any) (sensors.Sensor, error) {
	t.Helper()
	c := config("s", name, "", time.Second)
	for k, v := range options {
		c.Options[k] = v
	}
	d := driver(t, name)
	if d.Check != nil {
		if err := d.Check(c); err != nil {
			return nil, err
		}
	}
	return d.Open(context.Background(), c, bus.NewSet(nil))
}

// put makes the files of a device.
func put(files *simulated.Sysfs, dir, name string, values map[string]string) {
	files.Set(dir+"/name", name)
	for file, text := range values {
		files.Set(dir+"/"+file, text)
	}
}

func patiently(t *testing.T, s sensors.Sensor) float64 {
	t.Helper()
	m, err := sensors.SenseWait(context.Background(), s)
	if err != nil {
		t.Fatal(err)
	}
	return m[0].Value
}
