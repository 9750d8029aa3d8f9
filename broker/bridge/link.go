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
	maxReceive = 2 << 20  // longest packet that is read, and the maximum packet size in CONNECT, over MQTT 5
	writeChunk = 16 << 10 // of what is written each has its own deadline, so that a slow link can carry a long message
	unsent     = 64 << 10 // bytes queued before the kernel, and in it
	reasonWait = time.Second
)

// link is one connection to an upstream after CONNACK, for both versions. It knows of packets, not of
// messages. put and flush are for one goroutine, which also takes what has arrived; two goroutines of
// the link's own read and write, so that neither side waits for the other.
type link struct {
	nc      net.Conn
	version wire.Version
	limits  limits
	willed  bool          // the upstream has a will
	timeout time.Duration // for each chunk

	in      []byte      // read and not yet decoded
	skip    int         // bytes of an oversized packet that are to come before anything else
	arrived chan *batch // what has; it is given back with release
	free    chan *batch
	begun   time.Time    // with the monotonic clock: no step of the wall clock makes the connection look dead, or alive
	heard   atomic.Int64 // when the last bytes came, in ns since begun
	ended   chan struct{}
	err     error // why; after ended
	stop    chan struct{}
	once    sync.Once

	wake    chan struct{} // there is something to write
	drained chan struct{} // there is room again
	wrote   atomic.Int64  // when the last bytes were taken by the kernel, in ns since begun
	written atomic.Uint64 // bytes, of those that were put
	put     uint64

	tcp    syscall.RawConn // nil if it is none
	segs   uint32          // that TCP had sent, when it was asked last
	resegs uint32          // of them, again

	mu       sync.Mutex
	pending  []byte
	writeErr error // nothing follows a packet that was cut short
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
func (l *link) wroteAt() time.Time { return l.begun.Add(time.Duration(l.wrote.Load())) }

// more reads once, towards a packet that ends at n bytes of in.
func (l *link) more(n int) error {
	if len(l.in) == cap(l.in) {
		l.in = append(make([]byte, 0, min(n, 2*cap(l.in))), l.in...) // as it comes, not as it is announced
	}
	m, err := l.nc.Read(l.in[len(l.in):cap(l.in)])
	l.in = l.in[:len(l.in)+m]
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
			err = l.more(len(l.in) + 1)
			l.heard.Store(int64(time.Since(l.begun)))
		}
		if err != nil {
			l.mu.Lock()
			if _, said := err.(*reasonError); l.writeErr != nil && !said {
				if err = l.writeErr; errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) {
					err = errClosed
				}
			}
			l.writeErr = err
			l.mu.Unlock()
			l.err = err
			l.close()
			return
		}
	}
}

// take returns the whole packets of in, nil if there are none, and the error that ends the connection
// after them.
func (l *link) take() (b *batch, err error) {
	at := min(l.skip, len(l.in))
	l.skip -= at
	for l.skip == 0 {
		var raw wire.Raw
		var n, size int
		if raw, n, err = wire.Split(l.in[at:], maxReceive); err != nil {
			if raw, n, size = l.head(l.in[at:]); size > 0 {
				err = nil
			}
		}
		if err != nil || n > len(l.in)-at {
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
			k := min(size-n, len(l.in)-at)
			at, l.skip = at+k, size-n-k
		}
	}
	l.in = l.in[:copy(l.in, l.in[at:])]
	if len(l.in) == 0 && cap(l.in) > readBuffer {
		l.in = make([]byte, 0, readBuffer)
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

// publish queues a PUBLISH and returns how many bytes have to be written until it is.
func (l *link) publish(p *wire.Publish) (end uint64) {
	l.mu.Lock()
	n := len(l.pending)
	l.pending = wire.AppendPublish(l.pending, l.version, p)
	l.put += uint64(len(l.pending) - n)
	l.mu.Unlock()
	return l.put
}

// send queues another packet.
func (l *link) send(p wire.Packet) (end uint64) {
	l.mu.Lock()
	n := len(l.pending)
	l.pending = wire.Append(l.pending, l.version, p)
	l.put += uint64(len(l.pending) - n)
	l.mu.Unlock()
	return l.put
}

// waiting returns how many queued bytes the kernel has not taken yet.
func (l *link) waiting() int { return int(l.put - l.written.Load()) }

// flush writes what was queued.
func (l *link) flush() { signal(l.wake) }

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (l *link) write() {
	var buf []byte
	for {
		select {
		case <-l.wake:
		case <-l.stop:
			return
		}
		l.mu.Lock()
		buf, l.pending = l.pending, buf[:0]
		l.mu.Unlock()
		for b := buf; len(b) > 0; {
			chunk := b[:min(len(b), writeChunk)]
			err := l.nc.SetWriteDeadline(time.Now().Add(l.timeout))
			if err == nil {
				_, err = l.nc.Write(chunk)
			}
			if err != nil {
				l.mu.Lock()
				l.writeErr = err
				l.mu.Unlock()
				l.nc.SetReadDeadline(time.Now().Add(reasonWait)) // the upstream may have said why
				return
			}
			b = b[len(chunk):]
			l.wrote.Store(int64(time.Since(l.begun)))
			l.written.Add(uint64(len(chunk)))
			signal(l.drained)
		}
		if cap(buf) > 4*unsent {
			buf = nil
		}
	}
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
