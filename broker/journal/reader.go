package journal

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"holdfast/broker"
)

const (
	// queueMessages and queueBytes bound what a reader that keeps up may hold in memory; one that
	// falls behind reads the log. All readers together may hold sharedMessages and sharedBytes beyond
	// the first ownMessages and ownBytes of each.
	queueMessages  = 4096
	queueBytes     = 2 << 20
	ownMessages    = 64
	ownBytes       = 64 << 10
	sharedMessages = 16384
	sharedBytes    = 8 << 20
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
type Reader struct {
	j     *Journal
	name  string // guarded by Journal.mu
	id    uint64
	ready chan struct{}

	notify func() // guarded by mu; see Notify
	limit  int64  // guarded by mu; see SetLimit

	consumer sync.Mutex // held by the consumer's calls
	scan     diskScan   // guarded by consumer
	look     lookout    // of Oldest

	// Guarded by Journal.mu.
	durable  ackState
	dirty    bool // in Journal.dirty
	removed  bool
	priority byte
	lost     map[string]uint64 // messages by reason

	mu       sync.Mutex
	attached bool
	queue    ring     // next messages, without a gap, if live
	bytes    int      // of payloads in queue
	live     bool     // everything owed from next on is in queue
	tail     uint64   // one past the newest message owed
	newest   uint64   // handed out last, since Attach; 0 if something owed may lie between it and next
	next     uint64   // none below it is to be handed out since Attach
	handed   uint64   // everything owed below it was handed out, ever: it is in unacked or settled
	resend   uint64   // an earlier process may have handed out what is below it
	top      uint64   // one past the newest settled message
	unacked  []uint64 // handed out, not settled; ascending
	room     []uint64 // that unacked is kept in
	owed     uint64   // messages since the reader began
	settled  uint64   // of them acknowledged or dropped
}

func newReader(j *Journal, name string, id, next uint64) *Reader {
	return &Reader{
		j: j, name: name, id: id, ready: make(chan struct{}, 1),
		tail: next, next: next, handed: next, top: next, durable: ackState{top: next, handed: next},
	}
}

// Name returns the reader's name.
func (r *Reader) Name() string {
	r.j.mu.Lock()
	defer r.j.mu.Unlock()
	return r.name
}

// ID returns a number that no other reader of the journal has had before. It outlives the process.
func (r *Reader) ID() uint64 { return r.id }

// Depth returns the number of messages owed and neither acknowledged nor dropped.
func (r *Reader) Depth() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.owed - r.settled
}

// cursor is called with mu held.
func (r *Reader) cursor() uint64 {
	if len(r.unacked) > 0 {
		return r.unacked[0]
	}
	return r.handed
}

// Attach starts, or starts again, at the lowest unacknowledged message. Messages above it that are already
// acknowledged are not handed out again.
func (r *Reader) Attach() {
	r.consumer.Lock()
	defer r.consumer.Unlock()
	r.scan.close(r.j)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.attached = true
	r.newest = 0
	r.next = r.cursor()
	r.live = r.next >= r.tail
	r.dropQueue()
	r.announce()
}

// Detach frees the reader's memory. Messages stay on disk.
func (r *Reader) Detach() {
	r.consumer.Lock()
	defer r.consumer.Unlock()
	r.scan.close(r.j)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.attached, r.live = false, false
	r.dropQueue()
}

// dropQueue is called with mu held.
func (r *Reader) dropQueue() {
	r.j.queued.add(-r.queue.n, -r.bytes)
	r.queue, r.bytes = ring{}, 0
}

// queued counts the messages of all readers in memory.
type queued struct{ messages, bytes atomic.Int64 }

func (q *queued) add(messages, bytes int) {
	q.messages.Add(int64(messages))
	q.bytes.Add(int64(bytes))
}

// fits reports whether a reader that holds that much already may hold one more message of size bytes.
func (q *queued) fits(messages, bytes, size int) bool {
	switch {
	case messages == 0:
		return true
	case messages >= queueMessages || bytes+size > queueBytes:
		return false
	case messages < ownMessages && bytes+size <= ownBytes:
		return true
	}
	return q.messages.Load() < sharedMessages && q.bytes.Load()+int64(size) <= sharedBytes
}

// dequeue takes the next message out of the queue. Called with mu held.
func (r *Reader) dequeue() Delivery {
	d := r.queue.pop()
	n := size(d.Message)
	r.bytes -= n
	r.j.queued.add(-1, -n)
	return d
}

// offer gives the reader a message that has just become durable. Called in order of Seq, with
// Journal.mu held.
func (r *Reader) offer(d Delivery) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.owed++
	r.tail = d.Seq + 1
	if !r.attached {
		return
	}
	n := size(d.Message)
	r.live = r.live && r.j.queued.fits(r.queue.n, r.bytes, n)
	if r.live {
		r.queue.push(d)
		r.bytes += n
		r.j.queued.add(1, n)
	}
	r.announce()
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
		if !r.attached {
			r.mu.Unlock()
			return Delivery{}, false, nil
		}
		if r.queue.n > 0 {
			d = r.dequeue()
			ok = r.hand(&d)
			r.mu.Unlock()
			if ok {
				return d, true, nil
			}
			continue
		}
		if r.next >= r.tail {
			r.live = true
			r.queue.shrink()
			r.mu.Unlock()
			r.scan.close(r.j)
			return Delivery{}, false, nil
		}
		next, tail := r.next, r.tail
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
			r.next, r.handed = max(r.next, tail), max(r.handed, tail)
		}
		r.mu.Unlock()
		if ok {
			return d, true, nil
		}
	}
}

