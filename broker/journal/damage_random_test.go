package journal

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"holdfast/broker"
)

// TestDamageOfAnything gives journals to readers that acknowledge, fall behind and hold messages, over restarts and
// crashes, and then damages files of the directory: zeroed, cut off, overwritten, replaced by an older copy, deleted,
// swapped, doubled, half copied. Whatever it was:
//
//   - The journal opens, and can be looked at.
//   - What stands in a file that was not touched is handed out.
//   - What is missing is in the ledger, by its sequence numbers or as unknown.
//   - Nothing is invented: no message, no second copy, no state, and none that Depth counts and no reader gets, but for
//     damage in the middle of a segment, which is found when it is read.
//   - What is appended afterwards has new numbers, and is there after a crash and a restart, which find nothing new.
//
// Exempt is the end of a journal that was not closed, which looks like a torn tail (tail).
// HOLDFAST_DAMAGE_SEEDS sets how many runs there are, HOLDFAST_DAMAGE_FROM the first seed.
func TestDamageOfAnything(t *testing.T) {
	seeds, from := uint64(100), uint64(0)
	if testing.Short() {
		seeds = 15
	}
	if n, err := strconv.ParseUint(os.Getenv("HOLDFAST_DAMAGE_SEEDS"), 10, 64); err == nil {
		seeds = n
	}
	if n, err := strconv.ParseUint(os.Getenv("HOLDFAST_DAMAGE_FROM"), 10, 64); err == nil {
		from = n
	}
	for seed := from; seed < from+seeds; seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			d := &damageRun{T: t, rand: rand.New(rand.NewPCG(seed, 15)), data: t.TempDir(), sent: map[int]*sentMessage{}}
			d.run()
		})
	}
}

type damageRun struct {
	*testing.T
	rand *rand.Rand
	data string // with journal.start, and the journal in a directory of its own
	old  string // a copy of data from earlier; empty without one

	limited bool // so that segments are dropped and compacted

	j       *Journal
	readers []*Reader
	next    int
	sent    map[int]*sentMessage
	values  uint64 // of the state key and the retained topic, so far

	done    []string        // the damage, in words
	touched map[string]bool // files, by what they were called when they were damaged
	middle  bool            // damage that only reading finds
	crashed bool            // it was not closed
	newest  map[string]bool // segments; see tail
	before  []Loss          // without damage
}

type sentMessage struct {
	seq     uint64
	segment string
	owed    []bool // by reader
	acked   []bool
}

var damageReaders = []string{"a", "b", "c"}

func (d *damageRun) dir() string { return filepath.Join(d.data, "journal") }

func (d *damageRun) open() {
	os.MkdirAll(d.dir(), 0o750)
	d.j = open(d, d.dir(), func(o *Options) {
		o.SegmentSize, o.Beside = smallestPart, noSync{&DirFS{d.data}}
		if d.limited {
			o.MaxSize = 8 * smallestPart
		}
		withoutSync(o)
	})
	d.readers = nil
	for i, name := range damageReaders {
		r := reader(d, d.j, name)
		if err := r.SetPriority(byte(i)); err != nil {
			d.Fatal(err)
		}
		d.readers = append(d.readers, r)
	}
}

func (d *damageRun) run() {
	d.limited = d.rand.IntN(3) == 0
	d.open()
	for range 6 + d.rand.IntN(14) {
		switch d.rand.IntN(8) {
		case 0, 1, 2, 3:
			d.publish(1 + d.rand.IntN(2500))
		case 4, 5:
			d.take(d.rand.IntN(len(d.readers)), d.rand.IntN(4000), 0.1*d.rand.Float64())
		case 6:
			d.restart()
		case 7:
			d.old = d.copy()
		}
	}
	if d.rand.IntN(2) == 0 {
		data := d.copy()
		closeJournal(d, d.j)
		d.data, d.crashed = data, true
	} else {
		closeJournal(d, d.j)
	}
	d.locate()
	d.touched = map[string]bool{}
	for range 1 + d.rand.IntN(4) {
		d.damage()
	}
	if v, err := Inspect(d.dir()); err != nil && !strings.Contains(err.Error(), "holds no journal") {
		d.Fatalf("%v: it cannot be looked at: %v", d.done, err)
	} else if err == nil {
		v.Info()
	}
	d.open()
	d.check()
	d.goOn()
}

