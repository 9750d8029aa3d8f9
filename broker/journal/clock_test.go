package journal

import (
	"sync/atomic"
	"testing"
	"time"
)

// wallClock is a clock that is set by hand.
type wallClock struct {
	ns, boot atomic.Int64 // boot starts below where the first set is
	synced   atomic.Bool
}

func (c *wallClock) BootID() [16]byte    { return [16]byte{1} }
func (c *wallClock) Boot() time.Duration { return time.Duration(c.boot.Load()) + time.Hour }
func (c *wallClock) Wall() (int64, bool) { return c.read() }

// pass advances time to t by the wall clock, unlike set, which steps the wall clock alone.
func (c *wallClock) pass(t time.Time, synced bool) {
	c.boot.Add(max(0, t.UnixNano()-c.ns.Load()))
	c.set(t, synced)
}

func (c *wallClock) read() (int64, bool) { return c.ns.Load(), c.synced.Load() }

func (c *wallClock) set(t time.Time, synced bool) {
	c.ns.Store(t.UnixNano())
	c.synced.Store(synced)
}

// housekept wakes the maintainer until done returns true.
func housekept(t *testing.T, j *Journal, done func() bool) {
	t.Helper()
	for range 10_000 {
		if done() {
			return
		}
		j.running.wakeMaintainer()
		publishState(t, j)
	}
	t.Fatal("the maintainer does not get it done")
}

// housekeep wakes the maintainer many times.
func housekeep(t *testing.T, j *Journal) {
	for range 50 {
		j.running.wakeMaintainer()
		publishState(t, j)
	}
}

// TestMaxAge steps the clock to and fro, synchronised or not, by years: only time that has passed makes a
// message older.
func TestMaxAge(t *testing.T) {
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	clock := &wallClock{}
	clock.set(time.Date(2010, 1, 1, 0, 0, 0, 0, time.UTC), false)
	j := open(t, t.TempDir(), func(o *Options) {
		o.SegmentSize, o.MaxAge, o.Clock = smallestPart, 24*time.Hour, clock
		withoutSync(o)
	})
	defer closeJournal(t, j)
	r := reader(t, j, "a")
	next := 0
	add := func(n int) {
		publish(t, j, next, next+n, r)
		next += n
	}
	add(6000) // three segments
	for _, step := range []struct {
		to     time.Time
		synced bool
	}{
		{now.Add(40 * 365 * 24 * time.Hour), false}, {now, true}, {now.Add(40 * 24 * time.Hour), true},
		{now.Add(-time.Hour), true}, {now, false}, {now.Add(time.Hour), true}, {now, true},
	} {
		clock.set(step.to, step.synced)
		housekeep(t, j)
		add(1000)
		housekeep(t, j)
		if got := r.Depth(); got != uint64(next) {
			t.Fatalf("depth with the clock at %v, synchronised %v: got %d, want %d", step.to, step.synced, got, next)
		}
	}
	young := next
	clock.pass(now.Add(20*time.Hour), true)
	add(6000)
	clock.pass(now.Add(25*time.Hour), true)
	clock.set(now.Add(-20*time.Hour), false) // which keeps nothing alive
	housekept(t, j, func() bool { return r.Depth() < 8000 })
	housekeep(t, j)
	var lost uint64
	for _, l := range j.Losses() {
		if l.Reason != ReasonAge || l.Reader != "a" {
			t.Errorf("loss: %+v", l)
		}
		lost += l.Count
	}
	if lost+r.Depth() != uint64(next) || r.Depth() < 6000 || lost > uint64(young) {
		t.Errorf("lost %d and kept %d, want %d together, and at least 6000 kept", lost, r.Depth(), next)
	}
	r.Attach()
	expect(t, r, int(lost), next, true)
}

// TestRemaining goes through lifetimes [MQTT-3.3.2-5] [MQTT-3.3.2-6].
func TestRemaining(t *testing.T) {
	for _, c := range []struct {
		expiry uint32
		waited time.Duration
		left   uint32
		ok     bool
	}{
		{10, 11 * time.Second, 0, false},
		{10, 10 * time.Second, 0, false},
		{10, 2500 * time.Millisecond, 8, true},
		{10, -time.Hour, 10, true},
		{0, 0, 0, false},
		{1<<32 - 1, time.Hour, 1<<32 - 3601, true},
	} {
		if left, ok := Remaining(c.expiry, c.waited); left != c.left || ok != c.ok {
			t.Errorf("%d s after %v: got %d %v, want %d %v", c.expiry, c.waited, left, ok, c.left, c.ok)
		}
	}
}

// TestTimeOfMessages checks how exact each message's time is after the clock has stepped.
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
