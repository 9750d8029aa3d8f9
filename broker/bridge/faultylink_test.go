package bridge

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"holdfast/broker/wire"
)

// fault is what a link does at the boundary before one packet of one direction.
type fault int

const (
	cut      fault = iota // the connection ends
	drop                  // the packet vanishes and others follow it, which TCP does not do but a broken proxy does
	delay                 // it takes its time, and what is behind it as well
	truncate              // its first bytes arrive, then the connection ends
	halfOpen              // nothing arrives any more in this direction, and neither end notices
	halfDone              // this direction ends; the other one goes on
	faults
)

func (f fault) String() string {
	return [...]string{"cut", "drop", "delay", "truncate", "half-open", "half-close"}[f]
}

// at is a boundary: before a packet, counted from 0, to the broker or from it.
type at struct {
	up     bool
	packet int
}

// faultyLink is a path to a broker on which each connection fails as planned, the n-th as the n-th plan says.
type faultyLink struct {
	to          *memoryBroker
	plans       []map[at]fault
	connections int // of Run's one goroutine
	work        sync.WaitGroup

	mu      sync.Mutex
	rng     *rand.Rand
	most    map[bool]int  // packets of one connection, by direction
	dropped map[bool]bool // a packet vanished, by direction
}

func (l *faultyLink) dial(context.Context, *url.URL) (net.Conn, error) {
	var plan map[at]fault
	if l.connections < len(l.plans) {
		plan = l.plans[l.connections]
	}
	l.connections++
	gateway, near := newEnd()
	broker, far := newEnd()
	l.work.Go(func() { l.to.serve(broker) })
	l.work.Go(func() { l.carry(near, far, broker, plan, true) })
	l.work.Go(func() { l.carry(far, near, gateway, plan, false) })
	return gateway, nil
}

// roll returns a number from 0 to n-1.
func (l *faultyLink) roll(n int64) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.rng.Int64N(n)
}

// carry takes packets from one side to the other until a side has gone. to is the link's own end, reader
// the end of the reader there.
func (l *faultyLink) carry(from, to net.Conn, reader *end, plan map[at]fault, up bool) {
	defer from.Close()
	defer to.Close()
	var buf []byte
	for n, dead := 0, false; ; {
		_, size, err := wire.Split(buf, 0)
		if err != nil || size > len(buf) {
			more := make([]byte, 4096)
			m, err := from.Read(more)
			if err != nil {
				return
			}
			buf = append(buf, more[:m]...)
			continue
		}
		packet := buf[:size]
		what, faulty := plan[at{up, n}]
		n++
		l.mu.Lock()
		l.most[up] = max(l.most[up], n)
		l.mu.Unlock()
		switch {
		case dead:
		case !faulty:
			if _, err := to.Write(packet); err != nil {
				return
			}
		case what == cut:
			return
		case what == delay:
			time.Sleep(time.Duration(l.roll(int64(2 * time.Minute))))
			if _, err := to.Write(packet); err != nil {
				return
			}
		case what == drop:
			l.mu.Lock()
			l.dropped[up] = true
			l.mu.Unlock()
		case what == truncate:
			_, _ = to.Write(packet[:1+l.roll(int64(size)-1)])
			return
		case what == halfOpen:
			dead = true
		case what == halfDone:
			dead = true
			reader.finish()
		}
		buf = buf[size:]
	}
}

// end is one end of a net.Pipe whose reading can end while its writing goes on.
type end struct {
	net.Conn
	done atomic.Bool
}

func newEnd() (*end, net.Conn) {
	near, far := net.Pipe()
	return &end{Conn: near}, far
}

func (e *end) finish() {
	e.done.Store(true)
	_ = e.Conn.SetReadDeadline(time.Now().Add(-time.Second))
}

func (e *end) Read(p []byte) (int, error) {
	n, err := e.Conn.Read(p)
	var timeout net.Error
	if e.done.Load() && errors.As(err, &timeout) && timeout.Timeout() {
		return n, io.EOF
	}
	return n, err
}

func (e *end) SetDeadline(t time.Time) error {
	if e.done.Load() {
		return e.Conn.SetWriteDeadline(t)
	}
	return e.Conn.SetDeadline(t)
}

func (e *end) SetReadDeadline(t time.Time) error {
	if e.done.Load() {
		return nil
	}
	return e.Conn.SetReadDeadline(t)
}
