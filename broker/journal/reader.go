package journal

import (
	"context"
	"encoding/binary"
	"slices"
	"sync"
	"time"

	"holdfast/broker"
)

const (
	// queueMessages and queueBytes bound what a reader that keeps up may hold in memory; one that
	// falls behind reads the log.
	queueMessages = 256
	queueBytes    = 256 << 10

	readerPrefix = "journal/reader/" // keys that make and remove readers
)

// Delivery is one message for one reader. Message is shared and must not be changed.
type Delivery struct {
	Seq     uint64
	Message *broker.Message
	QoS     byte // 1 or 2: the most the reader was granted; the message's own may be lower
	Retain  bool
	Time    Time
	Resend  bool // may have been handed out before
}

// Reader is a named cursor: it is handed, in order, every message that it is owed, and keeps those
// that it has not acknowledged. It begins detached. TryNext, Next, Attach and Detach are for one
// consumer at a time; everything else is safe for concurrent use.
type Reader struct {
	j     *Journal
	name  string
	id    uint64
	ready chan struct{}

	consumer sync.Mutex // held by the consumer's calls
	scan     diskScan   // guarded by consumer

	durable ackState // guarded by Journal.mu
	dirty   bool     // in Journal.dirty; guarded by Journal.mu
	removed bool     // guarded by Journal.mu

	mu       sync.Mutex
	attached bool
	queue    []Delivery // next messages, without a gap, if live
	bytes    int        // of payloads in queue
	live     bool       // everything owed from next on is in queue
	tail     uint64     // one past the newest message owed
	next     uint64     // none below it is to be handed out since Attach
	handed   uint64     // everything owed below it was handed out, ever: it is in unacked or settled
	resend   uint64     // an earlier process may have handed out what is below it
	top      uint64     // one past the newest settled message
	unacked  []uint64   // handed out, not settled; ascending
	owed     uint64     // messages since the reader began
	settled  uint64     // of them acknowledged or dropped
}

func newReader(j *Journal, name string, id, next uint64) *Reader {
	return &Reader{
		j: j, name: name, id: id, ready: make(chan struct{}, 1),
		tail: next, next: next, handed: next, top: next, durable: ackState{top: next, handed: next},
	}
}

// OpenReader returns the reader of that name. A new one is owed nothing yet, and becomes durable no
// later than the first message that it is owed.
func (j *Journal) OpenReader(name string) (*Reader, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if r, ok := j.readers[name]; ok {
		return r, nil
	}
	r := newReader(j, name, j.nextID, j.nextSeq)
	e := Entry{Changes: []Change{{readerPrefix + name, binary.AppendUvarint(nil, r.id)}}, Lazy: true}
	if err := j.append(&e); err != nil {
		return nil, err
	}
	j.nextID++
	j.readers[name], j.byID[r.id] = r, r
	return r, nil
}

// RemoveReader forgets a reader and what it was owed, on purpose: nothing counts as lost. Its
// consumer must have stopped.
func (j *Journal) RemoveReader(name string) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	r, ok := j.readers[name]
	if !ok {
		return nil
	}
	if err := j.append(&Entry{Changes: []Change{{Key: readerPrefix + name}}, Lazy: true}); err != nil {
		return err
	}
	delete(j.readers, name)
	r.removed = true
	r.mu.Lock()
	defer r.mu.Unlock()
	r.attached, r.live = false, false
	r.dropQueue()
	return nil
}

// ReaderInfo tells how far a reader is.
type ReaderInfo struct {
	Name   string
	Depth  uint64 // messages owed and not settled
	Cursor uint64 // lowest sequence number that may be unsettled
	Tail   uint64 // one past the newest message owed
}

// Readers returns all readers, by name.
func (j *Journal) Readers() []ReaderInfo {
	j.mu.Lock()
	defer j.mu.Unlock()
	infos := make([]ReaderInfo, 0, len(j.readers))
	for _, r := range j.readers {
		r.mu.Lock()
		infos = append(infos, ReaderInfo{r.name, r.owed - r.settled, r.cursor(), r.tail})
		r.mu.Unlock()
	}
	slices.SortFunc(infos, func(a, b ReaderInfo) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	return infos
}

// Name returns the name that the reader was opened with.
func (r *Reader) Name() string { return r.name }

// Depth is the number of messages owed and neither acknowledged nor dropped.
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

// Attach starts, or starts again, at the lowest unacknowledged message. What was already
// acknowledged above it is not handed out again.
func (r *Reader) Attach() {
	r.consumer.Lock()
	defer r.consumer.Unlock()
	r.scan.close()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.attached = true
	r.next = r.cursor()
	r.live = r.next >= r.tail
	r.dropQueue()
	signal(r.ready)
}

// Detach frees the reader's memory. Messages wait on disk.
func (r *Reader) Detach() {
	r.consumer.Lock()
	defer r.consumer.Unlock()
	r.scan.close()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.attached, r.live = false, false
	r.dropQueue()
}

func (r *Reader) dropQueue() { r.queue, r.bytes = nil, 0 }

// offer tells the reader of a message that has just become durable. Called in order of Seq, with
// Journal.mu held.
func (r *Reader) offer(d Delivery) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.owed++
	r.tail = d.Seq + 1
	if !r.attached {
		return
	}
	bytes := r.bytes + size(d.Message)
	if len(r.queue) >= queueMessages || len(r.queue) > 0 && bytes > queueBytes {
		r.live = false
	}
	if r.live {
		r.queue = append(r.queue, d)
		r.bytes = bytes
	}
	signal(r.ready)
}

