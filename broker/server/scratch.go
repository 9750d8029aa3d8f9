package server

import (
	"time"

	"holdfast/broker/server/intake"
	"holdfast/broker/server/limits"
	"holdfast/broker/wire"
)

// scratch is the memory for handling packets that have arrived. A connection has one while it has
// input, and none while it is idle.
type scratch struct {
	buf   []byte
	now   time.Time
	topic *topic // of the PUBLISH that was decoded last
	in    wire.Publish
	ack   wire.Ack
	pub   publication // of a QoS 0 message, finished before the next packet
	name  func([]byte) string
	dirty []*conn // have packets that are not written yet

	// Counts since the last finish, which adds them to the server's counters once for many packets.
	packets, bytes, publishes, publishBytes uint64
}

func (s *Server) newScratch() any {
	d := &scratch{buf: make([]byte, intake.BufferSize)}
	d.name = func(b []byte) string {
		d.topic = s.index.Name(b)
		return d.topic.Name
	}
	return d
}

// markDirty notes that c has packets to write, for finish. Without a scratch it wakes c's writing goroutine.
func (d *scratch) markDirty(c *conn) {
	if d == nil {
		c.wake()
	} else if c.writer.dirty.CompareAndSwap(false, true) {
		d.dirty = append(d.dirty, c)
	}
}

// finish flushes every connection that was marked dirty. It is called before anything that may wait.
func (d *scratch) finish(s *Server) {
	for i, c := range d.dirty {
		c.writer.dirty.Store(false)
		c.flush()
		d.dirty[i] = nil
	}
	d.dirty = d.dirty[:0]
	s.counts.packetsIn.Add(d.packets)
	s.counts.bytesIn.Add(d.bytes)
	s.counts.received.Add(d.publishes)
	s.counts.publishBytesIn.Add(d.publishBytes)
	d.packets, d.bytes, d.publishes, d.publishBytes = 0, 0, 0, 0
}

// host makes a connection the intake.Host of its reader: what is on it is the scratch.
type host struct{ *conn }

func (c host) Lend() ([]byte, time.Time) {
	if c.scratch == nil {
		c.scratch = c.s.scratches.Get().(*scratch)
	}
	c.scratch.now = time.Now()
	return c.scratch.buf, c.scratch.now
}

func (c host) Return() {
	d := c.scratch
	c.scratch = nil
	d.finish(c.s)
	d.topic = nil
	c.s.scratches.Put(d)
}

func (c host) Arrived(bytes int) { c.scratch.bytes += uint64(bytes) }

func (c host) Handled() { c.scratch.finish(c.s) }

func (c host) Evict() {
	c.s.limits.Reached(limits.Unfinished, "connection closed: its unfinished packet is the largest, and others need the memory", "remote", c.remote())
	c.kickFor(intake.ErrMemory)
}

func (c host) NoRoom() {
	c.s.limits.Reached(limits.Unfinished, "connection closed: no memory is left for unfinished packets", "remote", c.remote())
}

// next returns the client's next packet. It is valid until the next call.
func (c *conn) next() (wire.Raw, error) {
	p, err := c.in.Next(c.arm)
	if err == nil {
		c.scratch.packets++
	}
	return p, err
}
