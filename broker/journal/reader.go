package journal

import (
	"context"
	"sync"

	"holdfast/broker"
)

// Delivery is one message for one reader. Message is shared and must not be changed.
type Delivery struct {
	Seq     uint64
	Message *broker.Message
	QoS     byte // 1 or 2: the most the reader was granted; the message's own may be lower
	Retain  bool
	Time    Time
	Resend  bool    // may have been handed out before
	Reader  *Reader // that it was handed out by

	before uint64 // the reader's message before it; 0 if that is not known
}

// Reader is a named cursor: it returns, in order, every message that it is owed, and keeps those
// that it has not acknowledged. It begins detached. TryNext, Next, Attach and Detach are for one
// consumer at a time; everything else is safe for concurrent use.
//
// Locks are taken in this order: consumer or look.mu, Journal.mu, mu.
type Reader struct {
	j     *Journal
	id    uint64
	ready chan struct{}

	consumer sync.Mutex // held by the consumer's calls, also while they read the disk
	scan     diskScan   // where it reads the log; guarded by consumer
	look     lookout    // of Oldest; has a lock of its own

	reg registration // guarded by Journal.mu

	mu      sync.Mutex // guards all below
	notify  func()     // see Notify
	limit   int64      // see SetLimit
	buffer  buffer     // what it gets from memory
	backlog backlog    // what is owed, handed out and settled
}

func newReader(j *Journal, name string, id, next uint64) *Reader {
	return &Reader{
		j: j, id: id, ready: make(chan struct{}, 1), backlog: newBacklog(next),
		reg: registration{name: name, durable: ackState{top: next, handed: next}},
	}
}

// Name returns the reader's name.
func (r *Reader) Name() string {
	r.j.mu.Lock()
	defer r.j.mu.Unlock()
	return r.reg.name
}

// ID returns a number that no other reader of the journal has had before. It outlives the process.
func (r *Reader) ID() uint64 { return r.id }

// Depth returns the number of messages owed and neither acknowledged nor dropped.
func (r *Reader) Depth() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.backlog.depth()
}

// Notify sets f, which is called when TryNext may succeed after it reported false, besides the value in Ready. f
// must neither block nor call the journal. A reader has one f, set before Attach.
func (r *Reader) Notify(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.notify = f
}

// announce is called with mu held.
func (r *Reader) announce() {
	signal(r.ready)
	if r.notify != nil {
		r.notify()
	}
}

// Attach starts, or starts again, at the lowest unacknowledged message. Messages above it that are already
// acknowledged are not handed out again.
func (r *Reader) Attach() {
	r.consumer.Lock()
	defer r.consumer.Unlock()
	r.scan.close(r.j)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.buffer.begin(r.backlog.rewind(), &r.j.memory)
	r.announce()
}

// Detach frees the reader's memory. Messages stay on disk.
func (r *Reader) Detach() {
	r.consumer.Lock()
	defer r.consumer.Unlock()
	r.scan.close(r.j)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.buffer.end(&r.j.memory)
}

// offer gives the reader a message that has just become durable. Called in order of Seq, with
// Journal.mu held.
func (r *Reader) offer(d *Delivery) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.backlog.owe(d.Seq)
	if r.buffer.attached {
		r.buffer.offer(d, &r.j.memory)
		r.announce()
	}
}

// Ready receives a value when TryNext may succeed after it reported false.
func (r *Reader) Ready() <-chan struct{} { return r.ready }

// TryNext returns the next message. It does not wait for one, but may read the disk. ok is false
// while there is none, or the reader is detached.
func (r *Reader) TryNext() (d Delivery, ok bool, err error) {
	r.consumer.Lock()
	defer r.consumer.Unlock()
	for {
		r.mu.Lock()
		if !r.buffer.attached {
			r.mu.Unlock()
			return Delivery{}, false, nil
		}
		if r.buffer.queue.n > 0 {
			d = r.buffer.take(&r.j.memory)
			ok = r.hand(&d)
			r.mu.Unlock()
			if ok {
				return d, true, nil
			}
			continue
		}
		next, tail := r.backlog.next, r.backlog.tail
		if next >= tail {
			r.buffer.caughtUp()
			r.mu.Unlock()
			r.scan.close(r.j)
			return Delivery{}, false, nil
		}
		r.mu.Unlock()
		r.scan.wake(r.j)
		d, found, err := r.scan.find(r, next)
		if err != nil {
			return Delivery{}, false, err
		}
		r.mu.Lock()
		if found {
			ok = r.hand(&d)
		} else { // everything below tail was durable before the search
			r.backlog.pass(tail)
		}
		r.mu.Unlock()
		if ok {
			return d, true, nil
		}
	}
}