// copy is what a kill leaves now.
func (d *damageRun) copy() string {
	publishState(d, d.j) // with what was acknowledged
	data := d.TempDir()
	if err := os.Rename(crash(d, d.dir()), filepath.Join(data, "journal")); err != nil {
		d.Fatal(err)
	}
	if b, err := os.ReadFile(filepath.Join(d.data, startFile)); err == nil {
		if err := os.WriteFile(filepath.Join(data, startFile), b, 0o640); err != nil {
			d.Fatal(err)
		}
	}
	return data
}

func (d *damageRun) restart() {
	if d.rand.IntN(2) == 0 {
		data := d.copy()
		closeJournal(d, d.j)
		d.data = data
	} else {
		closeJournal(d, d.j)
	}
	d.open()
}

func (d *damageRun) publish(n int) {
	for n > 0 {
		part := min(n, 1+d.rand.IntN(400))
		var owed []Owed
		who := make([]bool, len(d.readers))
		for i, r := range d.readers {
			if who[i] = d.rand.IntN(3) > 0; who[i] {
				owed = append(owed, Owed{Reader: r, QoS: 1})
			}
		}
		w := &waiter{}
		for k := range part {
			w.wg.Add(1)
			if err := d.j.Append(Entry{Message: message(d.next + k), Owed: owed, Done: w}); err != nil {
				d.Fatal(err)
			}
		}
		w.wg.Wait()
		if len(w.errs) > 0 {
			d.Fatal(w.errs[0])
		}
		for k := range part {
			d.sent[d.next+k] = &sentMessage{seq: w.seqs[k], owed: who, acked: make([]bool, len(d.readers))}
		}
		d.next, n = d.next+part, n-part
	}
	d.values++
	value := binary.BigEndian.AppendUint64(nil, d.values)
	w := &waiter{}
	w.wg.Add(2)
	kept := &broker.Message{Topic: "kept", Payload: value, QoS: 1, Retain: true}
	for _, e := range []Entry{{Changes: []Change{{"key", value}}, Done: w}, {Message: kept, Retained: true, Done: w}} {
		if err := d.j.Append(e); err != nil {
			d.Fatal(err)
		}
	}
	w.wg.Wait()
}

// take has reader i get n messages, of which it keeps some.
func (d *damageRun) take(i, n int, keeps float64) (got []int) {
	r := d.readers[i]
	r.Attach()
	defer r.Detach()
	last := uint64(0)
	for range n {
		m, ok, err := r.TryNext()
		if err != nil {
			d.Fatalf("%v: %v", d.done, err)
		}
		if !ok {
			return got
		}
		n := number(m.Message)
		s := d.sent[n]
		if s == nil || !s.owed[i] || s.seq != m.Seq || m.Seq <= last || !bytes.Equal(m.Message.Payload, message(n).Payload) || m.Message.Topic != message(n).Topic {
			d.Fatalf("%v: %s got number %d as %d after %d: it was never sent to it, or was before", d.done, r.Name(), n, m.Seq, last)
		}
		last = m.Seq
		if d.rand.Float64() >= keeps {
			if r.Ack(m.Seq) { // else a limit gave it up meanwhile, and it is in the ledger
				s.acked[i] = true
				got = append(got, n)
			}
		}
	}
	return got
}

// locate finds out where the messages stand.
func (d *damageRun) locate() {
	v, err := Inspect(d.dir())
	if err != nil {
		d.Fatal(err)
	}
	d.before = v.Losses()
	err = v.Records(Select{}, func(r *Record) error {
		if r.Message != nil && len(r.Message.Payload) == 100 {
			d.sent[number(r.Message)].segment = r.Segment
		}
		return nil
	})
	if err != nil {
		d.Fatal(err)
	}
}

