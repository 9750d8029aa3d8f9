// Package intake reads the packets of MQTT connections, in memory that all of them share.
//
// On a socket of the kernel's an idle connection holds no buffer: it waits in the kernel, and borrows one only while there is
// input. A packet that has arrived in part takes about twice what has arrived of it, whatever length it announces. The
// parts of all connections together have a limit (Memory); at the limit the connection with the largest loses its own. A
// Reader knows until when its client has to send: its keep alive for the next packet, and a time for each Step of one that
// has begun. Reading packets that fit into the borrowed buffer allocates nothing.
//
// The package decodes no packet, it only finds where each ends. It sets no deadline and closes no connection: its Host does.
package intake

import (
	"io"
	"net"
	"syscall"
	"time"

	"holdfast/broker/wire"
)

// BufferSize is how long the buffers are that a Host lends: bytes read at once, which bounds the packets handled before the
// next writes.
const BufferSize = 32 << 10

const ownBuffer = 2 << 10 // of a connection that cannot wait without a buffer: TLS, WebSocket, net.Pipe

// Host is the connection that a Reader reads for. All methods but Evict are called by the goroutine that uses the Reader.
type Host interface {
	// Lend returns the buffer to read into, BufferSize bytes, and the time. It is called when there may be input, also while
	// the buffer is lent already: then it is the same.
	Lend() (buf []byte, now time.Time)
	// Return takes the buffer back, before a wait. It is called only while the buffer is lent.
	Return()
	// Arrived notes that so many bytes have been read. The buffer is lent.
	Arrived(bytes int)
	// Handled is called before a wait for input, while the buffer is lent: Next has returned all packets that have arrived.
	Handled()
	// Evict ends the connection, because others need its memory. It is called by the goroutine of another Reader.
	Evict()
	// NoRoom notes that there is no memory for the connection: it gets ErrMemory.
	NoRoom()
}

// Reader reads packets from a connection. On a socket an idle connection holds no buffer, and one with a part of a
// packet no more than that part. It is for one goroutine.
type Reader struct {
	host   Host
	memory *Memory
	nc     net.Conn
	raw    syscall.RawConn // nil if nc is not a socket of the kernel's
	try    func(fd uintptr) bool
	max    int       // bytes of a packet
	lent   []byte    // by host; nil if there is none
	now    time.Time // when it was
	buf    []byte    // what was read and not taken yet
	own    []byte    // to read into, if raw is nil
	part   []byte    // a part of a packet, kept without the lent buffer until the rest arrives
	big    []byte    // to read a packet into that is longer than the lent buffer or own
	held   int       // bytes of part, own and big that are charged to memory
	need   int       // bytes that buf has to have for another packet, as far as is known
	n      int       // what try has read
	err    error

	deadline deadline
}

// New returns a Reader of packets of at most most bytes. raw is the connection's socket, nil if it is not one of the kernel's.
func New(host Host, nc net.Conn, raw syscall.RawConn, m *Memory, most int) *Reader {
	r := &Reader{host: host, memory: m, nc: nc, raw: raw, max: most}
	r.try = r.readNow
	return r
}

// Limit sets how many bytes a packet may have from the next one on.
func (r *Reader) Limit(most int) { r.max = most }

// Most returns how many bytes a packet may have.
func (r *Reader) Most() int { return r.max }

// Next returns the next packet, which shares memory with the Reader until the next call. It calls wait
// each time before it waits for the client. The error is io.EOF if the connection ended
// between packets, a *wire.Error if the packet is malformed or too large, or one of the socket, of wait or ErrMemory.
func (r *Reader) Next(wait func() error) (wire.Raw, error) {
	for {
		p, n, err := wire.Split(r.buf, r.max)
		if err != nil {
			return p, err
		}
		if n <= len(r.buf) {
			r.buf = r.buf[n:]
			r.deadline.begun, r.deadline.heard = time.Time{}, r.now
			return p, nil
		}
		r.need = n
		if len(r.buf) > 0 && r.deadline.begun.IsZero() {
			r.deadline.begun = r.now
		}
		if r.lent != nil {
			r.host.Handled()
		}
		if err := wait(); err != nil {
			return p, err
		}
		if err := r.more(); err != nil {
			if err == io.EOF && len(r.buf) > 0 {
				err = io.ErrUnexpectedEOF
			}
			return p, err
		}
	}
}

