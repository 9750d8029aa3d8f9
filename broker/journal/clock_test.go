package journal

import (
	"sync/atomic"
	"testing"
	"time"
)

// wallClock is a clock that is set by hand.
type wallClock struct {
	ns     atomic.Int64
	synced atomic.Bool
}

func (c *wallClock) read() (int64, bool) { return c.ns.Load(), c.synced.Load() }

func (c *wallClock) set(t time.Time, synced bool) {
	c.ns.Store(t.UnixNano())
	c.synced.Store(synced)
}

// tidied has the keeper look at its limits once more, and waits until its turn is over.
func tidied(t *testing.T, j *Journal, done func() bool) {
	t.Helper()
	for range 10_000 {
		if done() {
			return
		}
		signal(j.tidy)
		publishState(t, j)
	}
	t.Fatal("the keeper does not come to it")
}

// tidy gives the keeper many turns.
func tidy(t *testing.T, j *Journal) {
	for range 50 {
		signal(j.tidy)
		publishState(t, j)
	}
}

// TestMaxAge goes through a boot without a clock: nothing is dropped for its age until the clock is
// right, whatever it said before, and then what was written before it was right is as old as what came
// next.
func TestMaxAge(t *testing.T) {
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	clock := &wallClock{}
	clock.set(time.Date(2010, 1, 1, 0, 0, 0, 0, time.UTC), false)
	j := open(t, t.TempDir(), func(o *Options) {
		o.SegmentSize, o.MaxAge, o.wall = smallestPart, 24*time.Hour, clock.read
		withoutSync(o)
	})
	defer closeJournal(t, j)
	r := reader(t, j, "a")
	publish(t, j, 0, 6000, r) // three segments, long ago as the clock says
	clock.set(now.Add(40*365*24*time.Hour), false)
	publish(t, j, 6000, 8000, r) // and in the far future
	tidy(t, j)
	if got := r.Depth(); got != 8000 {
		t.Fatalf("depth without a synchronised clock: got %d, want 8000", got)
	}
	clock.set(now, true)
	publish(t, j, 8000, 14_000, r)
	tidy(t, j)
	if got := r.Depth(); got != 14_000 {
		t.Fatalf("depth with all of it young: got %d, want 14000", got)
	}
	clock.set(now.Add(-48*time.Hour), true) // set back: nothing becomes older by it
	tidy(t, j)
	if got := r.Depth(); got != 14_000 {
		t.Fatalf("depth after the clock was set back: got %d, want 14000", got)
	}
	clock.set(now.Add(20*time.Hour), true)
	publish(t, j, 14_000, 20_000, r)
	clock.set(now.Add(25*time.Hour), true)
	tidied(t, j, func() bool { return r.Depth() < 8000 })
	tidy(t, j)
	var lost uint64
	for _, l := range j.Losses() {
		if l.Reason != ReasonAge || l.Reader != "a" {
			t.Errorf("loss: %+v", l)
		}
		lost += l.Count
	}
	if lost+r.Depth() != 20_000 || r.Depth() < 6000 {
		t.Errorf("lost %d and kept %d, want 20000 together, and at least 6000 kept", lost, r.Depth())
	}
	r.Attach()
	expect(t, r, int(lost), 20_000, true)
}

// TestTimeOfMessages tells what each message's time is worth after the clock has stepped.
func TestTimeOfMessages(t *testing.T) {
	clock := &wallClock{}
	wrong, right := time.Date(2010, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	clock.set(wrong, false)
	dir := t.TempDir()
	j := open(t, dir, func(o *Options) { o.wall = clock.read })
	r := reader(t, j, "a")
	publish(t, j, 0, 1, r)
	clock.set(right, true)
	publish(t, j, 1, 2, r)
	clock.set(right.Add(-time.Hour), true)
	publish(t, j, 2, 3, r)
	closeJournal(t, j)
	j = open(t, dir, nil)
	defer closeJournal(t, j)
	r = reader(t, j, "a")
	r.Attach()
	var first time.Duration
	for i, want := range []struct {
		wall   time.Time
		synced bool
	}{{wrong, false}, {right, true}, {right.Add(-time.Hour), true}} {
		d, ok, err := r.TryNext()
		if !ok || err != nil {
			t.Fatal(ok, err)
		}
		if off := d.Time.Wall.Sub(want.wall); off < -time.Second || off > time.Minute || d.Time.Synced != want.synced {
			t.Errorf("message %d: got %v, want %v", i, d.Time, want)
		}
		if i == 0 {
			first = d.Time.Boot
		} else if d.Time.Boot < first {
			t.Errorf("message %d: boot time %v is before %v", i, d.Time.Boot, first)
		}
	}
}
