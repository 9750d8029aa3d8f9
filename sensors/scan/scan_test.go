package scan

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"holdfast/sensors"
	"holdfast/sensors/bus"
	"holdfast/sensors/chips"
	"holdfast/sensors/simulated"
)

// TestEveryChipIsFound: of every model on I2C, by its name or by an address that its driver has.
func TestEveryChipIsFound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pi, err := simulated.Everything(simulated.Options{})
		if err != nil {
			t.Fatal(err)
		}
		r, err := Run(context.Background(), bus.NewSimulatedSet(pi), chips.Drivers())
		if err != nil || len(r.Notes) > 0 {
			t.Fatal(err, r.Notes)
		}
		t.Log("\n" + r.Table())
		found := map[string]Found{}
		for _, f := range r.Found {
			found[fmt.Sprintf("%s %#02x", f.Bus, f.Address)] = f
		}
		for at, c := range pi.Connected() {
			name, _, _ := strings.Cut(at, " ")
			if bus.KindOf(name) != bus.I2CKind {
				if !slices.Contains(r.Ports, name) {
					t.Errorf("the port of %s is not listed: %s", c.Model.Name, at)
				}
				continue
			}
			f, ok := found[at]
			if !ok {
				t.Errorf("%s at %s is not found", c.Model.Name, at)
			} else if hasDriver(c.Model.Name) && !slices.Contains(f.Drivers, c.Model.Name) {
				t.Errorf("%s at %s: drivers are %v", c.Model.Name, at, f.Drivers)
			}
		}
		for _, name := range []string{"cpu", "ds18b20"} {
			if !slices.ContainsFunc(r.Found, func(f Found) bool { return slices.Contains(f.Drivers, name) }) {
				t.Errorf("%s is not found", name)
			}
		}
	})
}

func hasDriver(name string) bool {
	return slices.ContainsFunc(chips.Drivers(), func(d sensors.Driver) bool { return d.Name == name })
}

// TestNothingIsWritten: no chip that answers a bare read gets more than one byte.
func TestNothingIsWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pi, err := simulated.Everything(simulated.Options{})
		if err != nil {
			t.Fatal(err)
		}
		set := bus.NewSimulatedSet(pi)
		answered := map[string]bool{}
		set.Trace = func(x bus.Transfer) {
			at := fmt.Sprintf("%s %#02x", x.Bus, x.Address)
			if len(x.W) == 0 && x.Err == nil {
				answered[at] = true
			}
			if len(x.W) > 1 && answered[at] {
				t.Errorf("%s: sent % x", at, x.W)
			}
		}
		if _, err := Run(context.Background(), set, chips.Drivers()); err != nil {
			t.Fatal(err)
		}
		if len(answered) < 10 {
			t.Errorf("only %d chips answered", len(answered))
		}
	})
}

func TestAHungBusIsToldAndTheOthersAreScanned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pi := simulated.New(simulated.Options{})
		for _, name := range []string{"i2c-1", "i2c-2"} {
			if _, err := pi.Place("bme280", name, 0x76); err != nil {
				t.Fatal(err)
			}
		}
		pi.Chip("i2c-1", 0x76).Fault(simulated.Hang)
		r, err := Run(context.Background(), bus.NewSimulatedSet(pi), chips.Drivers())
		if err != nil {
			t.Fatal(err)
		}
		pi.Chip("i2c-1", 0x76).Fault(0)
		if len(r.Notes) != 1 || !strings.Contains(r.Notes[0], "i2c-1: stopped at 0x76") {
			t.Errorf("notes %q", r.Notes)
		}
		if !slices.ContainsFunc(r.Found, func(f Found) bool { return f.Bus == "i2c-2" && f.Chip == "BME280" }) {
			t.Errorf("found %+v", r.Found)
		}
	})
}
