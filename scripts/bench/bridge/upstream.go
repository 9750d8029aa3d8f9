package main

import (
	"encoding/binary"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"holdfast/broker/wire"
)

// sink keeps account of what arrives.
type sink struct {
	begun    time.Time
	received atomic.Uint64 // first deliveries
	probed   atomic.Bool   // something has come

	mu         sync.Mutex
	seen       [][]uint64 // a bit for each message of a publisher
	next       []uint64   // one past the highest number
	duplicates uint64
	disorder   uint64
	delays     []time.Duration
}

func newSink(publishers int) *sink {
	return &sink{begun: time.Now(), seen: make([][]uint64, publishers), next: make([]uint64, publishers)}
}

func (s *sink) take(b []byte) {
	s.probed.Store(true)
	if len(b) != payloadSize {
		return // a check whether the bridge is there
	}
	who, n := binary.BigEndian.Uint32(b), binary.BigEndian.Uint64(b[4:])
	s.mu.Lock()
	defer s.mu.Unlock()
	if word := int(n / 64); word >= len(s.seen[who]) {
		s.seen[who] = append(s.seen[who], make([]uint64, word+1-len(s.seen[who]))...)
	}
	if s.seen[who][n/64]&(1<<(n%64)) != 0 {
		s.duplicates++
		return
	}
	s.seen[who][n/64] |= 1 << (n % 64)
	if n < s.next[who] {
		s.disorder++
	} else {
		s.next[who] = n + 1
	}
	s.received.Add(1)
	if len(s.delays) < 1<<20 {
		s.delays = append(s.delays, time.Since(s.begun)-time.Duration(binary.BigEndian.Uint64(b[12:])))
	}
}

func (s *sink) has(who uint32, n uint64) bool {
	return n/64 < uint64(len(s.seen[who])) && s.seen[who][n/64]&(1<<(n%64)) != 0
}

// account is what became of a load.
type account struct{ acknowledged, lost, duplicates, disorder uint64 }

// settle waits until all that was acknowledged has arrived, or nothing comes any more.
func (s *sink) settle(l *load) account {
	for quiet, last := 0, uint64(0); quiet < 50 && s.lost(l) > 0; {
		time.Sleep(100 * time.Millisecond)
		if n := s.received.Load(); n == last {
			quiet++
		} else {
			quiet, last = 0, n
		}
	}
	lost := s.lost(l)
	s.mu.Lock()
	defer s.mu.Unlock()
	return account{l.acked(), lost, s.duplicates, s.disorder}
}

func (s *sink) lost(l *load) (n uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range l.pubs {
		spans := append(slices.Clone(p.unknown), span{p.sent.Load(), p.sent.Load()})
		at := uint64(0)
		for _, x := range spans {
			for ; at < x.from; at++ {
				if !s.has(p.who, at) {
					n++
				}
			}
			at = x.to
		}
	}
	return n
}

func (s *sink) percentiles() (p50, p99 time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := slices.Sorted(slices.Values(s.delays))
	if len(d) == 0 {
		return 0, 0
	}
	return d[len(d)/2], d[len(d)*99/100]
}

// upstream acknowledges what it has counted, as a broker on another machine does: it takes no more of this
// machine than it must. It can be cut off.
type upstream struct {
	net.Listener
	sink     *sink
	accepted atomic.Int64 // connections that were let in

	mu    sync.Mutex
	up    bool
	conns map[net.Conn]bool
}

func newUpstream(s *sink, listen func() (net.Listener, error)) (*upstream, error) {
	l, err := listen()
	if err != nil {
		return nil, err
	}
	u := &upstream{Listener: l, sink: s, conns: map[net.Conn]bool{}}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go u.serve(c)
		}
	}()
	return u, nil
}

// serve talks to one gateway until either side ends the connection.
func (u *upstream) serve(c net.Conn) {
	defer c.Close()
	u.mu.Lock()
	up := u.up
	if up {
		u.conns[c] = true
		u.accepted.Add(1)
	}
	u.mu.Unlock()
	if !up {
		return
	}
	r := wire.NewReader(c, 0)
	r.SetVersion(wire.V311)
	var out []byte
	for {
		p, err := r.ReadPacket()
		if err != nil {
			return
		}
		switch p := p.(type) {
		case *wire.Connect:
			out = wire.Append(out, wire.V311, &wire.Connack{})
		case *wire.Publish:
			u.sink.take(p.Payload)
			if p.QoS == 1 {
				out = wire.AppendAck(out, wire.V311, wire.PUBACK, p.ID, 0)
			}
		case *wire.Ping:
			out = wire.Append(out, wire.V311, &wire.Ping{Type: wire.PINGRESP})
		}
		if len(out) > 0 && !r.Buffered() {
			if _, err := c.Write(out); err != nil {
				return
			}
			out = out[:0]
		}
	}
}

// set lets gateways in, or ends their connections and lets none in.
func (u *upstream) set(up bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.up = up
	if !up {
		for c := range u.conns {
			c.Close()
		}
		clear(u.conns)
	}
}

func (u *upstream) close() {
	u.set(false)
	u.Listener.Close()
}
