package chips_test

import (
	"context"
	"encoding/binary"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/sensors"
	"holdfast/sensors/bus"
	"holdfast/sensors/simulated"
)

func openCounter(t *testing.T, pi *simulated.Pi, host sensors.Host, options map[string]any) sensors.Sensor {
	t.Helper()
	c := config("meter", "counter", "simulated", time.Second)
	c.Host = host
	c.Options["line"] = int64(4)
	for k, v := range options {
		c.Options[k] = v
	}
	s, err := driver(t, "counter").Open(context.Background(), c, bus.NewSet(pi))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestAPulseTrain is 1 kHz for 60 s, read every second as supervision does: the count is exact.
func TestAPulseTrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pi := simulated.New(simulated.Options{})
		s := openCounter(t, pi, nil, map[string]any{"scale": 0.5, "unit": "L", "per": "min", "start": 100.0})
		defer s.Close()
		go pi.GPIO(4).Pulse(60_000, time.Millisecond)
		time.Sleep(time.Second / 4)
		for range 60 {
			time.Sleep(time.Second)
			if got := sense(t, s); got["rate"] < 29_000 || got["rate"] > 30_100 { // 1000/s * 0.5 L * 60
				if got["count"] < 60_000 { // the last one is in part after the train
					t.Errorf("rate %v L/min", got["rate"])
				}
			}
		}
		got := sense(t, s)
		t.Logf("%v", got)
		if got["count"] != 60_000 || got["total"] != 30_100 || got["lost"] != 0 {
			t.Errorf("got %v, want 60000 pulses, 30100 L and none lost", got)
		}
	})
}

// Edges that overflowed the kernel's buffer are counted by their numbers, and reported.
func TestLostEdgesAreDetected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pi := simulated.New(simulated.Options{})
		s := openCounter(t, pi, nil, nil)
		defer s.Close()
		line := pi.GPIO(4)
		line.Pulse(1000, time.Millisecond)
		line.Stall()
		line.Pulse(5000, time.Millisecond)
		line.Resume()
		line.Pulse(1000, time.Millisecond)
		synctest.Wait()
		got := sense(t, s)
		t.Logf("%v", got)
		// 5000 came during the stall, 1024 fit into the buffer, and one may have been on its way.
		if got["count"] != 7000 || got["lost"] < 5000-1024-1 || got["lost"] > 5000-1024 {
			t.Errorf("got %v, want 7000 pulses, and 3975 or 3976 of them lost", got)
		}
	})
}

// recorder is a host that keeps what drivers remember.
type recorder struct {
	sensors.NoHost
	times int
}

func (r *recorder) Remember(sensor string, state []byte) {
	r.times++
	r.NoHost.Remember(sensor, state)
}

func TestTheTotalGoesOnAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pi := simulated.New(simulated.Options{})
		host := &recorder{}
		s := openCounter(t, pi, host, nil)
		pi.GPIO(4).Pulse(100, 10*time.Millisecond)
		synctest.Wait()
		s.Close()
		s = openCounter(t, pi, host, nil)
		pi.GPIO(4).Pulse(23, 10*time.Millisecond)
		synctest.Wait()
		if got := sense(t, s); got["count"] != 123 {
			t.Errorf("got %v, want 123", got)
		}
		// An hour of readings every second, with pulses: saved once a minute. An hour without: not at all.
		host.times = 0
		for range 3600 {
			pi.GPIO(4).Pulse(1, time.Second)
			sense(t, s)
		}
		if host.times < 59 || host.times > 61 {
			t.Errorf("saved %d times in an hour, want once a minute", host.times)
		}
		host.times = 0
		for range 3600 {
			time.Sleep(time.Second)
			sense(t, s)
		}
		if host.times > 1 {
			t.Errorf("saved %d times while nothing happened", host.times)
		}
		s.Close()
	})
}

// TestStartIsWhatTheDisplayShowsNow: the total goes on from start whenever that is changed, over restarts and crashes,
// and from the count of an earlier version as it did there.
func TestStartIsWhatTheDisplayShowsNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pi := simulated.New(simulated.Options{})
		host := &recorder{}
		after := func(pulses int, options map[string]any, crash bool) float64 {
			kept := host.NoHost.Recall("meter")
			s := openCounter(t, pi, host, options)
			pi.GPIO(4).Pulse(pulses, time.Millisecond)
			synctest.Wait()
			total := sense(t, s)["total"]
			s.Close()
			if crash {
				host.NoHost.Remember("meter", kept)
			}
			return total
		}
		half := func(start float64) map[string]any { return map[string]any{"scale": 0.5, "start": start} }
		for i, step := range []struct {
			pulses  int
			options map[string]any
			crash   bool
			want    float64
		}{
			{10, half(100), false, 105},     // the first start
			{4, half(100), false, 107},      // a restart
			{6, half(2000), false, 2003},    // somebody read the display
			{2, half(2000), false, 2004},    // a restart
			{3, half(50), true, 51.5},       // read again, and a crash forgets the pulses, not the reading
			{1, half(50), false, 50.5},      //
			{2, map[string]any{}, false, 2}, // start is gone: counted from 0
			{2, map[string]any{}, false, 4}, //
			{2, half(0), false, 3},          // another scale alone: of all since then
		} {
			if got := after(step.pulses, step.options, step.crash); got != step.want {
				t.Errorf("step %d: total %v, want %v", i, got, step.want)
			}
		}
		host = &recorder{}
		host.NoHost.Remember("meter", binary.BigEndian.AppendUint64(nil, 1000))
		for i, step := range []struct{ start, want float64 }{{100, 601}, {100, 602}, {7, 8}} {
			if got := after(2, half(step.start), false); got != step.want {
				t.Errorf("step %d after an earlier version: total %v, want %v", i, got, step.want)
			}
		}
	})
}

func TestGPIOInputSeesWhatIsShorterThanTheInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pi := simulated.New(simulated.Options{})
		pi.GPIO(4).Set(true)
		s, err := open(t, "gpio-input", pi, map[string]any{"line": int64(4), "edges": true, "active_low": true, "debounce": 5 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		for _, presses := range []int{0, 1, 3, 0} {
			for range presses {
				pi.GPIO(4).Set(false)
				time.Sleep(20 * time.Millisecond)
				pi.GPIO(4).Set(true)
				time.Sleep(time.Millisecond)
				pi.GPIO(4).Set(false) // it bounces
				time.Sleep(time.Millisecond)
				pi.GPIO(4).Set(true)
				time.Sleep(20 * time.Millisecond)
			}
			synctest.Wait()
			m, err := s.Sense(t.Context())
			activations := 0.0 // each is in the reading of its edge
			for _, v := range m {
				if v.Quantity == "activations" {
					activations += v.Value
				}
			}
			if got := values(m); err != nil || activations != float64(presses) || !strings.Contains(got, "state:0") {
				t.Errorf("%d presses: got %v, %v", presses, m, err)
			}
		}
	})
}
