package server

import (
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"holdfast/broker/journal"
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

func (s *Server) putBuffer(b *buffer) {
	if b.charged > 0 {
		s.waiting.Add(-b.charged)
		s.buffered.Add(-b.charged)
		b.charged = 0
	}
	if cap(b.b) <= keepBuffer {
		b.b = b.b[:0]
		buffers.Put(b)
	}
}

// The states of conn.work, the connection's writing.
const (
	idle  uint32 = iota
	busy         // a goroutine writes
	again        // a goroutine writes, and checks for more before it stops
)

// buffer returns the buffer to append to. Called with mu held.
func (c *conn) buffer() *buffer {
	if c.out == nil {
		c.out = buffers.Get().(*buffer)
	}
	return c.out
}

// appended notes that a packet was added to b. Called with mu held.
func (c *conn) appended(b *buffer) {
	c.packets++
	if n := int64(len(b.b)) - b.charged; n >= chargeStep {
		n -= n % chargeStep
		b.charged += n
		c.s.waiting.Add(n)
		c.s.buffered.Add(n)
	}
	if len(b.b) > c.s.opts.MaxQueued {
		c.crowded.Store(true)
	}
}

// queue appends a packet to the buffer. Called with mu held.
func (c *conn) queue(p wire.Packet) {
	if c.closing {
		return
	}
	b := c.buffer()
	n := len(b.b)
	b.b = wire.Append(b.b, c.version, p)
	if c.maxPacket > 0 && len(b.b)-n > c.maxPacket { // [MQTT-3.1.2-24]
		b.b = b.b[:n]
		if c.reason == nil {
			c.reason = &wire.Error{Code: wire.PacketTooLarge, Text: fmt.Sprintf("an answer is larger than the %d bytes that the client takes", c.maxPacket)}
		}
		c.interrupt()
		return
	}
	c.appended(b)
}

// because returns properties with a reason string for a 5.0 client, unless it declined them [MQTT-3.1.2-29].
func (c *conn) because(text string) (p wire.Properties) {
	if c.version == wire.V5 && !c.noReasons && (c.maxPacket == 0 || len(text)+16 <= c.maxPacket) {
		p.ReasonString = &text
	}
	return p
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
	b := c.out
	if b == nil {
		return nil
	}
	c.out = nil
	c.s.counts.packetsOut.Add(c.packets)
	c.s.counts.sent.Add(c.publishes)
	c.s.counts.publishBytesOut.Add(c.publishBytes)
	c.s.counts.bytesOut.Add(uint64(len(b.b)))
	c.packets, c.publishes, c.publishBytes = 0, 0, 0
	if c.crowded.Load() {
		c.crowded.Store(false)
		c.room.Broadcast()
	}
	return b
}

// wake starts or notifies the writing goroutine, which writes queued packets and the session's messages. While
// there is nothing to write a connection has no writing goroutine.
func (c *conn) wake() {
	for {
		switch c.work.Load() {
		case idle:
			if c.work.CompareAndSwap(idle, busy) {
				go c.write(nil, 0)
				return
			}
		case busy:
			if c.work.CompareAndSwap(busy, again) {
				return
			}
		default:
			return
		}
	}
}

// flush writes as much of the queued packets as the kernel takes at once, and leaves the rest to a
// goroutine.
func (c *conn) flush() {
	if c.raw == nil || !c.work.CompareAndSwap(idle, busy) {
		c.wake()
		return
	}
	if b := c.take(); b != nil {
		n := c.writeNow(b.b)
		if n < len(b.b) {
			go c.write(b, n)
			return
		}
		c.s.putBuffer(b)
	}
	if !c.rest() {
		go c.write(nil, 0)
	}
}

// rest ends the goroutine's writing. It returns false if there is more to write.
func (c *conn) rest() bool {
	if !c.work.CompareAndSwap(busy, idle) {
		return false
	}
	if c.over.Load() {
		c.mu.Lock()
		c.room.Broadcast() // for drain
		c.mu.Unlock()
	}
	return true
}

// write writes until there is nothing more, beginning with b from n on if it is not nil.
func (c *conn) write(b *buffer, n int) {
	defer func() {
		if v := recover(); v != nil {
			c.lost(fmt.Errorf("panic: %v\n%s", v, debug.Stack()))
			c.work.Store(busy)
			c.rest()
		}
	}()
	for {
		if b == nil {
			c.work.Store(busy)
			b, n = c.gather(), 0
		}
		for b != nil {
			if err := c.writeAll(b.b[n:]); err != nil {
				c.lost(err)
			}
			c.s.putBuffer(b)
			b, n = c.gather(), 0
		}
		if c.rest() {
			return
		}
	}
}

// gather fills the buffer from the session and returns it, or nil if there is nothing to write.
func (c *conn) gather() *buffer {
	if err := c.fill(); err != nil {
		var refused *wire.Error
		if !errors.Is(err, journal.ErrClosed) && !errors.As(err, &refused) {
			c.logger().Error("could not read a session's messages from the journal", "error", err)
		}
		c.fail(err)
	}
	return c.take()
}

// lost notes that nothing more can be written.
func (c *conn) lost(err error) {
	c.fail(err)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hasLastWord = false
	c.end()
	if c.out != nil {
		c.s.putBuffer(c.out)
		c.out = nil
	}
}

// drain waits until all packets that can be written are. Afterwards wake and flush do nothing.
func (c *conn) drain() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.out != nil || !c.work.CompareAndSwap(idle, again) {
		c.room.Wait()
	}
}

// writeNow writes as much as the kernel takes at once. It ignores an error: the next write returns it.
func (c *conn) writeNow(b []byte) int {
	if c.raw == nil {
		return 0
	}
	c.tried, c.written = b, 0
	_ = c.raw.Write(c.try)
	c.tried = nil
	return c.written
}

func (c *conn) tryWrite(fd uintptr) bool {
	for {
		n, err := syscall.Write(int(fd), c.tried)
		if err == syscall.EINTR {
			continue
		}
		c.written = max(n, 0)
		return true
	}
}

// writeAll allows every chunk the same time, so that a slow connection outlives a dead one.
func (c *conn) writeAll(b []byte) error {
	b = b[c.writeNow(b):]
	if len(b) == 0 {
		return nil
	}
	c.s.pressure.writes(c, len(b))
	defer c.s.pressure.wrote(c)
	for len(b) > 0 {
		n := min(len(b), writeChunk)
		c.setWriteDeadline(time.Now().Add(c.s.opts.WriteTimeout))
		if _, err := c.nc.Write(b[:n]); err != nil {
			return err
		}
		b = b[n:]
	}
	c.setWriteDeadline(time.Time{}) // writeNow needs none, and fails at one that is over
	return nil
}

// setWriteDeadline sets the deadline of the next write, unless the connection is ending.
func (c *conn) setWriteDeadline(until time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closing {
		c.nc.SetWriteDeadline(until)
	}
}
