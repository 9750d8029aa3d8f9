package journal

import (
	"errors"
	"path/filepath"
	"testing"
)

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
	housekept(t, j, func() bool { return j.beyond(limited) == nil && limited.Depth() < n })
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

// TestCloseBeyondLimit: a journal closes although a reader is far beyond its limit, and drops nothing then.
func TestCloseBeyondLimit(t *testing.T) {
	j := open(t, t.TempDir(), func(o *Options) {
		o.MaxSize, o.SegmentSize = 32<<20, smallestPart
		withoutSync(o)
	})
	r := reader(t, j, "limited")
	publish(t, j, 0, 20_000, r)
	j.mu.Lock()
	j.closing = true // what Close does first, and the maintainer comes to the limit next
	j.mu.Unlock()
	r.SetLimit(smallestPart)
	j.running.wakeCommitter()
	j.running.ended.Wait()
	j.running.lock.Close()
	if lost := j.Losses(); len(lost) > 0 {
		t.Errorf("lost %+v", lost)
	}
}

// TestGivenUpWhileAcknowledged: what a limit gives up while its consumer acknowledges is counted to the message,
// each once.
func TestGivenUpWhileAcknowledged(t *testing.T) {
	for range 20 {
		j := open(t, t.TempDir(), func(o *Options) {
			o.MaxSize, o.SegmentSize = 32<<20, smallestPart
			numbered(o)
			withoutSync(o)
		})
		r := reader(t, j, "a")
		const n = 30_000
		for i := 0; i < n; i += 1000 {
			publish(t, j, i, i+1000, r)
		}
		settled := make(chan uint64)
		go func() {
			var acked uint64
			r.Attach()
			for held := (Delivery{}); ; { // one in hand, so that some are given up there
				d, ok, err := r.TryNext()
				if held.Seq != 0 && r.Ack(held.Seq) {
					acked++
				}
				if !ok || err != nil {
					break
				}
				held = d
			}
			settled <- acked
		}()
		for limit := int64(12); limit > 0; limit-- {
			r.SetLimit(limit * smallestPart)
			publishState(t, j)
		}
		acked := <-settled
		publishState(t, j)
		housekeep(t, j)
		var lost uint64
		for _, l := range j.Losses() {
			lost += l.Count
		}
		if acked+lost != n || r.Depth() != 0 {
			t.Errorf("%d acknowledged and %d lost of %d, %d left", acked, lost, n, r.Depth())
		}
		closeJournal(t, j)
	}
}

// TestLimitCountsWhatCannotBeRead: messages that are damaged when a limit gives their segment up are counted with
// the others of it.
func TestLimitCountsWhatCannotBeRead(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, func(o *Options) {
		o.MaxSize, o.SegmentSize = 32<<20, smallestPart
		withoutSync(o)
	})
	defer closeJournal(t, j)
	r := reader(t, j, "a")
	const n = 20_000
	for i := 0; i < n; i += 1000 {
		publish(t, j, i, i+1000, r)
	}
	j.mu.Lock()
	first := j.segments[0].name()
	j.mu.Unlock()
	rot(t, filepath.Join(dir, first), headerSize+10_000, smallestPart) // most of it, to the end
	r.SetLimit(4 * smallestPart)
	housekept(t, j, func() bool { return j.beyond(r) == nil })
	var lost uint64
	for _, l := range j.Losses() {
		lost += l.Count
	}
	if lost+r.Depth() != n {
		t.Errorf("%d lost, %d left of %d", lost, r.Depth(), n)
	}
	r.Attach()
	expect(t, r, int(lost), n, true)
	none(t, r)
}

// TestFilesThatAreGoneTakeNoRoom: after a backlog was drained and its files were removed, a crash does not have the
// journal believe that it is full, although the checkpoint still names them.
func TestFilesThatAreGoneTakeNoRoom(t *testing.T) {
	dir := t.TempDir()
	options := func(o *Options) {
		o.MaxSize, o.SegmentSize = 32*smallestPart, smallestPart
		withoutSync(o)
	}
	j := open(t, dir, options)
	r := reader(t, j, "a")
	backlog := 0
	for len(j.Losses()) == 0 { // until it is full
		publish(t, j, backlog, backlog+500, r)
		backlog += 500
	}
	for r.Attach(); r.Depth() > 0; {
		d, _, err := r.TryNext()
		if err != nil {
			t.Fatal(err)
		}
		r.Ack(d.Seq)
	}
	housekept(t, j, func() bool { return j.Stats().Segments <= 4 })
	crashed := crash(t, dir)
	closeJournal(t, j)
	j = open(t, crashed, options)
	defer closeJournal(t, j)
	r = reader(t, j, "a")
	left, before := r.Depth(), len(j.Losses())
	publish(t, j, 0, 8000, r) // an eighth of what there is room for
	housekeep(t, j)
	if after := j.Losses()[before:]; len(after) > 0 || r.Depth() != left+8000 {
		t.Errorf("depth %d, want 8000 more than %d; lost %+v", r.Depth(), left, after)
	}
}

// TestFreeFilesAreGivenBackFirst: where the reserve was used, files that hold nothing are removed first, and
// messages are dropped only if there are none.
func TestFreeFilesAreGivenBackFirst(t *testing.T) {
	for _, c := range []struct {
		free  []string
		lost  uint64
		files int // left in the end
	}{
		{free: nil, lost: 100, files: 7},
		{free: []string{"x"}, lost: 100, files: 6}, // needed for the commit that names the loss
		{free: []string{"x", "y"}, lost: 0, files: 5},
	} {
		dir, err := NewDirFS(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range c.free {
			if f, err := dir.Open(name, true); err != nil || f.Close() != nil {
				t.Fatal(err)
			}
		}
		j := newView(dir)
		r := newReader(j, "a", 1, 1)
		r.backlog.owed, r.backlog.tail = 100, 101
		j.readers.byName["a"], j.readers.byID[1] = r, r
		j.segments = []*segment{{header: header{id: 1, base: 1}, next: 101, owed: map[uint64]owedIn{1: {100, 100, 10_000}}}}
		j.checkpoints.kept = []snapshotMark{{1, 2}, {2, 2}}
		k := &maintainer{j: j, most: 8, files: 7, free: c.free}
		j.checkpoints.every = 1
		j.preallocated.segments = []*preallocatedSegment{{}}
		if err := errors.Join(k.makeRoom(), k.giveBack()); err != nil {
			t.Fatal(err)
		}
		var lost uint64
		for _, l := range j.Losses() {
			lost += l.Count
		}
		if lost != c.lost || k.files != c.files {
			t.Errorf("%d free: %d lost and %d files left, want %d and %d", len(c.free), lost, k.files, c.lost, c.files)
		}
	}
}
