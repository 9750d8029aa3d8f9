package outbox

import (
	"encoding/binary"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/broker"
	"holdfast/broker/journal"
	"holdfast/broker/journal/simdisk"
)

// store is a journal in memory.
type store struct {
	t testing.TB
	j *journal.Journal
}

func newStore(t testing.TB) *store {
	t.Helper()
	j, err := journal.Open(journal.Options{FS: simdisk.New()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := j.Close(); err != nil {
			t.Error(err)
		}
	})
	return &store{t, j}
}

// queue makes a queue with readers of the journal.
func (s *store) queue(priority int, name string) *Queue {
	s.t.Helper()
	open := func(n int) (*journal.Reader, error) { return s.j.OpenReader(fmt.Sprintf("bridge/%s/%d", name, n)) }
	r, err := open(1)
	if err != nil {
		s.t.Fatal(err)
	}
	return NewQueue(priority, open, r)
}

// waiter is a journal.Completer for the test that waits for durability.
type waiter struct {
	sync.WaitGroup
	t testing.TB
}

func (w *waiter) Committed(_ *journal.Entry, _ uint64, err error) {
	if err != nil {
		w.t.Error(err)
	}
	w.Done()
}

// putNumbers makes messages from to to-1 durable for a queue's live reader, as the server does.
func (s *store) putNumbers(q *Queue, from, to int) {
	s.t.Helper()
	w := &waiter{t: s.t}
	for n := from; n < to; n++ {
		w.Add(1)
		m := &broker.Message{Topic: "t/n", Payload: binary.BigEndian.AppendUint32(nil, uint32(n)), QoS: 1}
		if err := s.j.Append(journal.Entry{Message: m, Owed: []journal.Owed{{Reader: q.Live(), QoS: 1}}, Done: w}); err != nil {
			s.t.Fatal(err)
		}
	}
	w.Wait()
}

func number(payload []byte) int { return int(binary.BigEndian.Uint32(payload)) }

func sequence(from, to int) (numbers []int) {
	for n := from; n < to; n++ {
		numbers = append(numbers, n)
	}
	return numbers
}

// TestReadersTakeTurns: each outage with a backlog makes another reader the live one, an empty one if there
// is one, and no more than a few.
func TestReadersTakeTurns(t *testing.T) {
	s := newStore(t)
	l := s.queue(1, "a")
	f := newScheduler(&Options{Queues: []*Queue{l}, LiveFirst: true, Share: 50})
	name := func(want string) {
		t.Helper()
		if got := l.Live().Name(); got != want {
			t.Errorf("live is %s, want %s", got, want)
		}
	}
	read := func(n int) (got []int) {
		t.Helper()
		for range n {
			d, ok, _, err := f.next(100, 1<<20)
			if !ok || err != nil {
				t.Fatal(ok, err)
			}
			got = append(got, number(d.Message.Payload))
			d.Reader.Ack(d.Seq)
			f.leave(&d)
		}
		return got
	}
	is := func(got, want []int) {
		t.Helper()
		if !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	}
	connect := func() {
		t.Helper()
		f.detach()
		if err := f.attach(1); err != nil {
			t.Fatal(err)
		}
	}
	connect()
	name("bridge/a/1")
	s.putNumbers(l, 0, 1)
	connect() // one message is not worth it
	name("bridge/a/1")
	s.putNumbers(l, 1, 10)
	for i, want := range []string{"bridge/a/2", "bridge/a/3", "bridge/a/4", "bridge/a/4"} {
		connect()
		name(want)
		s.putNumbers(l, 10*(i+1), 10*(i+2))
	}
	// 4 is live, with two outages in it; before it goes what is older, from the oldest on.
	is(read(20), sequence(30, 50))
	is(read(15), sequence(0, 15))
	s.putNumbers(l, 50, 60) // live
	connect()               // 1 is empty
	name("bridge/a/1")
	s.putNumbers(l, 60, 62)
	is(read(2), sequence(60, 62))
	is(read(25), append(sequence(15, 30), sequence(50, 60)...))
	if d, ok, _, err := f.next(100, 1<<20); ok || err != nil || f.late != 0 || f.bytes != 0 {
		t.Errorf("got %+v, %v, %v, %d and %d out", d, ok, err, f.late, f.bytes)
	}
	f.detach()

	// First in, first out, after a change of the configuration: from the oldest reader to the live one.
	s.putNumbers(l, 70, 75)
	l.rotate(0)
	s.putNumbers(l, 75, 80)
	f = newScheduler(&Options{Queues: []*Queue{NewQueue(1, nil, l.all()...)}, Share: 50})
	f.attach(0)
	is(read(10), sequence(70, 80))
	f.detach()
}

// TestRateIsObeyed on a clock that stands still: no second has more than its messages and bytes, and none
// less while there is something to send.
func TestRateIsObeyed(t *testing.T) {
	for _, c := range []struct {
		rate      Rate
		size      int
		perSecond float64 // messages
	}{
		{Rate{Messages: 100}, 10, 100},
		{Rate{Bytes: 50_000}, 200, 250},
		{Rate{Messages: 10, Bytes: 50_000}, 20_000, 2.5},
		{Rate{Messages: 1000, Bytes: 1000}, 5000, 0.2}, // each five times what a second takes
	} {
		t.Run(fmt.Sprint(c.rate, c.size), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLimiter(c.rate, 100)
				start := time.Now()
				sent := 0
				for time.Since(start) < 5*time.Minute {
					if wait := l.wait(); wait > 0 {
						time.Sleep(wait)
						continue
					}
					l.take(c.size)
					sent++
					// A second's worth, and one message, may go at once.
					if most := c.perSecond*(time.Since(start).Seconds()+1) + 1; float64(sent) > most {
						t.Fatalf("%d sent after %v, want at most %v", sent, time.Since(start), most)
					}
				}
				if least := c.perSecond * 299; float64(sent) < least {
					t.Errorf("%d sent in 5 minutes, want at least %v", sent, least)
				}
			})
		})
	}
}

func TestWindow(t *testing.T) {
	w, clean, lossy := newWindow(100), func() bool { return false }, func() bool { return true }
	for range 3 {
		w.sample(time.Millisecond, false, clean)
	}
	if n := w.now(65535); n != startWindow {
		t.Errorf("%d without need", n)
	}
	for range 10 {
		w.sample(10*time.Millisecond, true, clean)
	}
	if n := w.now(65535); n != 100 || w.now(20) != 20 {
		t.Errorf("%d on a good link, want all", n)
	}
	for range 100 { // a link on which each message takes 100 ms
		w.sample(time.Duration(w.now(65535))*100*time.Millisecond, true, clean)
	}
	if n := w.now(65535); n < 5 || n > 12 {
		t.Errorf("%d on a slow link, want what takes about a second", n)
	}
	for range 100 {
		w.sample(time.Minute, true, clean)
	}
	if n := w.now(65535); n != 1 {
		t.Errorf("%d on a dead link", n)
	}
	w.restart()
	if n := w.now(65535); n != lowWindow {
		t.Errorf("%d at the next one", n)
	}
	for range 100 {
		w.sample(10*time.Second, true, lossy)
	}
	if n := w.now(65535); n != 100 {
		t.Errorf("%d on a link that loses packets, want all", n)
	}
}
