package chips_test

import (
	"context"
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
			if got := sense(t, s); got["activations"] != float64(presses) || got["state"] != 0 {
				t.Errorf("%d presses: got %v", presses, got)
			}
		}
	})
}
