package outputs_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"holdfast/sensors/bus"
	"holdfast/sensors/expander"
	"holdfast/sensors/outputs"
	"holdfast/sensors/simulated"
)

// TestExpanderPins shows every level on the way: that of the start comes first, and a pin that no output
// has opened never changes.
func TestExpanderPins(t *testing.T) {
	for _, name := range []string{"mcp23017", "tca9555", "pcf8574"} {
		for _, activeLow := range []bool{false, true} {
			for _, first := range []float64{0, 1} {
				synctest.Test(t, func(t *testing.T) {
					pi := simulated.New(simulated.Options{})
					chip, err := pi.Place(name, "simulated", 0x20)
					if err != nil {
						t.Fatal(err)
					}
					for _, in := range chip.Model.Inputs {
						chip.Set(in.Name, 1)
					}
					set := bus.NewSet(pi)
					pin := func(n int64, value float64) outputs.Device {
						t.Helper()
						d, err := open(set, outputs.Config{Driver: name, Bus: "simulated", Address: 0x20,
							Options: options(name, map[string]any{"pin": n, "active_low": activeLow})}, value)
						if err != nil {
							t.Fatal(err)
						}
						return d
					}
					relay, other := pin(3, first), pin(5, 0)
					want := map[int][]float64{3: {first}, 5: {0}}
					for _, v := range []float64{1 - first, first, first} {
						if err := relay.Set(context.Background(), v); err != nil {
							t.Fatal(err)
						}
						if got, err := relay.Get(context.Background()); got != v || err != nil {
							t.Errorf("got %v, %v, want %v", got, err, v)
						}
						want[3] = append(want[3], v)
					}
					if got, err := other.Get(context.Background()); got != 0 || err != nil {
						t.Errorf("the other: got %v, %v", got, err)
					}
					check(t, name, activeLow, chip.Pins(), want)

					chip.Fault(simulated.PowerCycle)
					_, err = relay.Get(context.Background())
					if on := first; (name != "pcf8574" || (on != 0) == activeLow) && !errors.Is(err, expander.ErrRestarted) {
						t.Errorf("after a power cycle: got %v, want %v", err, expander.ErrRestarted)
					}
					before := len(chip.Pins())
					relay = pin(3, 0)
					for _, p := range chip.Pins()[before:] { // not even with what it was before
						if p.Number == 3 && p.Driven && p.High != activeLow {
							t.Errorf("after a power cycle: %+v", p)
						}
					}
					chip.Fault(simulated.Unplugged)
					if err := relay.Set(context.Background(), 1); !errors.Is(err, bus.ErrAbsent) {
						t.Errorf("unplugged: %v", err)
					}
				})
			}
		}
	}
}

// check compares what was driven with what was wanted, without repetitions.
func check(t *testing.T, name string, activeLow bool, history []simulated.Pin, want map[int][]float64) {
	t.Helper()
	got := map[int][]bool{}
	for _, p := range history {
		if _, opened := want[p.Number]; !opened {
			t.Errorf("%s: pin %d was driven, and no output has opened it", name, p.Number)
		}
		high := p.High
		if name == "pcf8574" {
			high = !p.Driven // weakly
		} else if !p.Driven {
			continue
		}
		got[p.Number] = append(got[p.Number], high)
	}
	for n, values := range want {
		var levels []bool
		if name == "pcf8574" {
			levels = []bool{true} // as after power-on, where it is no change
		}
		for _, v := range values {
			if high := (v != 0) != activeLow; len(levels) == 0 || levels[len(levels)-1] != high {
				levels = append(levels, high)
			}
		}
		if name == "pcf8574" {
			levels = levels[1:]
		}
		if len(levels) != len(got[n]) {
			t.Errorf("%s, active low %v, pin %d: got %v, want %v", name, activeLow, n, got[n], levels)
			continue
		}
		for i := range levels {
			if levels[i] != got[n][i] {
				t.Errorf("%s, active low %v, pin %d: got %v, want %v", name, activeLow, n, got[n], levels)
				break
			}
		}
	}
}
