package server

import (
	"errors"
	"fmt"
	"net"
	"runtime/debug"
	"sync/atomic"
	"syscall"
	"time"

	"holdfast/broker/journal"
	"holdfast/broker/wire"
)

// writer decides which goroutine writes to a connection: one at a time, the one that has set state to busy. The fields
// below dirty are for that goroutine alone.
type writer struct {
	state atomic.Uint32 // idle, busy or again
	dirty atomic.Bool   // on a scratch's list of connections to flush

	raw          syscall.RawConn // nil if the connection is not a socket of the kernel's
	try          func(fd uintptr) bool
	tried        []byte // what try is to write
	written      int    // how much it has
	loggedDenied bool   // a message that may not be read any more was logged
}

// The states of a writer.
const (
	idle  uint32 = iota
	busy         // a goroutine writes
	again        // a goroutine writes, and checks for more before it stops; also before CONNACK and after drain
)

func (w *writer) init(nc net.Conn) {
	if sc, ok := nc.(syscall.Conn); ok {
		if raw, err := sc.SyscallConn(); err == nil {
			w.raw, w.try = raw, w.write
		}
	}
	w.state.Store(again) // nothing is written before CONNACK
}

// begin lets goroutines write: CONNACK is queued.
func (w *writer) begin() { w.state.Store(idle) }

// claim makes the caller the goroutine that writes, if there is none, and reports whether it did.
func (w *writer) claim() bool { return w.state.CompareAndSwap(idle, busy) }

// look is called by the goroutine that writes, before it looks for more to write.
func (w *writer) look() { w.state.Store(busy) }

// rest ends the caller's writing. It returns false if more was queued since look.
func (w *writer) rest() bool { return w.state.CompareAndSwap(busy, idle) }

// stop ends writing for good, if nothing is being written, and reports whether it did.
func (w *writer) stop() bool { return w.state.CompareAndSwap(idle, again) }

// wake has the goroutine that writes check for more. It returns true if there is none: then the caller has claimed the
// writer and starts one.
func (w *writer) wake() bool {
	for {
		switch w.state.Load() {
		case idle:
			if w.claim() {
				return true
			}
		case busy:
			if w.state.CompareAndSwap(busy, again) {
				return false
			}
		default:
			return false
		}
	}
}

// tryWrite writes as much as the kernel takes at once. It ignores an error: the next write returns it.
func (w *writer) tryWrite(b []byte) int {
	if w.raw == nil {
		return 0
	}
	w.tried, w.written = b, 0
	_ = w.raw.Write(w.try)
	w.tried = nil
	return w.written
}

func (w *writer) write(fd uintptr) bool {
	for {
		n, err := syscall.Write(int(fd), w.tried)
		if err == syscall.EINTR {
			continue
		}
		w.written = max(n, 0)
		return true
	}
}

// wake starts or notifies the writing goroutine, which writes queued packets and the session's messages. While
// there is nothing to write a connection has no writing goroutine.
func (c *conn) wake() {
	if c.writer.wake() {
		go c.write(nil, 0)
	}
}

// flush writes as much of the queued packets as the kernel takes at once, and leaves the rest to a
// goroutine.
func (c *conn) flush() {
	if c.writer.raw == nil || !c.writer.claim() {
		c.wake()
		return
	}
	if b := c.take(); b != nil {
		n := c.writer.tryWrite(b.b)
		if n < len(b.b) {
			go c.write(b, n)
			return
		}
		c.s.memory.put(b)
	}
	if !c.rest() {
		go c.write(nil, 0)
	}
}

// rest ends the goroutine's writing. It returns false if there is more to write.
func (c *conn) rest() bool {
	if !c.writer.rest() {
		return false
	}
	if c.phase.over.Load() {
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
			c.writer.look()
			c.rest()
		}
	}()
	for {
		if b == nil {
			c.writer.look()
			b, n = c.gather(), 0
		}
		for b != nil {
			if err := c.writeAll(b.b[n:]); err != nil {
				c.lost(err)
			}
			c.s.memory.put(b)
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
	c.phase.hasLastWord = false
	c.end()
	c.out.drop(&c.s.memory)
}

// drain waits until all packets that can be written are. Afterwards wake and flush do nothing.
func (c *conn) drain() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.out.buf != nil || !c.writer.stop() {
		c.room.Wait()
	}
}

// writeAll allows every chunk the same time, so that a slow connection outlives a dead one.
func (c *conn) writeAll(b []byte) error {
	b = b[c.writer.tryWrite(b):]
	if len(b) == 0 {
		return nil
	}
	c.s.memory.writes(c, len(b))
	defer c.s.memory.wrote(c)
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
	if !c.phase.closing {
		c.nc.SetWriteDeadline(until)
	}
}