// damage does one thing to the files of a closed journal.
func (d *damageRun) damage() {
	names, _ := filepath.Glob(filepath.Join(d.dir(), "*.s*"))
	if beside := filepath.Join(d.data, startFile); d.rand.IntN(8) == 0 {
		if _, err := os.Stat(beside); err == nil {
			names = []string{beside}
		}
	}
	if len(names) == 0 {
		return
	}
	name := names[d.rand.IntN(len(names))]
	other := names[d.rand.IntN(len(names))]
	read := func(name string) []byte {
		b, err := os.ReadFile(name)
		if err != nil {
			d.Fatal(err)
		}
		return b
	}
	write := func(name string, b []byte) {
		if err := os.WriteFile(name, b, 0o640); err != nil {
			d.Fatal(err)
		}
	}
	b, what := read(name), ""
	at := 0
	if len(b) > 0 {
		at = d.rand.IntN(len(b))
	}
	d.touched[filepath.Base(name)] = true
	switch d.rand.IntN(12) {
	case 0:
		what = "zeroed"
		write(name, make([]byte, len(b)))
	case 1:
		what = fmt.Sprintf("cut off at %d of %d", at, len(b))
		write(name, b[:at])
	case 2:
		what = "emptied"
		write(name, nil)
	case 3:
		what = "overwritten"
		for i := range b {
			b[i] = byte(d.rand.Uint32())
		}
		write(name, b)
	case 4:
		length := min(len(b)-at, 1+d.rand.IntN(60_000))
		what = fmt.Sprintf("%d bytes overwritten at %d", length, at)
		for i := range b[at : at+length] {
			b[at+i] = byte(d.rand.Uint32())
		}
		write(name, b)
		d.middle = true
	case 5:
		length := min(len(b)-at, 1+d.rand.IntN(60_000))
		what = fmt.Sprintf("%d bytes zeroed at %d", length, at)
		clear(b[at : at+length])
		write(name, b)
		d.middle = true
	case 6:
		what = "zeroed from " + fmt.Sprint(at)
		clear(b[at:])
		write(name, b)
	case 7:
		if d.old == "" {
			return
		}
		rel, _ := filepath.Rel(d.data, name)
		older, err := os.ReadFile(filepath.Join(d.old, rel))
		if err != nil {
			return
		}
		what = "replaced by an older copy"
		write(name, older)
	case 8:
		what = "deleted"
		if err := os.Remove(name); err != nil {
			d.Fatal(err)
		}
	case 9:
		what = "swapped with " + filepath.Base(other)
		o := read(other)
		write(name, o)
		write(other, b)
		d.touched[filepath.Base(other)] = true
	case 10:
		suffix := filepath.Ext(name)
		double := filepath.Join(filepath.Dir(name), fmt.Sprintf("%016x%s", d.rand.IntN(60), suffix))
		what = "doubled as " + filepath.Base(double)
		write(double, b)
		d.touched[filepath.Base(double)] = true
	case 11:
		what = fmt.Sprintf("half over %s, to %d", filepath.Base(other), at)
		o := read(other)
		write(other, append(slices.Clone(b[:at]), o[min(at, len(o)):]...))
		d.touched[filepath.Base(other)] = true
		d.middle = true
	}
	d.done = append(d.done, filepath.Base(name)+" "+what)
}

// check reads everything and compares it with what was sent, what was damaged and the losses.
func (d *damageRun) check() {
	rec := d.j.Recovery()
	unknown := len(rec.Unknown) > 0
	d.Logf("%v: %+v", d.done, rec)
	for _, kind := range []struct {
		what  string
		value []byte
	}{{"state", d.state()}, {"retained", d.kept()}} {
		if kind.value == nil {
			continue
		}
		if v := binary.BigEndian.Uint64(kind.value); len(kind.value) != 8 || v == 0 || v > d.values {
			d.Errorf("%v: %s holds %x, which was never there", d.done, kind.what, kind.value)
		}
	}
	d.newest = d.tail()
	for i, r := range d.readers {
		before := map[int]bool{} // acknowledged before
		for n, s := range d.sent {
			before[n] = s.acked[i]
		}
		depth := r.Depth()
		lostBefore, droppedBefore := lost(d.j, r.Name()), dropped(d.j, r.Name())
		got := map[int]bool{}
		for _, n := range d.take(i, 1<<30, 0) {
			got[n] = true
		}
		if r.Depth() != 0 {
			d.Errorf("%v: %s has read all, and its depth is %d", d.done, r.Name(), r.Depth())
		}
		limit := dropped(d.j, r.Name()) - droppedBefore // while it was read
		if uint64(len(got))+limit > depth || !d.middle && uint64(len(got))+limit != depth {
			d.Errorf("%v: %s had a depth of %d when the journal was opened, and got %d", d.done, r.Name(), depth, len(got))
		}
		if found := lost(d.j, r.Name()) - lostBefore; depth != uint64(len(got))+found {
			d.Errorf("%v: %s had a depth of %d, and got %d and lost %d", d.done, r.Name(), depth, len(got), found)
		}
		var missing uint64
		losses := d.j.Losses()
		for n, s := range d.sent {
			if !s.owed[i] || before[n] || got[n] {
				continue
			}
			here := func(l Loss) bool {
				return (l.Reader == "" || l.Reader == r.Name()) && l.First <= s.seq && s.seq <= l.Last
			}
			if slices.ContainsFunc(append(slices.Clip(d.before), losses...), func(l Loss) bool { return here(l) && l.Reason == ReasonSize }) {
				continue
			}
			missing++
			if s.segment != "" && !d.touched[s.segment] {
				d.Errorf("%v: %s misses %d (%d), which stands in %s", d.done, r.Name(), n, s.seq, s.segment)
				break
			}
			named := slices.ContainsFunc(losses, here)
			// Of several holes in a segment the first has the losses of all, as far as it has room.
			if !named && !unknown && !d.middle && !d.newest[s.segment] {
				d.Errorf("%v: %s misses %d (%d), which nothing tells: %+v", d.done, r.Name(), n, s.seq, losses)
				break
			}
		}
		byNobody := slices.ContainsFunc(losses, func(l Loss) bool { return l.Reader == "" })
		if counted := lost(d.j, r.Name()); missing > counted && !unknown && !byNobody && len(d.newest) == 0 {
			d.Errorf("%v: %s misses %d, and the ledger has %d: %+v", d.done, r.Name(), missing, counted, losses)
		}
	}
}

