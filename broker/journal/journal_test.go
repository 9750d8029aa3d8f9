package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"holdfast/broker"
)

// waiter is a Completer that counts down and keeps errors.
type waiter struct {
	mu   sync.Mutex
	seqs []uint64
	errs []error
	wg   sync.WaitGroup
}

func (w *waiter) Committed(_ *Entry, seq uint64, err error) {
	w.mu.Lock()
	w.seqs = append(w.seqs, seq)
	if err != nil {
		w.errs = append(w.errs, err)
	}
	w.mu.Unlock()
	w.wg.Done()
}

func open(t testing.TB, dir string, change func(*Options)) *Journal {
	t.Helper()
	fs, err := NewDirFS(dir)
	if err != nil {
		t.Fatal(err)
	}
	opts := Options{FS: fs}
	if change != nil {
		change(&opts)
	}
	j, err := Open(opts)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func reader(t testing.TB, j *Journal, name string) *Reader {
	t.Helper()
	r, err := j.OpenReader(name)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func message(n int) *broker.Message {
	payload := make([]byte, 100)
	binary.LittleEndian.PutUint64(payload, uint64(n))
	return &broker.Message{Topic: fmt.Sprintf("t/%d", n%7), Payload: payload, QoS: 1}
}

func number(m *broker.Message) int { return int(binary.LittleEndian.Uint64(m.Payload)) }

// publish appends messages from to to-1 for the readers and waits until they are durable.
func publish(t testing.TB, j *Journal, from, to int, readers ...*Reader) {
	t.Helper()
	var owed []Owed
	for _, r := range readers {
		owed = append(owed, Owed{Reader: r, QoS: 1})
	}
	w := &waiter{}
	for n := from; n < to; n++ {
		w.wg.Add(1)
		if err := j.Append(Entry{Message: message(n), Owed: owed, Done: w}); err != nil {
			t.Fatal(err)
		}
	}
	w.wg.Wait()
	if len(w.errs) > 0 {
		t.Fatal(w.errs[0])
	}
}

// expect reads messages from to to-1 and acknowledges them.
func expect(t testing.TB, r *Reader, from, to int, ack bool) {
	t.Helper()
	for n := from; n < to; n++ {
		d, ok, err := r.TryNext()
		if err != nil || !ok {
			t.Fatalf("message %d: got %v, %v", n, ok, err)
		}
		if number(d.Message) != n || d.Message.Topic != fmt.Sprintf("t/%d", n%7) {
			t.Fatalf("got message %d on %s, want %d", number(d.Message), d.Message.Topic, n)
		}
		if ack {
			r.Ack(d.Seq)
		}
	}
}

func none(t testing.TB, r *Reader) {
	t.Helper()
	if d, ok, err := r.TryNext(); ok || err != nil {
		t.Fatalf("got %d, %v, %v, want nothing", d.Seq, ok, err)
	}
}

// crash copies the directory as it is, which is what a SIGKILL leaves. Nothing may be appended meanwhile; if
// the maintainer changes names during the copy, it is made again.
func crash(t testing.TB, dir string) string {
	t.Helper()
	for {
		before, _ := filepath.Glob(filepath.Join(dir, "*"))
		to := t.TempDir()
		err := os.CopyFS(to, os.DirFS(dir))
		after, _ := filepath.Glob(filepath.Join(dir, "*"))
		switch {
		case !slices.Equal(before, after) || errors.Is(err, fs.ErrNotExist):
		case err != nil:
			t.Fatal(err)
		default:
			return to
		}
	}
}

func closeJournal(t testing.TB, j *Journal) {
	t.Helper()
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestLiveThenDiskThenLive(t *testing.T) {
	j := open(t, t.TempDir(), nil)
	defer closeJournal(t, j)
	r := reader(t, j, "a")
	r.Attach()
	publish(t, j, 0, 10, r)
	expect(t, r, 0, 10, true)
	publish(t, j, 10, 5000, r) // more than the queue holds
	expect(t, r, 10, 5000, true)
	none(t, r)
	publish(t, j, 5000, 5010, r)
	expect(t, r, 5000, 5010, true)
	none(t, r)
	if d := r.Depth(); d != 0 {
		t.Fatalf("depth: got %d, want 0", d)
	}
}

func TestAttachResendsInOrder(t *testing.T) {
	j := open(t, t.TempDir(), nil)
	defer closeJournal(t, j)
	r := reader(t, j, "a")
	r.Attach()
	publish(t, j, 0, 10, r)
	var seqs []uint64
	for range 6 {
		d, _, _ := r.TryNext()
		if d.Resend {
			t.Fatal("resend at the first delivery")
		}
		seqs = append(seqs, d.Seq)
	}
	for _, i := range []int{4, 0, 2} {
		r.Ack(seqs[i])
		r.Ack(seqs[i])
	}
	r.Attach()
	for i, want := range []int{1, 3, 5, 6, 7, 8, 9} {
		d, ok, err := r.TryNext()
		if !ok || err != nil || number(d.Message) != want {
			t.Fatalf("got %v %v %v, want %d", d, ok, err, want)
		}
		if d.Resend != (i < 3) {
			t.Fatalf("message %d: resend %v", want, d.Resend)
		}
	}
	none(t, r)
	if d := r.Depth(); d != 7 {
		t.Fatalf("depth: got %d, want 7", d)
	}
}

func TestReopen(t *testing.T) {
	for _, clean := range []bool{true, false} {
		t.Run(fmt.Sprintf("clean=%v", clean), func(t *testing.T) {
			dir := t.TempDir()
			j := open(t, dir, func(o *Options) { o.SegmentSize = 256 << 10 })
			a, b := reader(t, j, "a"), reader(t, j, "b")
			a.Attach()
			publish(t, j, 0, 3000, a)
			expect(t, a, 0, 1000, true)
			publish(t, j, 3000, 6000, a, b)
			w := &waiter{}
			w.wg.Add(2)
			keep := &broker.Message{Topic: "keep", Payload: []byte("this"), QoS: 1, Retain: true}
			if err := errors.Join(
				j.Append(Entry{Changes: []Change{{"session/x", []byte("1")}, {"session/y", []byte{}}}, Done: w}),
				j.Append(Entry{Message: keep, Retained: true, Done: w}),
			); err != nil {
				t.Fatal(err)
			}
			w.wg.Wait()
			if clean {
				closeJournal(t, j)
			} else {
				defer closeJournal(t, j)
				dir = crash(t, dir)
			}
			j = open(t, dir, func(o *Options) { o.SegmentSize = 256 << 10 })
			defer closeJournal(t, j)
			a, b = reader(t, j, "a"), reader(t, j, "b")
			if a.Depth() != 5000 || b.Depth() != 3000 {
				t.Fatalf("depth: got %d and %d, want 5000 and 3000", a.Depth(), b.Depth())
			}
			a.Attach()
			b.Attach()
			expect(t, a, 1000, 6000, true)
			expect(t, b, 3000, 6000, true)
			none(t, a)
			none(t, b)
			got := map[string]string{}
			j.Range("session/", func(k string, v []byte) bool { got[k] = string(v); return true })
			if len(got) != 2 || got["session/x"] != "1" {
				t.Fatalf("state: got %v", got)
			}
			retained := ""
			j.RangeRetained(func(m *broker.Message, _ Time) bool { retained += m.Topic + string(m.Payload); return true })
			if retained != "keepthis" {
				t.Fatalf("retained: got %q", retained)
			}
			if rec := j.Recovery(); rec.Damaged != 0 || len(rec.Aside)+len(rec.Foreign) != 0 || len(j.Losses()) != 0 {
				t.Fatalf("recovery: %+v, losses %v", rec, j.Losses())
			}
		})
	}
}

// TestDropOldest fills a small journal many times over and accounts for every message.
func TestDropOldest(t *testing.T) {
	dir := t.TempDir()
	small := func(o *Options) { o.MaxSize = smallestSize }
	j := open(t, dir, small)
	a, b := reader(t, j, "a"), reader(t, j, "b")
	a.Attach()
	const total = 60000
	for n := 0; n < total; n += 1000 {
		publish(t, j, n, n+1000, a, b)
		expect(t, a, n, n+1000, true)
	}
	closeJournal(t, j)
	var size int64
	names, _ := filepath.Glob(filepath.Join(dir, "*.seg"))
	for _, name := range names {
		info, _ := os.Stat(name)
		size += info.Size()
	}
	if size > smallestSize {
		t.Errorf("size: got %d, want at most %d", size, smallestSize)
	}
	// With more room nothing else is dropped while it is looked at.
	j = open(t, dir, func(o *Options) { o.MaxSize, o.SegmentSize = 2*smallestSize, smallestPart })
	defer closeJournal(t, j)
	b = reader(t, j, "b")
	b.Attach()
	var lost uint64
	for _, l := range j.Losses() {
		if l.Reader != "b" || l.Reason != ReasonSize {
			t.Fatalf("loss: %+v", l)
		}
		lost += l.Count
	}
	if lost == 0 || lost+b.Depth() != total {
		t.Fatalf("lost %d and kept %d, want %d together", lost, b.Depth(), total)
	}
	expect(t, b, int(lost), total, true)
	none(t, b)
}

func TestRefuseNew(t *testing.T) {
	j := open(t, t.TempDir(), func(o *Options) { o.MaxSize, o.WhenFull = smallestSize, RefuseNew })
	defer closeJournal(t, j)
	r := reader(t, j, "a")
	w := &waiter{}
	accepted := 0
	for {
		w.wg.Add(1)
		err := j.Append(Entry{Message: message(accepted), Owed: []Owed{{Reader: r, QoS: 1}}, Done: w})
		if err != nil {
			if !errors.Is(err, ErrFull) {
				t.Fatal(err)
			}
			w.wg.Done()
			break
		}
		accepted++
		if accepted > 1e5 {
			t.Fatal("never full")
		}
	}
	w.wg.Wait()
	if len(w.errs) > 0 || len(j.Losses()) > 0 {
		t.Fatalf("errors %v, losses %v", w.errs, j.Losses())
	}
	r.Attach()
	expect(t, r, 0, accepted, true)
	for {
		w.wg.Add(1)
		err := j.Append(Entry{Message: message(0), Owed: []Owed{{Reader: r, QoS: 1}}, Done: w})
		if err == nil {
			break
		}
		w.wg.Done()
		if !errors.Is(err, ErrFull) {
			t.Fatal(err)
		}
		publishState(t, j) // acknowledgements ride along
	}
	w.wg.Wait()
}

func publishState(t testing.TB, j *Journal) {
	t.Helper()
	w := &waiter{}
	w.wg.Add(1)
	if err := j.Append(Entry{Changes: []Change{{"k", []byte("v")}}, Done: w}); err != nil {
		t.Fatal(err)
	}
	w.wg.Wait()
}

func TestManyProducers(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, nil)
	r := reader(t, j, "a")
	r.Attach()
	const producers, each = 20, 1000
	var wg sync.WaitGroup
	for p := range producers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for n := range each {
				w := &waiter{}
				w.wg.Add(1)
				m := &broker.Message{Topic: fmt.Sprint(p), Payload: binary.LittleEndian.AppendUint64(nil, uint64(n)), QoS: 1}
				if err := j.Append(Entry{Message: m, Owed: []Owed{{Reader: r, QoS: 1}}, Done: w}); err != nil {
					t.Error(err)
					return
				}
				w.wg.Wait()
			}
		}()
	}
	next := map[string]int{}
	for range producers * each {
		d, err := r.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got := int(binary.LittleEndian.Uint64(d.Message.Payload)); got != next[d.Message.Topic] {
			t.Fatalf("producer %s: got %d, want %d", d.Message.Topic, got, next[d.Message.Topic])
		}
		next[d.Message.Topic]++
		r.Ack(d.Seq)
	}
	wg.Wait()
	st := j.Stats()
	t.Logf("%d messages, %d commits, %d syncs, %d bytes", st.Messages, st.Commits, st.Syncs, st.Written)
	closeJournal(t, j)
}

