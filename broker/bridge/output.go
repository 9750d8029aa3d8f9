package bridge

import (
	"sync"
	"sync/atomic"
	"time"

	"holdfast/broker/wire"
)

const (
	writeChunk = 16 << 10 // of what is written each has its own deadline, so that a slow link can carry a long message
	unsent     = 64 << 10 // bytes queued before the kernel, and in it
)

// output is what is queued for the upstream, and how much of it the kernel has.
type output struct {
	put     uint64        // bytes that were queued; for the goroutine that queues
	written atomic.Uint64 // bytes, of those that were put
	wrote   atomic.Int64  // when the last bytes were taken by the kernel, in ns since the link began
	wake    chan struct{} // there is something to write
	drained chan struct{} // there is room again

	mu      sync.Mutex // a leaf; guards what follows
	pending []byte
	err     error // nothing follows a packet that was cut short
}

func newOutput() output { return output{wake: make(chan struct{}, 1), drained: make(chan struct{}, 1)} }

// publish queues a PUBLISH and returns how many bytes have to be written until it is.
func (l *link) publish(p *wire.Publish) (end uint64) {
	o := &l.out
	o.mu.Lock()
	n := len(o.pending)
	o.pending = wire.AppendPublish(o.pending, l.version, p)
	o.put += uint64(len(o.pending) - n)
	o.mu.Unlock()
	return o.put
}

// send queues another packet.
func (l *link) send(p wire.Packet) (end uint64) {
	o := &l.out
	o.mu.Lock()
	n := len(o.pending)
	o.pending = wire.Append(o.pending, l.version, p)
	o.put += uint64(len(o.pending) - n)
	o.mu.Unlock()
	return o.put
}

// flush writes what was queued.
func (l *link) flush() { signal(l.out.wake) }

// wroteAt returns when the kernel took the last bytes.
func (l *link) wroteAt() time.Time { return l.begun.Add(time.Duration(l.out.wrote.Load())) }

// unwritten returns how many queued bytes the kernel has not taken yet.
func (o *output) unwritten() int { return int(o.put - o.written.Load()) }

// write writes what was queued until the link ends or a write fails.
func (l *link) write() {
	o := &l.out
	var buf []byte
	for {
		select {
		case <-o.wake:
		case <-l.stop:
			return
		}
		o.mu.Lock()
		buf, o.pending = o.pending, buf[:0]
		o.mu.Unlock()
		for b := buf; len(b) > 0; {
			chunk := b[:min(len(b), writeChunk)]
			err := l.nc.SetWriteDeadline(time.Now().Add(l.timeout))
			if err == nil {
				_, err = l.nc.Write(chunk)
			}
			if err != nil {
				o.mu.Lock()
				o.err = err
				o.mu.Unlock()
				l.nc.SetReadDeadline(time.Now().Add(reasonWait)) // the upstream may have said why
				return
			}
			b = b[len(chunk):]
			o.wrote.Store(int64(time.Since(l.begun)))
			o.written.Add(uint64(len(chunk)))
			signal(o.drained)
		}
		if cap(buf) > 4*unsent {
			buf = nil
		}
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
