package journal

import (
	"testing"
	"time"
)

// TestLimit: of two readers, one with a limit of its own loses its oldest messages, which are named, and
// the other none.
func TestLimit(t *testing.T) {
	j := open(t, t.TempDir(), func(o *Options) { o.MaxSize, o.SegmentSize = 32<<20, smallestPart })
	defer j.Close()
	limited, free := reader(t, j, "limited"), reader(t, j, "free")
	limited.SetLimit(4 * smallestPart)
	const n = 20_000 // of more than 100 bytes: several times the limit
	for i := 0; i < n; i += 1000 {
		publish(t, j, i, i+1000, limited, free)
	}
	kept := func() int64 {
		j.mu.Lock()
		defer j.mu.Unlock()
		_, n := j.kept(limited)
		return n
	}
	for deadline := time.Now().Add(20 * time.Second); kept() > 4; { // the keeper works in the background
		if time.Now().After(deadline) {
			t.Fatalf("keeps %d segments", kept())
		}
		publish(t, j, n, n, limited) // nothing: lets others run
		signal(j.tidy)
	}
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
