package server

import (
	"errors"
	"time"

	"holdfast/broker/journal"
)

const (
	writeChunk = 64 << 10        // bytes that one deadline covers, and that are gathered for one write
	lastWords  = 2 * time.Second // for the packets of a connection that the server ends
)

// write carries packets to the client, many at once, until the connection ends.
func (c *conn) write() {
	var buf []byte
	for {
		if err := c.fill(); err != nil {
			if !errors.Is(err, journal.ErrClosed) {
				c.log.Error("session cannot be read", "client", c.session.id, "error", err)
			}
			c.fail(err)
		}
		c.mu.Lock()
		buf, c.out = c.out, buf[:0]
		closing := c.closing
		c.room.Broadcast()
		c.mu.Unlock()
		if len(buf) == 0 {
			if closing {
				return
			}
			select {
			case <-c.wake:
			case <-c.session.arrivals():
			}
			continue
		}
		if err := c.writeAll(buf); err != nil {
			c.fail(err)
			c.mu.Lock()
			c.end()
			c.mu.Unlock()
			return
		}
		if cap(buf) > 2*writeChunk {
			buf = nil
		}
	}
}

// writeAll allows every chunk the same time, so that a slow link is told from a dead one.
func (c *conn) writeAll(b []byte) error {
	for len(b) > 0 {
		n := min(len(b), writeChunk)
		c.mu.Lock()
		if !c.closing {
			c.nc.SetWriteDeadline(time.Now().Add(c.s.opts.WriteTimeout))
		}
		c.mu.Unlock()
		if _, err := c.nc.Write(b[:n]); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}
