// Package outboxtest holds the faults that every sink of an outbox has to get over, and a sink without a protocol.
//
// Run runs each fault against an outbox with the sink under test, on a fake clock (testing/synctest) and with a journal
// in memory. The sink's package provides the other side: an Upstream that is scripted by the faults.
package outboxtest

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/broker"
	"holdfast/broker/journal"
	"holdfast/broker/journal/simdisk"
	"holdfast/broker/outbox"
)

// Subject is an outbox with the sink under test, and its other side.
type Subject struct {
	Run      func(ctx context.Context) error
	Stats    func() outbox.Stats
	Upstream Upstream
}

// Open makes a Subject of options that the fault has chosen. It is called once for each Run, within a bubble of synctest.
// The sink sends every message, whatever its topic is.
type Open func(t *testing.T, o outbox.Options) Subject

// Upstream is the other side of a sink.
type Upstream interface {
	// Accept waits for the next attempt to connect, and accepts it.
	Accept() Peer
	// Refuse waits for the next attempt to connect, and refuses it.
	Refuse()
}

// Peer is one connection as the other side sees it. What keeps a connection alive, it does by itself.
type Peer interface {
	// Receive returns the next message, or false if none comes within a time or the connection has ended.
	Receive(within time.Duration) (Received, bool)
	// Answer says something to what has a reference, be it that of another connection. It reports whether the
	// protocol has such an answer; Taken it always has.
	Answer(ref uint64, a outbox.Answer) bool
	// End ends the connection in the middle, as an upstream that closes it.
	End()
	// Ended waits for the sink to end the connection, and reports whether it did within a time.
	Ended(within time.Duration) bool
}

// Received is a message that has arrived. Several may share a reference.
type Received struct {
	Ref     uint64
	Payload []byte
}

const (
	ackTimeout = 30 * time.Second
	soon       = 20 * time.Second // long enough for any backoff of these tests
	quiet      = 500 * time.Millisecond
)

// fault is one test.
type fault struct {
	name string
	run  func(*lab)
}

// Run runs all faults.
func Run(t *testing.T, open Open) {
	for _, f := range []fault{
		{"connections are refused", refusedConnections},
		{"the connection ends in the middle", endsInTheMiddle},
		{"answers out of order", outOfOrder},
		{"no answer, ever", noAnswer},
		{"answers twice", answersTwice},
		{"answers after the next connection", lateAnswers},
		{"a message is refused", refusedMessage},
		{"a refused message cannot be kept", refusedAndNotKept},
		{"a message is taken later", takenLater},
		{"a message is doubtful for ever", doubtful},
		{"a message ends the connection", poisonous},
		{"every connection ends", flapping},
		{"a slow other side", slow},
		{"stop while messages are in flight", stopInFlight},
		{"stop while nothing answers", stopUnanswered},
		{"stop while connections are refused", stopRefused},
		{"the journal cannot be read", unreadable},
		{"lifetime is over", expired},
		{"what is new goes first", liveFirst},
		{"priorities", priorities},
		{"rate", rate},
		{"window of messages", windowOfMessages},
		{"window of bytes", windowOfBytes},
	} {
		t.Run(f.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLab(t, open)
				f.run(l)
			})
		})
	}
	for seed := range uint64(20) {
		t.Run(fmt.Sprint("at random/", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLab(t, open)
				atRandom(l, seed)
			})
		})
	}
}

// failing is a file system from which nothing can be read while fail is set.
type failing struct {
	journal.FS
	fail atomic.Bool
}

func (f *failing) Open(name string, create bool) (journal.File, error) {
	if f.fail.Load() && !create {
		return nil, syscall.EIO
	}
	return f.FS.Open(name, create)
}

// lab is a journal, and an outbox that may be started several times.
type lab struct {
	t    *testing.T
	open Open
	fs   *failing
	j    *journal.Journal
	q    *outbox.Queue // of put
	logs syncBuffer
	opts outbox.Options

	mu   sync.Mutex
	dead map[int]string // numbers that were refused, and why
	keep error          // instead of keeping them

	sub  Subject
	stop context.CancelFunc
	done chan struct{}
	n    int // messages that were put
}

