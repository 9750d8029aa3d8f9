package server

import (
	"io"
	"net"
	"syscall"
	"time"

	"holdfast/broker/wire"
)

const (
	scratchBuffer = 32 << 10 // bytes read at once, which bounds the packets handled before the next writes
	ownBuffer     = 2 << 10  // of a connection that cannot wait without a buffer: TLS, WebSocket, net.Pipe
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
	d := &scratch{buf: make([]byte, scratchBuffer)}
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

// input reads packets from a connection. On a socket an idle connection holds no buffer, and one with a part of a
// packet no more than that part.
type input struct {
	s       *Server
	c       *conn
	nc      net.Conn
	raw     syscall.RawConn // nil if nc is not a socket of the kernel's
	try     func(fd uintptr) bool
	max     int // bytes of a packet
	scratch *scratch
	buf     []byte // what was read and not taken yet
	own     []byte // to read into, if raw is nil
	part    []byte // a part of a packet, kept without a scratch until the rest arrives
	big     []byte // to read a packet into that is longer than the scratch's buffer or own
	held    int    // bytes of part, own and big that are charged to the server's limit
	need    int    // bytes that buf has to have for another packet, as far as is known
	n       int    // what try has read
	err     error

	deadline deadline
}

// deadline is until when the client has to send: its keep alive for the next whole packet, and Options.PacketTimeout for
// each packetStep bytes of one that has arrived in part, also without a keep alive.
type deadline struct {
	heard time.Time // when the last whole packet came
	begun time.Time // when a part of the next packet was seen first; zero while there is none
	armed bool      // the connection has a read deadline
	late  bool      // that is for the rest of a packet
}

// packetStep is how much of a packet has to arrive within Options.PacketTimeout.
const packetStep = 64 << 10

// next returns the read deadline to set, zero for none, of a client of which part bytes of a packet have arrived. It
// reports whether there is one to set or to take away.
func (d *deadline) next(keepAlive time.Duration, part int, timeout time.Duration) (due time.Time, change bool) {
	if keepAlive > 0 {
		due = d.heard.Add(keepAlive * 3 / 2) // [MQTT-3.1.2-22]
	}
	d.late = false
	if !d.begun.IsZero() {
		rest := time.Duration(1+part/packetStep) * timeout
		if end := d.begun.Add(rest); due.IsZero() || end.Before(due) {
			due, d.late = end, true
		}
	}
	if due.IsZero() && !d.armed {
		return due, false
	}
	d.armed = !due.IsZero()
	return due, true
}

func (in *input) init(c *conn) {
	in.s, in.c, in.nc, in.raw = c.s, c, c.nc, c.writer.raw
	in.max = min(c.s.opts.MaxConnectPacket, c.s.opts.MaxPacket) // until CONNECT has come
	in.try = in.readNow
}

// next returns the next packet, which shares memory with the input until the next call. It calls wait
// each time before it waits for the client. The error is io.EOF if the connection ended
// between packets.
func (in *input) next(wait func() error) (wire.Raw, error) {
	for {
		p, n, err := wire.Split(in.buf, in.max)
		if err != nil {
			return p, err
		}
		if n <= len(in.buf) {
			in.buf = in.buf[n:]
			in.scratch.packets++
			in.deadline.begun = time.Time{}
			return p, nil
		}
		in.need = n
		if len(in.buf) > 0 && in.deadline.begun.IsZero() {
			in.deadline.begun = in.scratch.now
		}
		if in.scratch != nil {
			in.scratch.finish(in.s)
		}
		if err := wait(); err != nil {
			return p, err
		}
		if err := in.more(); err != nil {
			if err == io.EOF && len(in.buf) > 0 {
				err = io.ErrUnexpectedEOF
			}
			return p, err
		}
	}
}

func (in *input) more() error {
	if in.raw != nil {
		if err := in.raw.Read(in.try); err != nil {
			return err
		}
	} else {
		in.leave()
		if in.own == nil {
			in.own = make([]byte, ownBuffer)
		}
		var room []byte
		if room, in.err = in.room(in.own); in.err != nil {
			return in.err
		}
		in.n, in.err = in.nc.Read(room)
		in.enter()
	}
	if in.n > 0 {
		in.buf = in.buf[:len(in.buf)+in.n]
		in.scratch.bytes += uint64(in.n)
		return nil
	}
	if in.err == nil {
		return io.EOF
	}
	return in.err
}

// readNow reads available bytes. If there are none, it gives the scratch back and lets the runtime wait.
func (in *input) readNow(fd uintptr) bool {
	in.enter()
	room, err := in.room(in.scratch.buf)
	if err != nil {
		in.n, in.err = 0, err
		return true
	}
	for {
		in.n, in.err = syscall.Read(int(fd), room)
		switch in.err {
		case syscall.EINTR:
			continue
		case syscall.EAGAIN:
			if err := in.putAside(); err != nil {
				in.n, in.err = 0, err
				return true
			}
			in.leave()
			return false
		}
		return true
	}
}

func (in *input) enter() {
	if in.scratch == nil {
		in.scratch = in.s.scratches.Get().(*scratch)
	}
	in.scratch.now = time.Now()
}

// leave gives the scratch back. buf must not share its memory.
func (in *input) leave() {
	if d := in.scratch; d != nil {
		in.scratch = nil
		d.finish(in.s)
		d.topic = nil
		in.s.scratches.Put(d)
	}
}

// pause gives the scratch back before a wait that is not for input; enter goes on.
func (in *input) pause() error {
	err := in.putAside()
	in.leave()
	return err
}

// putAside copies buf from the scratch to part, which grows as the packet arrives, not as it is announced.
func (in *input) putAside() error {
	switch n := len(in.buf); {
	case in.big != nil:
		return nil
	case n == 0:
		in.part = nil
		return in.charge(0)
	case cap(in.part) < n:
		size := min(max(2*cap(in.part), n), max(n, scratchBuffer))
		if err := in.charge(size); err != nil {
			return err
		}
		in.part = make([]byte, 0, size)
	}
	in.part = append(in.part[:0], in.buf...)
	in.buf = in.part
	return nil
}

// charge notes that the connection has n bytes of unfinished packets.
func (in *input) charge(n int) error {
	if n == in.held {
		return nil
	}
	if err := in.c.hold(n); err != nil {
		return err
	}
	in.held = n
	return nil
}

// room returns the memory to read into, behind the content of buf. It moves that to the front of base or, when base is
// full and the packet is longer, of big, which grows as the packet arrives, not as it is announced.
func (in *input) room(base []byte) ([]byte, error) {
	to := base
	var old []byte
	switch {
	case in.need <= len(base) || len(in.buf) < len(base):
		if in.big != nil {
			old, in.big = in.big, nil
			if err := in.charge(cap(in.part)); err != nil {
				return nil, err
			}
		}
	default:
		if len(in.buf) >= len(in.big) {
			next := in.s.unfinished.buffer(min(in.need, 2*len(in.buf)))
			if err := in.charge(len(next)); err != nil {
				return nil, err
			}
			old, in.big = in.big, next
			in.part = nil
		}
		to = in.big
	}
	if len(in.buf) > 0 && &in.buf[0] != &to[0] {
		copy(to, in.buf)
	}
	in.buf = to[:len(in.buf)]
	if old != nil {
		in.s.unfinished.putBuffer(old)
	}
	return to[len(in.buf):], nil
}

// drop releases all buffers. Packets read into them must not be used any more.
func (in *input) drop() {
	in.leave()
	big := in.big
	in.part, in.big, in.buf, in.own = nil, nil, nil, nil
	in.s.unfinished.hold(in.c, 0)
	if big != nil {
		in.s.unfinished.putBuffer(big)
	}
}
