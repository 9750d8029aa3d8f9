package server

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"holdfast/broker/wire"
)

const (
	writeChunk = 64 << 10        // bytes that one deadline covers, and that are gathered for one write
	keepBuffer = 2 * writeChunk  // bytes of the largest buffer that is used again
	lastWords  = 2 * time.Second // to write the queued packets of a connection that the server ends
)

// buffer holds packets that are queued for writing. An idle connection has none.
type buffer struct {
	b       []byte
	charged int64 // bytes of b that count in Server.waiting
}

var buffers = sync.Pool{New: func() any { return new(buffer) }}

// output is what is queued for a client, with what Stats counts of it when it is taken for writing. Guarded by conn.mu.
type output struct {
	buf     *buffer           // nil if there is nothing
	crowded atomic.Bool       // buf is longer than MaxQueued; readable without mu
	aliases map[string]uint16 // topic aliases that the server has set

	packets, publishes, publishBytes uint64 // in buf
}

// buffer returns the buffer to append to.
func (o *output) buffer() *buffer {
	if o.buf == nil {
		o.buf = buffers.Get().(*buffer)
	}
	return o.buf
}

// len returns how many bytes are queued.
func (o *output) len() int {
	if o.buf == nil {
		return 0
	}
	return len(o.buf.b)
}

// prepend puts a CONNACK in front of what was queued since the client has its session [MQTT-3.2.0-1].
func (o *output) prepend(b []byte) {
	first := &buffer{b: b}
	if o.buf != nil {
		first.b, first.charged = append(b, o.buf.b...), o.buf.charged
	}
	o.buf = first
}

// added notes that a packet was appended to the buffer.
func (o *output) added(s *Server) {
	o.packets++
	s.memory.charge(o.buf)
	if len(o.buf.b) > s.opts.MaxQueued {
		o.crowded.Store(true)
	}
}

// published notes that a PUBLISH of size bytes was appended to the buffer.
func (o *output) published(s *Server, size int) {
	o.publishes++
	o.publishBytes += uint64(size)
	o.added(s)
}

// take returns the buffer, which the caller is to write and to give back to Server.memory, or nil.
func (o *output) take(c *counts) *buffer {
	b := o.buf
	if b == nil {
		return nil
	}
	o.buf = nil
	c.packetsOut.Add(o.packets)
	c.sent.Add(o.publishes)
	c.publishBytesOut.Add(o.publishBytes)
	c.bytesOut.Add(uint64(len(b.b)))
	o.packets, o.publishes, o.publishBytes = 0, 0, 0
	return b
}

// drop drops what is queued, uncounted.
func (o *output) drop(m *memory) {
	if o.buf != nil {
		m.put(o.buf)
		o.buf = nil
	}
}

// queue appends a packet to the buffer. Called with mu held.
func (c *conn) queue(p wire.Packet) {
	if c.phase.closing {
		return
	}
	b := c.out.buffer()
	n := len(b.b)
	b.b = wire.Append(b.b, c.peer.version, p)
	if !c.peer.takes(len(b.b) - n) {
		b.b = b.b[:n]
		c.phase.because(&wire.Error{Code: wire.PacketTooLarge, Text: fmt.Sprintf("an answer is larger than the %d bytes that the client takes", c.peer.maxPacket)})
		c.interrupt()
		return
	}
	c.out.added(c.s)
}

// send queues a packet, to be written together with others that are queued for this client during the same read.
func (c *conn) send(d *scratch, p wire.Packet) {
	c.mu.Lock()
	c.queue(p)
	c.mu.Unlock()
	d.markDirty(c)
}

// take returns the buffer of queued packets, or nil.
func (c *conn) take() *buffer {
	c.mu.Lock()
	defer c.mu.Unlock()
	b := c.out.take(&c.s.counts)
	if b != nil && c.out.crowded.Load() {
		c.out.crowded.Store(false)
		c.room.Broadcast()
	}
	return b
}
