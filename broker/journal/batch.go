package journal

import (
	"math/bits"
	"slices"
)

// batch is what one commit writes: room for a header, then frames. Frames are sealed only when the
// segment that takes them is known, which may change if a write fails.
type batch struct {
	buf    []byte
	items  []item
	frames []frameAt
	acks   []readerAck  // applied when durable
	losses []readerLoss // likewise
	urgent bool         // a caller waits
	since  int64        // boot time of the first entry

	clock   clockReading // for the times of its records
	seg     *segment     // where it was written
	offset  int64
	end     int64
	err     error
	nextSeq uint64
}

type item struct {
	entry  Entry
	seq    uint64
	offset int   // of the frame in buf; 0 if it has none
	length int   // of the frame's body
	boot   int64 // boot time of the Append
}

type frameAt struct {
	offset, length int // in buf; length of the body
	kind           kind
	seq            uint64
	boot           int64
}

type readerAck struct {
	reader *Reader
	ackState
}

// keepBuffer is the largest buffer, in bytes, that a batch keeps for the next use.
const keepBuffer = 512 << 10

// newBuffer is the smallest buffer, in bytes.
const newBuffer = 16 << 10

func newBatch() *batch { return &batch{buf: make([]byte, headerSize, newBuffer)} }

// grow makes room for n more bytes in buf. Its capacity is a power of two, for which the allocator
// returns memory that begins at a sector's boundary, so that the file system can take it as it is.
func grow(buf []byte, n int) []byte {
	if cap(buf)-len(buf) >= n {
		return buf
	}
	larger := make([]byte, len(buf), 1<<bits.Len(uint(max(len(buf)+n, sector)-1)))
	copy(larger, buf)
	return larger
}

// add takes an entry of at most size bytes on disk.
func (b *batch) add(e *Entry, size int, seq uint64, boot int64) {
	b.buf = grow(b.buf, size)
	if len(b.items) == 0 {
		b.since = boot
	}
	it := item{entry: *e, seq: seq, boot: boot}
	start := len(b.buf)
	switch {
	case e.Message != nil:
		b.frame(kindMessage, seq, boot, appendMessage(beginFrame(b.buf), e))
	case len(e.Changes) > 0:
		b.frame(kindState, seq, boot, appendChanges(beginFrame(b.buf), e.Changes))
	default:
		start = 0
	}
	it.offset = start
	if start > 0 {
		it.length = b.frames[len(b.frames)-1].length
	}
	b.items = append(b.items, it)
}

// frame takes buf, which is the batch's buffer with the beginning of a frame and its body appended.
func (b *batch) frame(k kind, seq uint64, boot int64, buf []byte) {
	start := len(b.buf)
	b.frames = append(b.frames, frameAt{start, len(buf) - start - frameHeader, k, seq, boot})
	b.buf = endFrame(buf)
}

// prepend puts a frame in front of all others.
func (b *batch) prepend(k kind, seq uint64, boot int64, body []byte) {
	n := align(frameHeader + len(body))
	b.buf = grow(b.buf, n)
	data := b.buf[headerSize:]
	b.buf = b.buf[:len(b.buf)+n]
	copy(b.buf[headerSize+n:], data)
	copy(b.buf[headerSize+frameHeader:], body)
	clear(b.buf[headerSize+frameHeader+len(body) : headerSize+n])
	for i := range b.frames {
		b.frames[i].offset += n
	}
	b.frames = slices.Insert(b.frames, 0, frameAt{headerSize, len(body), k, seq, boot})
}

// seal writes the headers of all frames for segment s.
func (b *batch) seal(s *segment) {
	for i, f := range b.frames {
		millis := max(0, (f.boot-s.clock.boot)/1e6)
		seal(b.buf[f.offset:], f.length, f.kind, i == 0, uint32(f.seq-s.base), uint32(millis), s.salt)
	}
}

// reset empties the batch, letting go of everything its entries point to.
func (b *batch) reset() {
	clear(b.items)
	clear(b.acks)
	clear(b.losses)
	buf := b.buf[:headerSize]
	if cap(buf) > keepBuffer {
		buf = make([]byte, headerSize, newBuffer)
	}
	*b = batch{buf: buf, items: b.items[:0], frames: b.frames[:0], acks: b.acks[:0], losses: b.losses[:0]}
	if cap(b.items) > 8192 {
		b.items, b.frames = nil, nil
	}
}
