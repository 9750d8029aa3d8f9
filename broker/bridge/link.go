package bridge

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"holdfast/broker"
	"holdfast/broker/wire"
)

const (
	readBuffer = 16 << 10
	maxReceive = 2 << 20 // longest packet that is read, and the maximum packet size in CONNECT, over MQTT 5
	reasonWait = time.Second
)

// link is one connection to an upstream after CONNACK, for both versions. It knows of packets, not of
// messages. put and flush are for one goroutine, which also takes what has arrived; two goroutines of
// the link's own read and write, so that neither side waits for the other.
type link struct {
	nc      net.Conn
	tcp     tcp // below nc
	version wire.Version
	limits  limits
	willed  bool          // the upstream has a will
	timeout time.Duration // for each chunk
	begun   time.Time     // with the monotonic clock: no step of the wall clock makes the connection look dead, or alive

	in      input        // for the goroutine that reads
	arrived chan *batch  // what has; it is given back with release
	free    chan *batch  // for the goroutine that reads to fill
	heard   atomic.Int64 // when the last bytes came, in ns since begun

	out output

	stop  chan struct{} // closed by close
	once  sync.Once
	ended chan struct{}
	err   error // why; after ended
}

// input is what was read and not yet decoded.
type input struct {
	buf  []byte
	skip int // bytes of an oversized packet that are to come before anything else
}

// batch is what came with one read.
type batch struct {
	acks    []ack
	packets []wire.Packet // all but PUBACKs
}

// ack is a PUBACK.
type ack struct {
	id   uint16
	code wire.Code
	text string
}

func (l *link) heardAt() time.Time { return l.begun.Add(time.Duration(l.heard.Load())) }

// more reads once, towards a packet that ends at n bytes of in.
func (l *link) more(n int) error {
	if len(l.in.buf) == cap(l.in.buf) {
		l.in.buf = append(make([]byte, 0, min(n, 2*cap(l.in.buf))), l.in.buf...) // as it comes, not as it is announced
	}
	m, err := l.nc.Read(l.in.buf[len(l.in.buf):cap(l.in.buf)])
	l.in.buf = l.in.buf[:len(l.in.buf)+m]
	if m > 0 {
		return nil
	}
	if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) {
		return errClosed
	}
	return err
}

// read decodes what comes, until the connection ends. It alone sets err.
func (l *link) read() {
	defer close(l.ended)
	for {
		b, err := l.take()
		if b != nil {
			select {
			case l.arrived <- b:
			case <-l.stop:
			}
		}
		if err == nil {
			err = l.more(len(l.in.buf) + 1)
			l.heard.Store(int64(time.Since(l.begun)))
		}
		if err != nil {
			l.out.mu.Lock()
			if _, said := err.(*reasonError); l.out.err != nil && !said {
				if err = l.out.err; errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) {
					err = errClosed
				}
			}
			l.out.err = err
			l.out.mu.Unlock()
			l.err = err
			l.close()
			return
		}
	}
}

// take returns the whole packets of in, nil if there are none, and the error that ends the connection
// after them.
func (l *link) take() (b *batch, err error) {
	at := min(l.in.skip, len(l.in.buf))
	l.in.skip -= at
	for l.in.skip == 0 {
		var raw wire.Raw
		var n, size int
		if raw, n, err = wire.Split(l.in.buf[at:], maxReceive); err != nil {
			if raw, n, size = l.head(l.in.buf[at:]); size > 0 {
				err = nil
			}
		}
		if err != nil || n > len(l.in.buf)-at {
			break
		}
		at += n
		if b == nil {
			select {
			case b = <-l.free:
			case <-l.stop:
				return nil, net.ErrClosed
			}
		}
		if err = l.add(b, raw, size); err != nil {
			break
		}
		if size > 0 {
			k := min(size-n, len(l.in.buf)-at)
			at, l.in.skip = at+k, size-n-k
		}
	}
	l.in.buf = l.in.buf[:copy(l.in.buf, l.in.buf[at:])]
	if len(l.in.buf) == 0 && cap(l.in.buf) > readBuffer {
		l.in.buf = make([]byte, 0, readBuffer)
	}
	return b, err
}

// add puts a packet into a batch. size is that of one of which raw is only the head, else 0.
func (l *link) add(b *batch, raw wire.Raw, size int) error {
	if raw.Type() == wire.PUBACK {
		var a wire.Ack
		if err := raw.Ack(l.version, &a); err != nil {
			return err
		}
		text := ""
		if a.Properties.ReasonString != nil {
			text = *a.Properties.ReasonString
		}
		b.acks = append(b.acks, ack{a.ID, a.Code, text})
		return nil
	}
	p, err := raw.Packet(l.version)
	if err != nil {
		return err
	}
	switch p := p.(type) {
	case *wire.Publish:
		if err := broker.CheckTopic(p.Topic); err != nil || p.QoS > 1 || p.TopicAlias != 0 { // none of which was asked for
			return fmt.Errorf("upstream sends a PUBLISH that it may not: topic %.100q, QoS %d, alias %d", p.Topic, p.QoS, p.TopicAlias)
		}
		if size > 0 {
			b.packets = append(b.packets, oversized{p})
		} else {
			b.packets = append(b.packets, p)
		}
		return nil
	case *wire.Ping:
		if p.Type == wire.PINGRESP {
			b.packets = append(b.packets, p)
			return nil
		}
	case *wire.Suback:
		b.packets = append(b.packets, p)
		return nil
	case *wire.Disconnect:
		return reasonOf(wire.DISCONNECT, p.Code, &p.Properties)
	}
	return fmt.Errorf("upstream sends %v, which it may not", raw.Type())
}

// release gives back a batch from arrived.
func (l *link) release(b *batch) {
	clear(b.packets)
	b.acks, b.packets = b.acks[:0], b.packets[:0]
	l.free <- b
}

// close ends the connection without a DISCONNECT. ended follows.
func (l *link) close() {
	l.once.Do(func() {
		close(l.stop)
		l.nc.Close()
	})
}

// discard closes the connection and waits for the end of its goroutines; f is given what had arrived.
func (l *link) discard(f func(*batch)) {
	for {
		select {
		case b := <-l.arrived:
			f(b)
			l.release(b)
			continue
		default:
		}
		break
	}
	l.close()
	<-l.ended
}
