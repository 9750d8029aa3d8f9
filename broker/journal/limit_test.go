package journal

import "testing"

// TestLimit: of two readers, one with a limit of its own loses its oldest messages, which are named, and
// the other none.
func TestLimit(t *testing.T) {
	j := open(t, t.TempDir(), func(o *Options) {
		o.MaxSize, o.SegmentSize = 32<<20, smallestPart
		withoutSync(o)
	})
	defer j.Close()
	limited, free := reader(t, j, "limited"), reader(t, j, "free")
	limited.SetLimit(4 * smallestPart)
	const n = 20_000 // of more than 100 bytes: several times the limit
	for i := 0; i < n; i += 1000 {
		publish(t, j, i, i+1000, limited, free)
	}
	tidied(t, j, func() bool { return j.beyond(limited) == nil && limited.Depth() < n })
	if free.Depth() != n {
		t.Errorf("the other reader is owed %d, want %d", free.Depth(), n)
	}
	var lost, last uint64
	for _, l := range j.Losses() {
		if l.Reader != "limited" || l.Reason != ReasonBacklog || l.First <= last {
			t.Errorf("loss %+v after %d", l, last)
		}
		lost, last = lost+l.Count, l.Last
	}
	if lost == 0 || limited.Depth()+lost != n {
		t.Errorf("%d lost, %d left of %d", lost, limited.Depth(), n)
	}
	limited.Attach()
	for left := limited.Depth(); left > 0; left-- {
		d, ok, err := limited.TryNext()
		if !ok || err != nil || d.Seq <= last {
			t.Fatalf("got %+v, %v, %v: want what follows %d", d, ok, err, last)
		}
		last = d.Seq
	}
	if _, ok, _ := limited.TryNext(); ok {
		t.Error("more than was left")
	}
}

// TestCloseBeyondLimit: a journal ends although a reader is far beyond its limit, and gives nothing up then.
func TestCloseBeyondLimit(t *testing.T) {
	j := open(t, t.TempDir(), func(o *Options) {
		o.MaxSize, o.SegmentSize = 32<<20, smallestPart
		withoutSync(o)
	})
	r := reader(t, j, "limited")
	publish(t, j, 0, 20_000, r)
	j.mu.Lock()
	j.closing = true // what Close does first, and the keeper comes to the limit next
	j.mu.Unlock()
	r.SetLimit(smallestPart)
	j.poke()
	j.ended.Wait()
	j.lock.Close()
	if lost := j.Losses(); len(lost) > 0 {
		t.Errorf("lost %+v", lost)
	}
}
