package journal

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// account is what a test knows of a reader.
type account struct {
	owed  map[int]bool // numbers of messages; true once acknowledged
	acked uint64
}

// TestLedgerOfAnything has readers of different priorities fall behind, acknowledge, refuse and hold what they get,
// while limits, ages, crashes, restarts and damage come in any order. In the end each has got or has lost, by the ledger,
// exactly what it was owed, and nothing was lost for space while there was plenty.
// HOLDFAST_LEDGER_SEEDS sets how many runs there are.
func TestLedgerOfAnything(t *testing.T) {
	seeds := 30
	if s := os.Getenv("HOLDFAST_LEDGER_SEEDS"); s != "" {
		var err error
		if seeds, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	start := uint64(0)
	if s := os.Getenv("HOLDFAST_LEDGER_FROM"); s != "" {
		start, _ = strconv.ParseUint(s, 10, 64)
	}
	for seed := start; seed < start+uint64(seeds); seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			l := &ledgerRun{t: t, rand: rand.New(rand.NewPCG(seed, 3)), clock: &wallClock{}, dir: t.TempDir()}
			l.run()
		})
	}
}

type ledgerRun struct {
	t     *testing.T
	rand  *rand.Rand
	clock *wallClock
	now   time.Time
	dir   string
	parts int64 // of max_size

	refuses bool // when it is full
	refused bool // the last one was
	damaged bool

	j       *Journal
	names   []string
	readers []*Reader
	known   []*account
	next    int
}

func (l *ledgerRun) options(o *Options) {
	o.MaxSize, o.SegmentSize, o.Clock = l.parts*smallestPart, smallestPart, l.clock
	o.MaxAge = 24 * time.Hour
	if l.refuses {
		o.WhenFull = RefuseNew
	}
	numbered(o)
	withoutSync(o)
}

func (l *ledgerRun) open() {
	l.j = open(l.t, l.dir, l.options)
	l.readers = nil
	for i, name := range l.names {
		r := reader(l.t, l.j, name)
		if err := r.SetPriority(byte(i)); err != nil {
			l.t.Fatal(err)
		}
		l.readers = append(l.readers, r)
	}
}

func (l *ledgerRun) run() {
	l.now = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	l.clock.set(l.now, true)
	l.parts, l.refuses = []int64{8, 12, 20}[l.rand.IntN(3)], l.rand.IntN(3) == 0
	for i := range 1 + l.rand.IntN(4) {
		l.names = append(l.names, fmt.Sprint("r", i))
		l.known = append(l.known, &account{owed: map[int]bool{}})
	}
	l.open()
	for range 10 + l.rand.IntN(40) {
		before, waiting := l.lostForSpace(), l.waiting()
		l.step()
		if lost := l.lostForSpace() - before; lost > 0 && (l.refuses || max(waiting, l.waiting()) < l.room() && !l.damaged) {
			l.t.Errorf("%d messages lost for space while %d bytes waited, with room for %d", lost, waiting, l.room())
		}
		if l.refused && l.waiting() < l.room() && !l.damaged { // it takes messages again by itself
			housekept(l.t, l.j, func() bool { return l.append(1, l.readers[:1]) == 1 })
			l.known[0].owed[l.next] = false
			l.next++
			l.refused = false
		}
		if l.t.Failed() {
			break
		}
	}
	for _, r := range l.readers {
		r.SetLimit(0)
	}
	housekeep(l.t, l.j)
	for i := range l.readers {
		l.take(i, 1<<30, 0, 0)
	}
	publishState(l.t, l.j)
	for i := range l.readers {
		l.check(i)
	}
	closeJournal(l.t, l.j)
}

// waiting is at most how many bytes of messages are pending for any reader.
func (l *ledgerRun) waiting() (bytes int64) {
	for _, r := range l.readers {
		bytes += int64(r.Depth()) * 180
	}
	return bytes
}

func (l *ledgerRun) lostForSpace() (n uint64) {
	for _, r := range l.j.Readers() {
		n += r.Lost[ReasonSize]
	}
	return n
}

func (l *ledgerRun) step() {
	i := l.rand.IntN(len(l.readers))
	switch l.rand.IntN(12) {
	case 0, 1, 2, 3:
		l.publish(1 + l.rand.IntN(4000))
	case 4, 5:
		l.take(i, l.rand.IntN(3000), l.rand.Float64()*0.5, l.rand.Float64()*0.1)
	case 6:
		l.take(i, 1<<30, 0, 0)
	case 7:
		l.readers[i].SetLimit(l.rand.Int64N(l.parts) * smallestPart / 2)
		l.j.running.wakeMaintainer()
	case 8:
		l.now = l.now.Add(time.Duration(l.rand.Int64N(int64(20 * time.Hour))))
		l.clock.pass(l.now, l.rand.IntN(4) > 0)
		housekeep(l.t, l.j)
	case 9, 10:
		crashed := crash(l.t, l.dir)
		closeJournal(l.t, l.j)
		l.dir = crashed
		l.open()
	case 11:
		closeJournal(l.t, l.j)
		if l.rand.IntN(3) == 0 {
			l.damage()
		}
		l.open()
	}
	publishState(l.t, l.j) // with what was acknowledged
}

