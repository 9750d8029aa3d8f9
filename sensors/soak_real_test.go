//go:build soak

// Only `make soak` builds this file: what it measures needs a machine that does nothing else.

package sensors_test

import (
	"context"
	"os"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// stalls finds for how long the machine left this program waiting although it could have run: what a
// reading is late by beyond that is ours.
func stalls(ctx context.Context) (worst time.Duration) {
	for ctx.Err() == nil {
		begun := time.Now()
		time.Sleep(10 * time.Millisecond)
		worst = max(worst, time.Since(begun)-10*time.Millisecond)
	}
	return worst
}

// TestSoakInRealTime measures what fake time cannot, for as long as HOLDFAST_SOAK says.
func TestSoakInRealTime(t *testing.T) {
	length, err := time.ParseDuration(os.Getenv("HOLDFAST_SOAK"))
	if err != nil {
		t.Fatal("HOLDFAST_SOAK: ", err)
	}
	var s soak
	done := make(chan struct{})
	var heaps []uint64
	go func() {
		defer close(done)
		tick := time.NewTicker(length / 10)
		defer tick.Stop()
		for range 9 {
			<-tick.C
			runtime.GC()
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			heaps = append(heaps, m.HeapAlloc)
		}
	}()
	ctx, cancel := context.WithCancel(t.Context())
	stalled := make(chan time.Duration, 1)
	go func() { stalled <- stalls(ctx) }()
	before := cpuTime(t)
	s.run(t, length, 0.05)
	used := cpuTime(t) - before
	<-done
	cancel()
	stall := <-stalled
	if s.worst > time.Second+stall {
		t.Errorf("a healthy reading was late by %v, and the machine stalled for %v at most", s.worst, stall)
	}
	t.Logf("%v, the machine stalled for %v at most, %v of CPU per reading with the simulated chips, heap in KiB %v", &s, stall, used/time.Duration(s.readings), kib(heaps))
	// Flat: the last third is no larger than the first, but for a little.
	if first, last := heaps[2], heaps[len(heaps)-1]; last > first+first/4+1<<20 {
		t.Errorf("the heap grew from %d to %d bytes", first, last)
	}
}

func kib(b []uint64) (k []uint64) {
	for _, v := range b {
		k = append(k, v>>10)
	}
	return k
}

func cpuTime(t *testing.T) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
