package journal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// fill appends messages of which one in every is owed to high as well, until low has lost something.
func fill(t *testing.T, j *Journal, low, high *Reader, every int, enough func() bool) (total int) {
	t.Helper()
	for n := 0; !enough(); n += 100 {
		if n > 100_000 {
			t.Fatal("the limit is never reached")
		}
		for i := n; i < n+100; i++ {
			if i%every == 0 {
				publish(t, j, i, i+1, low, high)
			}
		}
		for i := n; i < n+100; i++ {
			if i%every != 0 {
				publish(t, j, i, i+1, low)
			}
		}
		total = n + 100
	}
	return total
}

func lost(j *Journal, reader string) (n uint64) {
	for _, l := range j.Losses() {
		if l.Reader == reader {
			n += l.Count
		}
	}
	return n
}

// TestLowPriorityIsDroppedFirst fills a journal several times over. The reader with the higher priority
// keeps everything, and the account of the other one is exact.
func TestLowPriorityIsDroppedFirst(t *testing.T) {
	dir := t.TempDir()
	small := func(o *Options) {
		o.MaxSize = smallestSize
		withoutSync(o)
	}
	j := open(t, dir, small)
	low, high := reader(t, j, "low"), reader(t, j, "high")
	if err := high.SetPriority(2); err != nil {
		t.Fatal(err)
	}
	total := fill(t, j, low, high, 20, func() bool { return lost(j, "low") > 20_000 })
	if n := lost(j, "high"); n > 0 {
		t.Errorf("high lost %d", n)
	}
	compacted := 0
	j.mu.Lock()
	for _, s := range j.segments {
		if s.compacted {
			compacted++
		}
	}
	files := len(j.segments)
	j.mu.Unlock()
	if compacted == 0 {
		t.Error("nothing was compacted")
	}
	if int64(files)*smallestPart > smallestSize {
		t.Errorf("%d segments, want at most %d", files, smallestSize/smallestPart)
	}
	// What is compacted is there after a crash and after a clean end, for a reader that is in the middle too.
	check := func(j *Journal, from int) {
		t.Helper()
		low, high := reader(t, j, "low"), reader(t, j, "high")
		if got, want := high.Depth(), uint64(total/20-from); got != want {
			t.Errorf("high waits for %d, want %d", got, want)
		}
		if got, want := low.Depth()+lost(j, "low"), uint64(total); got != want {
			t.Errorf("low waits for or lost %d, want %d", got, want)
		}
		high.Attach()
		for n := from; n < total/20; n++ {
			d, ok, err := high.TryNext()
			if !ok || err != nil || number(d.Message) != n*20 {
				t.Fatalf("message %d: got %v, %v, %v", n*20, d, ok, err)
			}
		}
		none(t, high)
		low.Attach()
		seen := uint64(0)
		for {
			_, ok, err := low.TryNext()
			if err != nil {
				t.Fatal(err)
			}
			if !ok {
				break
			}
			seen++
		}
		if seen != low.Depth() {
			t.Errorf("low got %d, want %d", seen, low.Depth())
		}
	}
	copied := crash(t, dir)
	crashed := open(t, copied, small)
	check(crashed, 0)
	closeJournal(t, crashed)
	high.Attach()
	for n := range 50 {
		d, ok, err := high.TryNext()
		if !ok || err != nil {
			t.Fatalf("message %d: %v %v", n, ok, err)
		}
		high.Ack(d.Seq)
	}
	closeJournal(t, j)
	j = open(t, dir, small)
	check(j, 50)
	closeJournal(t, j)
}

// TestAReaderInTheMiddleOfAMergedSegment goes on where it was when the file that it reads is replaced.
func TestAReaderInTheMiddleOfAMergedSegment(t *testing.T) {
	j := open(t, t.TempDir(), func(o *Options) {
		o.MaxSize = smallestSize
		withoutSync(o)
	})
	defer closeJournal(t, j)
	low, high := reader(t, j, "low"), reader(t, j, "high")
	if err := high.SetPriority(1); err != nil {
		t.Fatal(err)
	}
	publish(t, j, 0, 1, low, high)
	high.Attach()
	high.Detach() // from now on it reads the log
	high.Attach()
	publish(t, j, 20, 21, low, high)
	next := 0
	read := func(n int) {
		for range n {
			d, ok, err := high.TryNext()
			if !ok || err != nil || number(d.Message) != next*20 {
				t.Fatalf("message %d: got %d, %v, %v", next*20, number(d.Message), ok, err)
			}
			next++
		}
	}
	produced := 2
	for lost(j, "low") < 15_000 {
		for i := 20 * produced; i < 20*(produced+20); i++ {
			if i%20 == 0 {
				publish(t, j, i, i+1, low, high)
			} else {
				publish(t, j, i, i+1, low)
			}
		}
		produced += 20
		read(3) // slower than it is written
	}
	read(produced - next)
	none(t, high)
}

