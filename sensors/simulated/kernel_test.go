package simulated_test

import (
	"context"
	"slices"
	"testing"

	"holdfast/sensors"
	"holdfast/sensors/bus"
	"holdfast/sensors/chips"
	"holdfast/sensors/simulated"
)

// A configuration for drivers over the kernel runs on a machine that has none of their devices.
func TestPopulateMakesWhatTheKernelWouldHave(t *testing.T) {
	pi := simulated.New(simulated.Options{})
	all := chips.Drivers()
	for _, c := range []sensors.Config{
		{Name: "a", Driver: "iio", Options: map[string]any{"device": "bme680"}},
		{Name: "b", Driver: "iio", Options: map[string]any{"device": "sht3x", "channels": []string{"humidity"}}},
		{Name: "c", Driver: "hwmon", Options: map[string]any{"device": "ina219"}},
		{Name: "d", Driver: "w1", Options: map[string]any{"ids": []string{"28-01", "10-02"}}},
		{Name: "e", Driver: "system", Options: map[string]any{"path": "/"}},
		{Name: "f", Driver: "thermal", Options: map[string]any{}},
	} {
		c.Bus = "simulated"
		for range 2 { // a second one of the same device
			if err := pi.Populate(all, c); err != nil {
				t.Fatal(err)
			}
		}
		d := all[slices.IndexFunc(all, func(d sensors.Driver) bool { return d.Name == c.Driver })]
		s, err := d.Open(context.Background(), c, bus.NewSet(pi))
		if err != nil {
			t.Errorf("%s: %v", c.Driver, err)
			continue
		}
		if m, err := sensors.SenseWait(context.Background(), s); err != nil || len(m) == 0 {
			t.Errorf("%s: got %v, %v", c.Driver, m, err)
		}
	}
}