// Rest frees the memory that reading the log takes, where many readers take much together. A consumer calls it when it
// takes nothing for a while, for example because its own receiver does not answer. The next TryNext
// reads on from the same place.
func (r *Reader) Rest() {
	r.consumer.Lock()
	defer r.consumer.Unlock()
	r.scan.rest(r.j)
}

// hand notes that d is about to be handed out. It returns false if d is already settled. Called with
// mu held.
func (r *Reader) hand(d *Delivery) bool {
	if d.Seq < r.next {
		return false
	}
	r.next, d.Reader = d.Seq+1, r
	if d.Seq < r.handed {
		_, waits := slices.BinarySearch(r.unacked, d.Seq)
		d.Resend, d.before = waits, r.newest
		if r.newest = 0; waits {
			r.newest = d.Seq
		}
		return waits
	}
	d.before, r.newest = r.newest, d.Seq
	d.Resend = d.Seq < r.resend
	r.handed = d.Seq + 1
	if len(r.unacked) == cap(r.unacked) { // move to the front of the room, or to a larger one
		if cap(r.room) < 2*len(r.unacked)+16 {
			r.room = make([]uint64, 0, 2*len(r.unacked)+32)
		}
		r.unacked = append(r.room[:0], r.unacked...)
	}
	r.unacked = append(r.unacked, d.Seq)
	return true
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
	j.noteAck(r)
	j.mu.Unlock()
	return true
}

// settleOne settles a message. It returns false if the message is settled already.
func (r *Reader) settleOne(seq uint64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	i, found := slices.BinarySearch(r.unacked, seq)
	if !found {
		return false
	}
	if i == 0 {
		r.unacked = r.unacked[1:]
	} else {
		r.unacked = slices.Delete(r.unacked, i, i+1)
	}
	if len(r.unacked) == 0 {
		r.unacked = r.room[:0]
	}
	r.settled++
	r.top = max(r.top, seq+1)
	return true
}

// noteAck is called with mu held.
func (j *Journal) noteAck(r *Reader) {
	j.markDirty(r)
	if j.acked++; j.acked == ackMany {
		j.poke()
	}
}

// markDirty is called with mu held.
func (j *Journal) markDirty(r *Reader) {
	if r.dirty {
		return
	}
	r.dirty = true
	j.dirty = append(j.dirty, r)
	if len(j.dirty) == 1 {
		j.dirtyAt = time.Now()
		j.poke()
	}
}

// takeAck returns the acknowledgements of the reader to write. Called with Journal.mu held.
func (r *Reader) takeAck() (a ackState, ok bool) {
	r.dirty = false
	if r.removed {
		return a, false
	}
	return r.ackState(), true
}

// settledSince returns how many messages were settled since a. Called with Journal.mu held.
func (r *Reader) settledSince(a *ackState) uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.settled - a.settled
}

// ackState is called with Journal.mu held.
func (r *Reader) ackState() ackState {
	r.mu.Lock()
	defer r.mu.Unlock()
	below, _ := slices.BinarySearch(r.unacked, r.top)
	return ackState{
		settled: r.settled, handed: r.handed, top: r.top, unacked: slices.Clone(r.unacked[:below]),
	}
}

// restore sets a reader to the state that the log has.
func (r *Reader) restore(a ackState) {
	r.durable = a
	r.settled, r.top, r.unacked = a.settled, a.top, slices.Clone(a.unacked)
	r.handed, r.resend = a.top, a.handed
	r.next = r.cursor()
}

// settle settles the messages from first to last that are pending for the reader and cannot be delivered any more. It
// returns where they begin and how many they are: handed counts those that were handed out, ahead the others. ahead is
// at most most, and no more than the reader is owed without those behind. It is
// one step, so that a message acknowledged meanwhile does not count. All that is owed before first is settled or
// handed out, or first is 0. Called with Journal.mu held.
func (r *Reader) settle(first, last, most, behind uint64) (from, handed, ahead uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	from = max(first, r.cursor())
	if last >= r.handed {
		ahead = min(most, last+1-max(first, r.handed), r.ahead(behind))
	}
	handed = uint64(len(r.unacked))
	r.unacked = slices.DeleteFunc(r.unacked, func(seq uint64) bool { return first <= seq && seq <= last })
	handed -= uint64(len(r.unacked))
	r.settled += handed + ahead
	r.newest = 0
	r.next, r.handed, r.top = max(r.next, last+1), max(r.handed, last+1), max(r.top, last+1)
	for r.queue.n > 0 && r.queue.buf[r.queue.head].Seq <= last {
		r.dequeue()
	}
	return from, handed, ahead
}

// ahead returns how many messages are not handed out yet, without the last behind ones.
// Called with mu held.
func (r *Reader) ahead(behind uint64) uint64 {
	n := r.owed - r.settled - uint64(len(r.unacked))
	return n - min(n, behind)
}

// size is the bytes that a message in a queue counts as.
func size(m *broker.Message) int { return len(m.Topic) + len(m.Payload) + len(m.Properties) }

// firstWaiting returns the lowest sequence number that may be unsettled. Called with Journal.mu held.
func (r *Reader) firstWaiting() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.cursor()
}

// Waits reports whether the message is owed to the reader and not settled: it was handed out, or will be. It does
// not wait.
func (r *Reader) Waits(seq uint64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, waits := slices.BinarySearch(r.unacked, seq)
	return waits || seq >= r.handed
}