// hand is backlog.hand. Called with mu held.
func (r *Reader) hand(d *Delivery) bool {
	d.Reader = r
	return r.backlog.hand(d)
}

// Rest frees the memory that reading the log takes, where many readers take much together. A consumer calls it when it
// takes nothing for a while, for example because its own receiver does not answer. The next TryNext
// reads on from the same place.
func (r *Reader) Rest() {
	r.consumer.Lock()
	defer r.consumer.Unlock()
	r.scan.rest(r.j)
}

// Next waits for the next message. It returns ctx's error, or ErrClosed.
func (r *Reader) Next(ctx context.Context) (Delivery, error) {
	for {
		d, ok, err := r.TryNext()
		if ok || err != nil {
			return d, err
		}
		select {
		case <-r.ready:
		case <-ctx.Done():
			return Delivery{}, ctx.Err()
		}
		r.j.mu.Lock()
		closing := r.j.closing
		r.j.mu.Unlock()
		if closing {
			return Delivery{}, ErrClosed
		}
	}
}

// Ack acknowledges a message: the consumer does not need it any more. It may be called in any order, and again.
// It does not wait: the acknowledgement is on disk with the next commit, or within a second. It returns false if
// the message is settled already, also if a limit dropped it while the consumer had it: then it is in Losses.
func (r *Reader) Ack(seq uint64) bool {
	if !r.settleOne(seq) {
		return false
	}
	j := r.j
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.acks.note(r) {
		j.running.wakeCommitter()
	}
	return true
}

// settleOne settles a message. It returns false if the message is settled already.
func (r *Reader) settleOne(seq uint64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.backlog.settleOne(seq)
}

// takeAck returns the acknowledgements of the reader to write. Called with Journal.mu held.
func (r *Reader) takeAck() (a ackState, ok bool) {
	r.reg.dirty = false
	if r.reg.removed {
		return a, false
	}
	return r.ackState(), true
}

// settledSince returns how many messages were settled since a. Called with Journal.mu held.
func (r *Reader) settledSince(a *ackState) uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.backlog.settled - a.settled
}

// ackState is called with Journal.mu held.
func (r *Reader) ackState() ackState {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.backlog.ackState()
}

// restore sets a reader to the state that the log has. Called with Journal.mu held, or by recovery.
func (r *Reader) restore(a ackState) {
	r.reg.durable = a
	r.backlog.restore(a)
}

// settle settles the messages from first to last that are pending for the reader and cannot be delivered any more. It
// returns where they begin and how many they are: handed counts those that were handed out, ahead the others. ahead is
// at most most, and no more than the reader is owed without those behind. It is
// one step, so that a message acknowledged meanwhile does not count. All that is owed before first is settled or
// handed out, or first is 0. Called with Journal.mu held.
func (r *Reader) settle(first, last, most, behind uint64) (from, handed, ahead uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	from, handed, ahead = r.backlog.settle(first, last, most, behind)
	for d := r.buffer.next(); d != nil && d.Seq <= last; d = r.buffer.next() {
		r.buffer.take(&r.j.memory)
	}
	return from, handed, ahead
}

// firstWaiting returns the lowest sequence number that may be unsettled. Called with Journal.mu held.
func (r *Reader) firstWaiting() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.backlog.cursor()
}

// waitsBefore reports whether anything up to a message is pending for the reader. Called with Journal.mu held.
func (r *Reader) waitsBefore(last uint64) bool { return !r.reg.removed && r.firstWaiting() <= last }

// Waits reports whether the message is owed to the reader and not settled: it was handed out, or will be. It does
// not wait.
func (r *Reader) Waits(seq uint64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.backlog.waits(seq)
}