// syncBuffer is a bytes.Buffer for several goroutines.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func newLab(t *testing.T, open Open) *lab {
	l := &lab{t: t, open: open, fs: &failing{FS: simdisk.New()}, dead: map[int]string{}}
	var err error
	if l.j, err = journal.Open(journal.Options{FS: l.fs}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.close)
	l.q = l.queue(1, "a")
	l.opts = outbox.Options{
		Name: "test", Queues: []*outbox.Queue{l.q}, Window: 10, BackoffMin: time.Second, BackoffMax: 8 * time.Second, AckTimeout: ackTimeout,
		Refused: func(d *journal.Delivery, reason string) error {
			l.mu.Lock()
			defer l.mu.Unlock()
			if l.keep == nil {
				l.dead[number(d.Message.Payload)] = reason
			}
			return l.keep
		},
		Log: slog.New(slog.NewTextHandler(&l.logs, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	return l
}

func (l *lab) queue(priority int, name string) *outbox.Queue {
	l.t.Helper()
	open := func(n int) (*journal.Reader, error) { return l.j.OpenReader(fmt.Sprintf("bridge/%s/%d", name, n)) }
	r, err := open(1)
	if err != nil {
		l.t.Fatal(err)
	}
	return outbox.NewQueue(priority, open, r)
}

// start runs the outbox.
func (l *lab) start() {
	var ctx context.Context
	ctx, l.stop = context.WithCancel(context.Background())
	l.sub, l.done = l.open(l.t, l.opts), make(chan struct{})
	go func() {
		defer close(l.done)
		if err := l.sub.Run(ctx); err != nil {
			l.t.Error(err)
		}
	}()
}

// accept accepts the next attempt to connect, which comes within an hour or never.
func (l *lab) accept() Peer {
	defer l.within(time.Hour)()
	return l.sub.Upstream.Accept()
}

func (l *lab) refuse() {
	defer l.within(time.Hour)()
	l.sub.Upstream.Refuse()
}

// within panics if what follows takes longer: nothing else ends a wait on a clock that is not real.
func (l *lab) within(d time.Duration) (in func() bool) {
	return time.AfterFunc(d, func() { panic(fmt.Sprintf("the outbox makes no connection: %+v\n%s", l.sub.Stats(), &l.logs)) }).Stop
}

// halt ends the outbox, and returns how long that took.
func (l *lab) halt() time.Duration {
	began := time.Now()
	l.stop()
	<-l.done
	return time.Since(began)
}

func (l *lab) close() {
	if l.done != nil {
		l.halt()
	}
	if err := l.j.Close(); err != nil {
		l.t.Error(err)
	}
	synctest.Wait()
}

// durable is a journal.Completer.
type durable struct {
	sync.WaitGroup
	t *testing.T
}

func (d *durable) Committed(_ *journal.Entry, _ uint64, err error) {
	if err != nil {
		d.t.Error(err)
	}
	d.Done()
}

// put makes n more messages durable for a queue, and returns the number of the first. Each is numbered in the order of
// put, on one of two topics.
func (l *lab) put(q *outbox.Queue, n int, change func(*broker.Message)) (first int) {
	l.t.Helper()
	d := &durable{t: l.t}
	first = l.n
	for range n {
		m := &broker.Message{Topic: fmt.Sprintf("t/%d", l.n%2), Payload: binary.BigEndian.AppendUint32(nil, uint32(l.n)), QoS: 1}
		l.n++
		if change != nil {
			change(m)
		}
		d.Add(1)
		if err := l.j.Append(journal.Entry{Message: m, Owed: []journal.Owed{{Reader: q.Live(), QoS: 1}}, Done: d}); err != nil {
			l.t.Fatal(err)
		}
	}
	d.Wait()
	return first
}

func number(payload []byte) int { return int(binary.BigEndian.Uint32(payload)) }

// expect receives these messages, in this order.
func (l *lab) expect(p Peer, numbers ...int) (all []Received) {
	l.t.Helper()
	for _, n := range numbers {
		m, ok := p.Receive(soon)
		if !ok {
			l.t.Fatalf("got nothing, want %d\n%s", n, &l.logs)
		}
		if got := number(m.Payload); got != n {
			l.t.Fatalf("got %d, want %d\n%s", got, n, &l.logs)
		}
		all = append(all, m)
	}
	return all
}

// each puts messages and receives them one by one, so that none shares a reference with another.
func (l *lab) each(p Peer, n int) (all []Received) {
	l.t.Helper()
	for range n {
		all = append(all, l.expect(p, l.put(l.q, 1, nil))...)
	}
	return all
}

// nothing checks that no message comes.
func (l *lab) nothing(p Peer) {
	l.t.Helper()
	if m, ok := p.Receive(quiet); ok {
		l.t.Fatalf("got %d, want nothing", number(m.Payload))
	}
}

// take answers messages.
func take(p Peer, all ...Received) {
	last := uint64(0)
	for _, m := range all {
		if m.Ref != last {
			p.Answer(m.Ref, outbox.Taken)
		}
		last = m.Ref
	}
}

// stats checks figures once nothing is going on.
func (l *lab) stats(check func(st outbox.Stats) bool) {
	l.t.Helper()
	time.Sleep(quiet)
	synctest.Wait()
	if st := l.sub.Stats(); !check(st) {
		l.t.Errorf("got %+v\n%s", st, &l.logs)
	}
}

func sequence(from, to int) (numbers []int) {
	for n := from; n < to; n++ {
		numbers = append(numbers, n)
	}
	return numbers
}

func (l *lab) refused() map[int]string {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := map[int]string{}
	for n, why := range l.dead {
		all[n] = why
	}
	return all
}

// available receives what there is, once something is: all of a batch that shares a reference, and perhaps more.
func available(p Peer, within time.Duration) (all []Received) {
	for m, ok := p.Receive(within); ok; m, ok = p.Receive(0) {
		all = append(all, m)
	}
	return all
}

// drained receives and takes all that comes, and returns the numbers in the order in which each came first.
func (l *lab) drained(p Peer) (first []int) {
	for all := available(p, soon); len(all) > 0; all = available(p, soon) {
		for _, m := range all {
			if n := number(m.Payload); !slices.Contains(first, n) {
				first = append(first, n)
			}
		}
		take(p, all...)
	}
	return first
}
