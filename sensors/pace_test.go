package sensors_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/sensors"
)

// TestAtLeastEveryIsABound: whatever the interval is, no step between two reported readings is longer than at_least_every
// and what a reading's own time varies by, and none is reported that could have waited for the next.
func TestAtLeastEveryIsABound(t *testing.T) {
	for seed := range uint64(60) {
		synctest.Test(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 14))
			every := time.Duration(1+rng.IntN(40)) * 250 * time.Millisecond
			bound := every + time.Duration(rng.Int64N(int64(6*every)))
			if rng.IntN(3) == 0 {
				bound = every * time.Duration(1+rng.IntN(6)) // a multiple
			}
			jitter := every * time.Duration(rng.IntN(4)) / 5
			d, _ := script("d", time.Minute, func(context.Context, int) ([]sensors.Measurement, error) {
				time.Sleep(time.Duration(rng.Int64N(int64(jitter) + 1)))
				return volt(1), nil
			})
			c := config("s", "d", "", every)
			c.Report = sensors.Report{On: true, OnChange: 5, AtLeastEvery: bound}
			w := supervise(t, nil, []sensors.Driver{d}, c)
			time.Sleep(100 * every)
			w.stop()
			at := w.times("s")
			if len(at) < 10 {
				t.Fatalf("seed %d: %d readings", seed, len(at))
			}
			for i := 1; i < len(at); i++ {
				if step := at[i].Sub(at[i-1]); step > bound+jitter || step+every < bound-jitter {
					t.Errorf("seed %d: every %v, at least every %v, jitter %v: a step of %v", seed, every, bound, jitter, step)
				}
			}
		})
	}
}

// TestAtLeastEveryWithMissedSlots: a sensor that takes each third reading only is reported before the one that would be
// too late.
func TestAtLeastEveryWithMissedSlots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, _ := script("d", time.Minute, func(context.Context, int) ([]sensors.Measurement, error) {
			time.Sleep(250 * time.Millisecond)
			return volt(1), nil
		})
		c := config("s", "d", "", 100*time.Millisecond)
		c.Report = sensors.Report{On: true, OnChange: 5, AtLeastEvery: time.Second}
		w := supervise(t, nil, []sensors.Driver{d}, c)
		time.Sleep(time.Minute)
		w.stop()
		at := w.times("s")
		for i := 2; i < len(at); i++ { // of the first two no step is known yet
			if step := at[i].Sub(at[i-1]); step != 900*time.Millisecond {
				t.Errorf("step %d: %v", i, step)
			}
		}
	})
}

// TestMissedReadingsAreCounted: of 60 sensors on a line that is too slow for them each reading is taken, failed or
// missed; they say so while it lasts, and not a sensor that is in time or one that fails.
func TestMissedReadingsAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const every = 100 * time.Millisecond
		var takes atomic.Int64
		takes.Store(int64(3 * time.Millisecond))
		slow, _ := script("slow", time.Second, func(context.Context, int) ([]sensors.Measurement, error) {
			time.Sleep(time.Duration(takes.Load()))
			return volt(1), nil
		})
		slow.Buses = []sensors.BusKind{sensors.BusGPIO}
		fast, _ := script("fast", time.Second, func(context.Context, int) ([]sensors.Measurement, error) { return volt(1), nil })
		broken, _ := script("broken", time.Second, func(_ context.Context, n int) ([]sensors.Measurement, error) {
			return nil, fmt.Errorf("written %ds ago", n)
		})
		configs := []sensors.Config{config("fast", "fast", "", every), config("broken", "broken", "", every)}
		for i := range 60 {
			configs = append(configs, config(fmt.Sprintf("slow%d", i), "slow", "", every))
		}
		w := supervise(t, nil, []sensors.Driver{slow, fast, broken}, configs...)
		time.Sleep(3 * time.Minute)
		slots, missed := uint64(3*time.Minute/every), uint64(0)
		for name, n := range w.s.Counts() {
			switch {
			case name == "broken":
				if n.Missed != 0 || n.Behind || n.Failures < 8 {
					t.Errorf("%s: %+v", name, n)
				}
			case n.Taken+n.Missed < slots-5 || n.Taken+n.Missed > slots+1:
				t.Errorf("%s: %+v, want %d slots", name, n, slots)
			case n.Behind != (n.Missed*10 >= slots) || name == "fast" && n.Missed > 0:
				t.Errorf("%s: %+v", name, n)
			}
			missed += n.Missed
		}
		// A line that is always busy takes one in 3 ms.
		if want := 60*slots - uint64(3*time.Minute/(3*time.Millisecond)); missed < want*98/100 || missed > want*102/100 {
			t.Errorf("%d readings of all are missed, want about %d", missed, want)
		}
		if n := len(w.states("broken")); n != 1 {
			t.Errorf("%d statuses of a reason that counts on", n)
		}
		takes.Store(int64(time.Millisecond))
		time.Sleep(2 * time.Minute)
		for name, n := range w.s.Counts() {
			if n.Behind {
				t.Errorf("%s in time again: %+v", name, n)
			}
		}
		w.stop()
	})
}

// TestSameReason: numbers that run on are no news, and everything else is.
func TestSameReason(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		same bool
	}{
		{"", "", true},
		{"no answer", "no answer", true},
		{"f was written 16s ago, want at most 10s", "f was written 1m18s ago, want at most 10s", true},
		{"no message on a/b for 58s", "no message on a/b for 1h0m2s", true},
		{"v is 1001 V, want -1000 to 1000", "v is -1002.5 V, want -1000 to 1000", true},
		{"v is +Inf after its calibration", "v is -Inf after its calibration", true},
		{"implausible (7), again in 3s", "implausible (8), again in 4s", true},
		{"95% of it", "96% of it", true},
		{"exit status 1: no such file", "exit status 1: permission denied", false},
		{"got id 0x60, want 0x58", "got id 0x61, want 0x58", false},
		{"the bus hangs in a reading of air1", "the bus hangs in a reading of air2", false},
		{"i2c-1: no answer", "i2c-2: no answer", false},
		{"no answer", "no answer within 2s", false},
		{"no answer within 2s", "no answer within 2s: the bus hangs", false},
		{"", "5", false},
	} {
		if got := sensors.SameReason(tt.a, tt.b); got != tt.same || sensors.SameReason(tt.b, tt.a) != tt.same {
			t.Errorf("%q and %q: %v", tt.a, tt.b, got)
		}
	}
}