// Ready has a value when TryNext, which had said false, may say true.
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
		if len(r.queue) > 0 {
			d = r.queue[0]
			r.queue[0] = Delivery{}
			r.queue = r.queue[1:]
			r.bytes -= size(d.Message)
			ok = r.hand(&d)
			r.mu.Unlock()
			if ok {
				return d, true, nil
			}
			continue
		}
		if r.next >= r.tail {
			r.live = true
			r.queue = nil
			r.mu.Unlock()
			r.scan.close()
			return Delivery{}, false, nil
		}
		next, tail := r.next, r.tail
		r.mu.Unlock()

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

// hand notes that d is about to be handed out. It is false for what is already settled. Called with
// mu held.
func (r *Reader) hand(d *Delivery) bool {
	if d.Seq < r.next {
		return false
	}
	r.next = d.Seq + 1
	if d.Seq < r.handed {
		_, waits := slices.BinarySearch(r.unacked, d.Seq)
		d.Resend = waits
		return waits
	}
	d.Resend = d.Seq < r.resend
	r.handed = d.Seq + 1
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

// Ack notes that the consumer needs the message no more. It may be called in any order, and again.
// It does not wait: the acknowledgement is on disk with the next commit, or within a second.
func (r *Reader) Ack(seq uint64) {
	r.mu.Lock()
	i, found := slices.BinarySearch(r.unacked, seq)
	if !found {
		r.mu.Unlock()
		return
	}
	if i == 0 {
		r.unacked = r.unacked[1:]
	} else {
		r.unacked = slices.Delete(r.unacked, i, i+1)
	}
	if len(r.unacked) == 0 {
		r.unacked = nil
	}
	r.settled++
	r.top = max(r.top, seq+1)
	r.mu.Unlock()
	j := r.j
	j.mu.Lock()
	j.markDirty(r)
	if j.acked++; j.acked == ackMany {
		j.poke()
	}
	j.mu.Unlock()
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

// takeAck returns what is to be written of the reader. Called with Journal.mu held.
func (r *Reader) takeAck() (a ackState, ok bool) {
	r.dirty = false
	if r.removed {
		return a, false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	below, _ := slices.BinarySearch(r.unacked, r.top)
	return ackState{
		settled: r.settled, handed: r.handed, top: r.top, unacked: slices.Clone(r.unacked[:below]),
	}, true
}

// restore brings a reader back to what the log says of it.
func (r *Reader) restore(a ackState) {
	r.durable = a
	r.settled, r.top, r.unacked = a.settled, a.top, slices.Clone(a.unacked)
	r.handed, r.resend = a.top, a.handed
	r.next = r.cursor()
}

// settle marks count messages between first and last, which nobody can deliver any more, as done.
// All that is owed below first must be settled or handed out. Called with Journal.mu held.
func (r *Reader) settle(first, last, count uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.unacked = slices.DeleteFunc(r.unacked, func(seq uint64) bool { return first <= seq && seq <= last })
	r.settled += count
	r.next, r.handed, r.top = max(r.next, last+1), max(r.handed, last+1), max(r.top, last+1)
	for len(r.queue) > 0 && r.queue[0].Seq <= last {
		d := r.queue[0]
		r.bytes -= size(d.Message)
		r.queue = r.queue[1:]
	}
}

// size is what a message in a queue counts, in bytes.
func size(m *broker.Message) int { return len(m.Topic) + len(m.Payload) + len(m.Properties) }

// waitsIn says whether anything of g may be unsettled. Called with Journal.mu held.
func (r *Reader) waitsIn(g gap) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	i, _ := slices.BinarySearch(r.unacked, g.first)
	return i < len(r.unacked) && r.unacked[i] <= g.last || g.last >= r.handed
}

// firstWaiting is the lowest sequence number that may be unsettled. Called with Journal.mu held.
func (r *Reader) firstWaiting() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.cursor()
}