// damage changes some bytes of a closed journal.
func (l *ledgerRun) damage() {
	names, err := filepath.Glob(filepath.Join(l.dir, "*"+segSuffix))
	if err != nil {
		l.t.Fatal(err)
	}
	for range 1 + l.rand.IntN(3) {
		if len(names) > 0 {
			rot(l.t, names[l.rand.IntN(len(names))], headerSize+l.rand.Int64N(smallestPart-headerSize), 1+l.rand.Int64N(2000))
			l.damaged = true
		}
	}
}

func (l *ledgerRun) publish(n int) {
	for n > 0 {
		part := min(n, 1+l.rand.IntN(500))
		var to []*Reader
		for i, r := range l.readers {
			if l.rand.IntN(3) > 0 {
				to = append(to, r)
				for k := range part {
					l.known[i].owed[l.next+k] = false
				}
			}
		}
		taken := l.append(part, to)
		l.next, n = l.next+part, n-part
		if taken < part {
			return
		}
	}
}

// settling is what becomes of messages that were taken in.
type settling struct {
	waiter
	refused []int // by a commit that found no space
}

func (w *settling) Committed(e *Entry, seq uint64, err error) {
	if errors.Is(err, ErrFull) {
		w.mu.Lock()
		w.refused = append(w.refused, number(e.Message))
		w.mu.Unlock()
		err = nil
	}
	w.waiter.Committed(e, seq, err)
}

// append has n messages taken in, or fewer if the journal is full and refuses. With damaged segments, which cannot be
// compacted, a commit may refuse some, whatever the policy is.
func (l *ledgerRun) append(n int, to []*Reader) (taken int) {
	var owed []Owed
	for _, r := range to {
		owed = append(owed, Owed{Reader: r, QoS: 1})
	}
	w := &settling{}
	for k := range n {
		w.wg.Add(1)
		err := l.j.Append(Entry{Message: message(l.next + k), Owed: owed, Done: w})
		if err != nil {
			w.wg.Done()
			if !errors.Is(err, ErrFull) || !l.refuses {
				l.t.Error(err)
			}
			w.mu.Lock()
			for ; k < n; k++ {
				w.refused = append(w.refused, l.next+k)
			}
			w.mu.Unlock()
			break
		}
		taken++
	}
	w.wg.Wait()
	if len(w.errs) > 0 {
		l.t.Error(w.errs[0])
	}
	if late := len(w.refused) - (n - taken); late > 0 && !l.damaged {
		l.t.Errorf("%d messages were taken in and then refused", late)
	}
	for _, number := range w.refused { // no reader is owed it
		for _, a := range l.known {
			delete(a.owed, number)
		}
	}
	l.refused = l.refused || len(w.refused) > 0
	return n - len(w.refused)
}

// room is how many bytes of messages may wait, at least, before there is no space: segments that are less than half
// full are compacted, unless they are damaged.
func (l *ledgerRun) room() int64 { return (l.parts - reserved - 5) * smallestPart / 2 }

// take has reader i get n messages, of which it holds some and refuses some, and acknowledges the others.
func (l *ledgerRun) take(i, n int, holds, refuses float64) {
	r, a := l.readers[i], l.known[i]
	r.Attach()
	var held []Delivery
	last := uint64(0)
	for range n {
		d, ok, err := r.TryNext()
		if err != nil {
			l.t.Fatal(err)
		}
		if !ok {
			break
		}
		number := number(d.Message)
		if acked, owed := a.owed[number]; !owed || acked || d.Seq <= last {
			l.t.Fatalf("%s got %d after %d, number %d: owed %v, acknowledged %v", r.Name(), d.Seq, last, number, owed, acked)
		}
		last = d.Seq
		switch x := l.rand.Float64(); {
		case x < holds:
			held = append(held, d)
		case x < holds+refuses:
			r.Drop(&d, ReasonRefused)
		default:
			l.ack(r, a, d)
		}
	}
	l.rand.Shuffle(len(held), func(i, k int) { held[i], held[k] = held[k], held[i] })
	for _, d := range held[:len(held)/2] {
		l.ack(r, a, d)
	}
	r.Detach()
}

func (l *ledgerRun) ack(r *Reader, a *account, d Delivery) {
	if r.Ack(d.Seq) {
		a.owed[number(d.Message)] = true
		a.acked++
	}
}

// check compares what reader i has received with the losses.
func (l *ledgerRun) check(i int) {
	r, a := l.readers[i], l.known[i]
	var lost, total uint64
	named := map[int]bool{}
	for _, loss := range l.j.Losses() {
		if loss.Reader != r.Name() {
			continue
		}
		lost += loss.Count
		if loss.Numbers.Count != loss.Count && !l.damaged {
			l.t.Errorf("%s: numbers of %+v", r.Name(), loss)
		}
		for n := loss.Numbers.First; n <= loss.Numbers.Last; n++ {
			named[int(n)] = true
		}
	}
	for _, info := range l.j.Readers() {
		if info.Name == r.Name() {
			for _, n := range info.Lost {
				total += n
			}
		}
	}
	if a.acked+lost != uint64(len(a.owed)) || total != lost || r.Depth() != 0 {
		l.t.Errorf("%s: %d acknowledged and %d lost of %d (%d in all), %d left", r.Name(), a.acked, lost, len(a.owed), total, r.Depth())
	}
	for n, acked := range a.owed {
		if !acked && !named[n] && !l.damaged { // what cannot be read has no number
			l.t.Errorf("%s: %d is neither acknowledged nor in a range that was lost", r.Name(), n)
			break
		}
	}
}
