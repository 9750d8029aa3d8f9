package journal

import (
	"sync/atomic"

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

	// restBytes is what a scan of the log that rests may keep for the next message, and sharedRestBytes what all of
	// them may keep together.
	restBytes       = scanChunk + 16<<10
	sharedRestBytes = 1 << 20
)

// memory counts what all readers together hold: messages and bytes of buffers, and bytes of scans that rest. Atomic.
type memory struct{ messages, bytes, resting atomic.Int64 }

func (m *memory) add(messages, bytes int) {
	m.messages.Add(int64(messages))
	m.bytes.Add(int64(bytes))
}

// fits reports whether a reader that holds that much already may hold one more message of size bytes.
func (m *memory) fits(messages, bytes, size int) bool {
	switch {
	case messages == 0:
		return true
	case messages >= queueMessages || bytes+size > queueBytes:
		return false
	case messages < ownMessages && bytes+size <= ownBytes:
		return true
	}
	return m.messages.Load() < sharedMessages && m.bytes.Load()+int64(size) <= sharedBytes
}

// rest takes n bytes for a scan that rests, if there is room.
func (m *memory) rest(n int64) bool {
	if n <= restBytes && m.resting.Add(n) <= sharedRestBytes {
		return true
	}
	if n <= restBytes {
		m.resting.Add(-n)
	}
	return false
}

// wake returns the bytes of a scan that rested.
func (m *memory) wake(n int64) { m.resting.Add(-n) }

// buffer is what a reader that keeps up gets from memory: its next messages. Guarded by Reader.mu.
type buffer struct {
	attached bool // a consumer wants them
	live     bool // everything owed that is not handed out is here, without a gap
	queue    ring
	bytes    int // of messages in queue
}

// offer takes d, and leaves it to the log if there is no room: then the reader reads on there.
func (b *buffer) offer(d *Delivery, m *memory) {
	n := size(d.Message)
	if b.live = b.live && m.fits(b.queue.n, b.bytes, n); b.live {
		b.queue.push(*d)
		b.bytes += n
		m.add(1, n)
	}
}

// take returns the next message; there must be one.
func (b *buffer) take(m *memory) Delivery {
	d := b.queue.pop()
	n := size(d.Message)
	b.bytes -= n
	m.add(-1, -n)
	return d
}

// next returns the message that take will return, nil if there is none.
func (b *buffer) next() *Delivery {
	if b.queue.n == 0 {
		return nil
	}
	return &b.queue.buf[b.queue.head]
}

// begin is for a consumer that comes; caughtUp means that nothing is owed yet.
func (b *buffer) begin(caughtUp bool, m *memory) {
	b.attached, b.live = true, caughtUp
	b.drop(m)
}

// end is for a consumer that has gone.
func (b *buffer) end(m *memory) {
	b.attached, b.live = false, false
	b.drop(m)
}

func (b *buffer) drop(m *memory) {
	m.add(-b.queue.n, -b.bytes)
	b.queue, b.bytes = ring{}, 0
}

// caughtUp notes that the log holds nothing more: what comes next is taken in again.
func (b *buffer) caughtUp() {
	b.live = true
	b.queue.shrink()
}

// size is the bytes that a message in a buffer counts as.
func size(m *broker.Message) int { return len(m.Topic) + len(m.Payload) + len(m.Properties) }

// ring is a queue of deliveries that reuses its memory.
type ring struct {
	buf  []Delivery // a power of two, or none
	head int
	n    int
}

// keepRing is the most deliveries that an empty ring has room for.
const keepRing = 512

func (q *ring) push(d Delivery) {
	if q.n == len(q.buf) {
		larger := make([]Delivery, max(16, 2*len(q.buf)))
		for i := range q.n {
			larger[i] = q.buf[(q.head+i)&(len(q.buf)-1)]
		}
		q.buf, q.head = larger, 0
	}
	q.buf[(q.head+q.n)&(len(q.buf)-1)] = d
	q.n++
}

// pop takes out the oldest delivery; there must be one.
func (q *ring) pop() Delivery {
	d := q.buf[q.head]
	q.buf[q.head] = Delivery{}
	q.head = (q.head + 1) & (len(q.buf) - 1)
	q.n--
	return d
}

// shrink frees memory that an empty ring does not need.
func (q *ring) shrink() {
	if q.n == 0 && len(q.buf) > keepRing {
		*q = ring{}
	}
}