// TestDamage flips bytes in a closed journal: what they hit is lost and counted, the rest is there.
func TestDamage(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, nil)
	r := reader(t, j, "a")
	const total = 2000
	for n := 0; n < total; n += 10 {
		publish(t, j, n, n+10, r)
	}
	closeJournal(t, j)
	names, _ := filepath.Glob(filepath.Join(dir, "*.seg"))
	f, err := os.OpenFile(names[0], os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []int64{100, 9000, 9001, 70000, 200000} { // the first hits the header
		var b [1]byte
		f.ReadAt(b[:], at)
		b[0] ^= 0x40
		f.WriteAt(b[:], at)
	}
	f.Close()
	j = open(t, dir, nil)
	defer closeJournal(t, j)
	r = reader(t, j, "a")
	r.Attach()
	seen, last := 0, -1
	for {
		d, ok, err := r.TryNext()
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			break
		}
		if n := number(d.Message); n <= last {
			t.Fatalf("got %d after %d", n, last)
		} else {
			last = n
		}
		r.Ack(d.Seq)
		seen++
	}
	var lost uint64
	publishState(t, j)
	for _, l := range j.Losses() {
		lost += l.Count
	}
	if seen+int(lost) != total || lost == 0 || lost > 4 || r.Depth() != 0 {
		t.Fatalf("seen %d, lost %d, depth %d, want %d together: %v", seen, lost, r.Depth(), total, j.Losses())
	}
}

func TestSecondProcessIsRefused(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, nil)
	defer closeJournal(t, j)
	fs, _ := NewDirFS(dir)
	_, err := Open(Options{FS: fs})
	if err == nil {
		t.Fatal("opened twice")
	}
	if want := fmt.Sprint(os.Getpid()); !strings.Contains(err.Error(), want) {
		t.Fatalf("got %q, want the pid %s in it", err, want)
	}
}
