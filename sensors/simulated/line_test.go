package simulated_test

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/sensors/bus"
	"holdfast/sensors/simulated"
)

func levels(l *simulated.Line) (s []bool) {
	for _, e := range l.History() {
		s = append(s, e.High)
	}
	return s
}

// A line that is requested as an output is at its first level at once, whatever is active.
func TestAnOutputStartsAtItsLevel(t *testing.T) {
	for _, activeLow := range []bool{false, true} {
		for _, active := range []bool{false, true} {
			pi := simulated.New(simulated.Options{})
			line := pi.GPIO(17)
			line.Set(true) // pulled up
			set := bus.NewSet(pi)
			out, err := set.Output("simulated", bus.LineOptions{Offset: 17, ActiveLow: activeLow}, active)
			if err != nil {
				t.Fatal(err)
			}
			want := []bool{true, active != activeLow}
			if got := levels(line); !slices.Equal(got, want) {
				t.Errorf("active %v, active low %v: levels %v, want %v", active, activeLow, got, want)
			}
			if v, err := out.Value(); err != nil || (v == 1) != active {
				t.Errorf("value %d, %v", v, err)
			}
			if _, err := set.Output("simulated", bus.LineOptions{Offset: 17}, false); !errors.Is(err, bus.ErrBusy) {
				t.Errorf("a second request: %v, want %v", err, bus.ErrBusy)
			}
			out.SetValue(0)
			out.Close()
			if line.High() != activeLow {
				t.Errorf("after the end: high %v", line.High())
			}
		}
	}
}

func TestEdgesAreNumberedAndTheOldestAreLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pi := simulated.New(simulated.Options{})
		var got []bus.Edge
		l, err := bus.NewSet(pi).Edges("simulated", bus.LineOptions{Offset: 4}, true, func(e bus.Edge) { got = append(got, e) })
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		line := pi.GPIO(4)
		line.Pulse(3, time.Millisecond)
		synctest.Wait()
		if len(got) != 6 || got[5].Seq != 6 || got[4].Rising == got[5].Rising || got[5].Time.Sub(got[3].Time) != time.Millisecond {
			t.Errorf("got %+v", got)
		}
		got = nil
		line.Stall()
		line.Pulse(1000, time.Millisecond)
		line.Resume()
		synctest.Wait()
		// 2000 edges, of which one may have been fetched as the stall began and 1024 were kept.
		if n := len(got); n < 1024 || n > 1025 || got[n-1].Seq != 2006 {
			t.Errorf("%d edges, the last %+v", n, got[n-1])
		}
	})
}

func TestDebounce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pi := simulated.New(simulated.Options{})
		edges := 0
		o := bus.LineOptions{Offset: 4, Debounce: 10 * time.Millisecond, Bias: bus.BiasPullUp, ActiveLow: true}
		l, err := bus.NewSet(pi).Edges("simulated", o, false, func(bus.Edge) { edges++ })
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		for range 5 { // a contact that bounces as it closes
			pi.GPIO(4).Set(false)
			time.Sleep(time.Millisecond)
			pi.GPIO(4).Set(true)
			time.Sleep(time.Millisecond)
		}
		pi.GPIO(4).Set(false)
		if v, _ := l.Value(); v != 0 {
			t.Error("active before the level has stayed")
		}
		time.Sleep(11 * time.Millisecond)
		if v, _ := l.Value(); v != 1 || edges != 1 {
			t.Errorf("value %d, %d edges, want 1 and 1", v, edges)
		}
	})
}