// tail is the newest segments, as far as nothing that was not touched can tell that they were there: behind them stands
// no other, and the checkpoints do not know of them, or were touched, and so was the file beside the journal, or the journal
// was not closed. They cannot be told from a commit that a power cut has torn.
func (d *damageRun) tail() map[string]bool {
	snapshots := false
	for name := range d.touched {
		snapshots = snapshots || strings.HasSuffix(name, snapSuffix)
	}
	if !d.crashed && !(snapshots && d.touched[startFile]) {
		return nil
	}
	var names []string // in the order of the log
	for n := range d.next {
		if s := d.sent[n]; s.segment != "" && !slices.Contains(names, s.segment) {
			names = append(names, s.segment)
		}
	}
	tail := map[string]bool{}
	for _, name := range slices.Backward(names) {
		if !d.touched[name] {
			break
		}
		tail[name] = true
	}
	return tail
}

func (d *damageRun) state() (value []byte) {
	d.j.Range("key", func(_ string, v []byte) bool { value = v; return false })
	return value
}

func (d *damageRun) kept() (value []byte) {
	d.j.RangeRetained(func(m *broker.Message, _ Time) bool { value = m.Payload; return false })
	return value
}

// goOn uses the journal after the damage, over a crash and a restart.
func (d *damageRun) goOn() {
	losses := fmt.Sprint(lossesWithoutTime(d.j))
	first, begin := d.next, uint64(0)
	for _, s := range d.sent {
		begin = max(begin, s.seq)
	}
	waits := make([]uint64, len(d.readers))
	for round := range 3 {
		from := d.next
		d.publish(1 + d.rand.IntN(600))
		for n := from; n < d.next; n++ {
			for i := range waits {
				if d.sent[n].owed[i] {
					waits[i]++
				}
			}
		}
		switch round {
		case 0:
			data := d.copy()
			closeJournal(d, d.j)
			d.data = data
		case 1:
			closeJournal(d, d.j)
		}
		if round < 2 {
			d.open()
			if rec := d.j.Recovery(); len(rec.Unknown) > 0 || rec.Rewound || rec.Damaged > 0 {
				d.Errorf("%v: opened again after it was mended: %+v", d.done, rec)
			}
		}
	}
	if now := fmt.Sprint(lossesWithoutTime(d.j)); now != losses {
		d.Errorf("%v: losses after a restart: got %v, want %v", d.done, now, losses)
	}
	for i, r := range d.readers {
		if r.Depth() != waits[i] {
			d.Errorf("%v: %s has a depth of %d, want %d", d.done, r.Name(), r.Depth(), waits[i])
		}
		got := d.take(i, 1<<30, 0)
		if uint64(len(got)) != waits[i] || len(got) > 0 && got[0] < first {
			d.Errorf("%v: %s got %d that were appended after the damage, want %d", d.done, r.Name(), len(got), waits[i])
		}
	}
	closeJournal(d, d.j)
}

// dropped returns how many messages of a reader the limit of the size has cost.
func dropped(j *Journal, reader string) (n uint64) {
	for _, l := range j.Losses() {
		if l.Reader == reader && l.Reason == ReasonSize {
			n += l.Count
		}
	}
	return n
}

func lossesWithoutTime(j *Journal) (list []string) {
	for _, l := range j.Losses() {
		list = append(list, fmt.Sprintf("%s %d-%d %d %s", l.Reader, l.First, l.Last, l.Count, l.Reason))
	}
	return list
}
