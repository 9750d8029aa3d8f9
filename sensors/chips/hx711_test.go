package chips_test

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

func TestHX711Inputs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for input, signal := range map[string]float64{"A128": -3.5, "A64": 7.5, "B32": -15} {
			pi := simulated.New(simulated.Options{})
			chip, err := pi.Wire("hx711", map[string]int{"clock": 5, "data": 6})
			if err != nil {
				t.Fatal(err)
			}
			options := map[string]any{"clock": int64(5), "data": int64(6), "input": input}
			s, err := open(t, "hx711", pi, options)
			if err != nil {
				t.Fatal(err)
			}
			chip.Set("bridge", signal)
			for range 3 { // the second comes after a restart in between, with another gain at first
				if got := patiently(t, s); math.Abs(got-signal) > 1e-5 {
					t.Errorf("%s: got %v, want %v", input, got, signal)
				}
				chip.Fault(simulated.PowerCycle)
				time.Sleep(time.Minute)
			}
			chip.Set("bridge", 3*signal)
			if m, err := sensors.SenseWait(context.Background(), s); !errors.Is(err, sensors.ErrPermanent) {
				t.Errorf("%s, beyond the range: got %v, %v", input, m, err)
			}
			s.Close()
		}
	})
}

// slowOutput is a clock line that the kernel serves too late.
type slowOutput struct {
	bus.Output
	every int
	n     *int
}

func (o slowOutput) SetValue(v int) error {
	if *o.n++; *o.n%o.every == 0 {
		time.Sleep(70 * time.Microsecond)
	}
	return o.Output.SetValue(v)
}

type busyPi struct {
	*simulated.Pi
	every int
	n     int
}

func (p *busyPi) Output(o bus.LineOptions, active bool) (bus.Output, error) {
	out, err := p.Pi.Output(o, active)
	return slowOutput{out, p.every, &p.n}, err
}

// TestHX711OnABusyMachine: a clock that was high for too long restarts the chip in the middle of a
// reading; what is read then is no reading.
func TestHX711OnABusyMachine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, every := range []int{401, 2} { // now and then, and always
			pi := &busyPi{Pi: simulated.New(simulated.Options{}), every: every}
			chip, err := pi.Wire("hx711", map[string]int{"clock": 5, "data": 6})
			if err != nil {
				t.Fatal(err)
			}
			s, err := open(t, "hx711", pi, map[string]any{"clock": int64(5), "data": int64(6), "input": "A64"})
			if err != nil {
				t.Fatal(err)
			}
			chip.Set("bridge", 1.25)
			for range 20 {
				m, err := sensors.SenseWait(context.Background(), s)
				if every == 2 {
					if sensors.ClassOf(err) != sensors.Temporary {
						t.Errorf("got %v, %v, want an error of class temporary", m, err)
					}
					break
				}
				if err != nil || math.Abs(m[0].Value-1.25) > 1e-5 {
					t.Errorf("got %v, %v, want 1.25", m, err)
				}
			}
			s.Close()
		}
	})
}
