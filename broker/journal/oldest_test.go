package journal

import (
	"sync/atomic"
	"testing"
	"time"
)

// TestOldest: the time of a reader's oldest pending message is known wherever the message is:
// in memory, in flight, or only on the disk, of this process or of one before it.
func TestOldest(t *testing.T) {
	dir := t.TempDir()
	begin := time.Date(2026, 11, 24, 10, 0, 0, 0, time.UTC)
	var wall atomic.Int64
	set := func(o *Options) { o.wall = func() (int64, bool) { return wall.Load(), true } }
	j := open(t, dir, set)
	slow, quick := reader(t, j, "slow"), reader(t, j, "quick")
	at := func(hour int, readers ...*Reader) { // message number hour, at that hour
		wall.Store(begin.Add(time.Duration(hour) * time.Hour).UnixNano())
		publish(t, j, hour, hour+1, readers...)
	}
	want := func(name string, hour int) {
		t.Helper()
		got, ok := j.Oldest(name)
		if hour < 0 {
			if ok {
				t.Errorf("%s: got %v, want none", name, got.Wall)
			}
			return
		}
		if off := got.Wall.Sub(begin.Add(time.Duration(hour) * time.Hour)); !ok || off < -time.Minute || off > time.Minute {
			t.Errorf("%s: got %v, %v, want hour %d", name, got.Wall, ok, hour)
		}
	}
	want("slow", -1)
	want("nobody", -1)
	slow.Attach()
	at(0, slow)
	at(1, quick)
	at(2, slow, quick)
	at(3, slow)
	want("slow", 0)
	want("quick", 1)
	expect(t, slow, 0, 1, false) // in flight
	want("slow", 0)
	slow.Ack(1)
	want("slow", 2)
	want("slow", 2)
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}

	j = open(t, dir, set)
	defer j.Close()
	want("slow", 2)
	want("quick", 1)
	slow = reader(t, j, "slow")
	slow.Attach()
	expect(t, slow, 2, 4, true)
	want("slow", -1)
	at(4, slow)
	want("slow", 4)
}