// TestSlowReaderKeepsLittle shows that one reader with a few messages in every segment does not cost
// another reader its own: nothing has to be dropped.
func TestSlowReaderKeepsLittle(t *testing.T) {
	j := open(t, t.TempDir(), func(o *Options) {
		o.MaxSize = smallestSize
		withoutSync(o)
	})
	defer closeJournal(t, j)
	slow, fast := reader(t, j, "slow"), reader(t, j, "fast")
	fast.Attach()
	for n := 0; n < 60_000; n += 1000 {
		publish(t, j, n, n+1, slow, fast)
		publish(t, j, n+1, n+1000, fast)
		expect(t, fast, n, n+1000, true)
	}
	if l := j.Losses(); len(l) > 0 {
		t.Fatalf("losses: %+v", l)
	}
	slow.Attach()
	for n := 0; n < 60_000; n += 1000 {
		expect(t, slow, n, n+1, true)
	}
	none(t, slow)
}

// TestWithoutSnapshots removes every checkpoint of a journal: messages and readers are in the log.
func TestWithoutSnapshots(t *testing.T) {
	for _, size := range []int64{smallestSize, 64 << 20} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			dir := t.TempDir()
			opts := func(o *Options) {
				o.MaxSize, o.SegmentSize = size, smallestPart
				withoutSync(o)
			}
			j := open(t, dir, opts)
			low, high := reader(t, j, "low"), reader(t, j, "high")
			if err := high.SetPriority(3); err != nil {
				t.Fatal(err)
			}
			low.Attach()
			for n := 0; n < 20_000; n += 500 {
				publish(t, j, n, n+500, low)
				publish(t, j, n, n+5, high)
				if n < 15_000 {
					if l := j.Losses(); len(l) > 0 {
						t.Fatalf("losses: %+v", l)
					}
					expect(t, low, n, n+500, true)
				}
			}
			highDepth, lowDepth := high.Depth(), low.Depth()
			closeJournal(t, j)
			names, _ := filepath.Glob(filepath.Join(dir, "*"+snapSuffix))
			for _, n := range names {
				os.Remove(n)
			}
			j = open(t, dir, opts)
			defer closeJournal(t, j)
			low, high = reader(t, j, "low"), reader(t, j, "high")
			if low.Depth() != lowDepth || high.Depth() != highDepth {
				t.Fatalf("depths: got %d and %d, want %d and %d", low.Depth(), high.Depth(), lowDepth, highDepth)
			}
			if high.reg.priority != 3 {
				t.Errorf("priority: got %d, want 3", high.reg.priority)
			}
			low.Attach()
			expect(t, low, 15_000, 20_000, true)
			none(t, low)
			high.Attach()
			for n := 0; n < 20_000; n += 500 {
				expect(t, high, n, n+5, true)
			}
			none(t, high)
		})
	}
}

func TestRenameReader(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, nil)
	r := reader(t, j, "old")
	publish(t, j, 0, 10, r)
	if ok, err := j.RenameReader("old", "new"); !ok || err != nil {
		t.Fatal(ok, err)
	}
	if ok, err := j.RenameReader("old", "newer"); ok || err != nil {
		t.Fatal(ok, err)
	}
	publish(t, j, 10, 20, r)
	publishState(t, j)
	for range 2 { // from the log, then from a checkpoint
		crashed := open(t, crash(t, dir), nil)
		r := reader(t, crashed, "new")
		r.Attach()
		expect(t, r, 0, 20, false)
		none(t, r)
		if n := len(crashed.Readers()); n != 1 {
			t.Errorf("%d readers, want 1", n)
		}
		closeJournal(t, crashed)
		if j != nil {
			closeJournal(t, j)
			j = nil
		}
	}
}

// TestRottenSegmentIsNotMerged leaves damage to its readers, and still gains space.
func TestRottenSegmentIsNotMerged(t *testing.T) {
	dir := t.TempDir()
	small := func(o *Options) {
		o.MaxSize = smallestSize
		withoutSync(o)
	}
	j := open(t, dir, small)
	low, high := reader(t, j, "low"), reader(t, j, "high")
	if err := high.SetPriority(2); err != nil {
		t.Fatal(err)
	}
	publish(t, j, 0, 1, high)
	publish(t, j, 1, 2000, low)
	publish(t, j, 2000, 2001, high)
	j.mu.Lock()
	name := j.segments[0].name()
	j.mu.Unlock()
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(make([]byte, 8192), 16384); err != nil {
		t.Fatal(err)
	}
	f.Close()
	total := 2001
	for lost(j, "low") < 5000 {
		publish(t, j, total, total+200, low)
		total += 200
	}
	depth := low.Depth()
	if got := depth + lost(j, "low"); got != uint64(total-2) {
		t.Errorf("low waits for or lost %d, want %d", got, total-2)
	}
	high.Attach()
	var got []string
	for {
		d, ok, err := high.TryNext()
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			break
		}
		got = append(got, fmt.Sprint(number(d.Message)))
	}
	if want := 2 - int(lost(j, "high")); len(got) != want {
		t.Errorf("high got %s, want %d messages", strings.Join(got, " "), want)
	}
	if err := j.Close(); err != nil && !errors.Is(err, ErrClosed) {
		t.Fatal(err)
	}
}