func (r *Reader) more() error {
	if r.raw != nil {
		if err := r.raw.Read(r.try); err != nil {
			return err
		}
	} else {
		r.leave()
		if r.own == nil {
			r.own = make([]byte, ownBuffer)
		}
		var room []byte
		if room, r.err = r.room(r.own); r.err != nil {
			return r.err
		}
		r.n, r.err = r.nc.Read(room)
		r.enter()
	}
	if r.n > 0 {
		r.buf = r.buf[:len(r.buf)+r.n]
		r.host.Arrived(r.n)
		return nil
	}
	if r.err == nil {
		return io.EOF
	}
	return r.err
}

// readNow reads available bytes. If there are none, it gives the buffer back and lets the runtime wait.
func (r *Reader) readNow(fd uintptr) bool {
	r.enter()
	room, err := r.room(r.lent)
	if err != nil {
		r.n, r.err = 0, err
		return true
	}
	for {
		r.n, r.err = syscall.Read(int(fd), room)
		switch r.err {
		case syscall.EINTR:
			continue
		case syscall.EAGAIN:
			if err := r.putAside(); err != nil {
				r.n, r.err = 0, err
				return true
			}
			r.leave()
			return false
		}
		return true
	}
}

func (r *Reader) enter() { r.lent, r.now = r.host.Lend() }

// leave gives the buffer back. buf must not share its memory.
func (r *Reader) leave() {
	if r.lent != nil {
		r.lent = nil
		r.host.Return()
	}
}

// Pause gives the buffer back before a wait that is not for input; Resume goes on, also after an error. The last packet is
// not valid any more.
func (r *Reader) Pause() error {
	err := r.putAside()
	r.leave()
	return err
}

// Resume borrows the buffer again.
func (r *Reader) Resume() { r.enter() }

// putAside copies buf from the lent buffer to part, which grows as the packet arrives, not as it is announced.
func (r *Reader) putAside() error {
	switch n := len(r.buf); {
	case r.big != nil:
		return nil
	case n == 0:
		r.part = nil
		return r.charge(0)
	case cap(r.part) < n:
		size := min(max(2*cap(r.part), n), max(n, BufferSize))
		if err := r.charge(size); err != nil {
			return err
		}
		r.part = make([]byte, 0, size)
	}
	r.part = append(r.part[:0], r.buf...)
	r.buf = r.part
	return nil
}

// charge notes that the connection has n bytes of unfinished packets.
func (r *Reader) charge(n int) error {
	if n == r.held {
		return nil
	}
	victims, ok := r.memory.hold(r, int64(n))
	for _, v := range victims {
		v.host.Evict()
	}
	if !ok {
		r.host.NoRoom()
		return ErrMemory
	}
	r.held = n
	return nil
}

// Reserve counts n bytes in Memory that the connection has beside what the Reader has; Release gives them back. It returns
// ErrMemory if there is no room for them.
func (r *Reader) Reserve(n int) error { return r.charge(r.held + n) }

// Release gives back what Reserve has counted.
func (r *Reader) Release(n int) { r.charge(r.held - n) }

// room returns the memory to read into, behind the content of buf. It moves that to the front of base or, when base is
// full and the packet is longer, of big, which grows as the packet arrives, not as it is announced.
func (r *Reader) room(base []byte) ([]byte, error) {
	to := base
	var old []byte
	switch {
	case r.need <= len(base) || len(r.buf) < len(base):
		if r.big != nil {
			old, r.big = r.big, nil
			if err := r.charge(cap(r.part)); err != nil {
				return nil, err
			}
		}
	default:
		if len(r.buf) >= len(r.big) {
			next := r.memory.buffer(min(r.need, 2*len(r.buf)))
			if err := r.charge(len(next)); err != nil {
				return nil, err
			}
			old, r.big = r.big, next
			r.part = nil
		}
		to = r.big
	}
	if len(r.buf) > 0 && &r.buf[0] != &to[0] {
		copy(to, r.buf)
	}
	r.buf = to[:len(r.buf)]
	if old != nil {
		r.memory.putBuffer(old)
	}
	return to[len(r.buf):], nil
}

// Drop releases all buffers, for good. Packets read into them must not be used any more.
func (r *Reader) Drop() {
	r.leave()
	big := r.big
	r.part, r.big, r.buf, r.own = nil, nil, nil, nil
	r.memory.hold(r, 0)
	if big != nil {
		r.memory.putBuffer(big)
	}
}
