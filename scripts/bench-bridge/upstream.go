package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"holdfast/broker/wire"
)

// sink subscribes at the upstream and keeps account of what arrives, over any number of connections.
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

// subscribe counts until the connection ends.
func (s *sink) subscribe(addr string) (net.Conn, error) {
	c, err := connect(addr, "sink")
	if err != nil {
		return nil, err
	}
	r := wire.NewReader(c, 0)
	r.SetVersion(wire.V311)
	if _, err := c.Write(wire.Append(nil, wire.V311, &wire.Subscribe{
		ID: 1, Subscriptions: []wire.Subscription{{Filter: "bench/#", QoS: 1}},
	})); err != nil {
		return nil, err
	}
	if p, err := r.ReadPacket(); err != nil {
		return nil, err
	} else if _, ok := p.(*wire.Suback); !ok {
		return nil, fmt.Errorf("got %T, want SUBACK", p)
	}
	go func() {
		var acks []byte
		for {
			p, err := r.ReadPacket()
			if err != nil {
				return
			}
			m, ok := p.(*wire.Publish)
			if !ok {
				continue
			}
			s.take(m.Payload)
			if m.QoS == 1 {
				acks = wire.AppendAck(acks, wire.V311, wire.PUBACK, m.ID, 0)
			}
			if len(acks) > 0 && (!r.Buffered() || len(acks) >= 40) {
				if _, err := c.Write(acks); err != nil {
					return
				}
				acks = acks[:0]
			}
		}
	}()
	return c, nil
}

func (s *sink) take(b []byte) {
	s.probed.Store(true)
	if len(b) != payloadSize {
		return // somebody asks whether the bridge is there
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

// upstream is a Mosquitto without persistence behind a link that can be cut.
type upstream struct {
	broker *process
	dir    string
	link   *link
}

func newUpstream() (*upstream, error) {
	dir, err := os.MkdirTemp("", "bench-upstream")
	if err != nil {
		return nil, err
	}
	addr, err := freeAddress()
	if err != nil {
		return nil, err
	}
	u := &upstream{dir: dir}
	if u.broker, err = newMosquitto("upstream", dir, addr, "persistence false\n"); err == nil {
		_, err = u.broker.start()
	}
	if err == nil {
		u.link, err = newLink(addr)
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return u, nil
}

func (u *upstream) close() {
	u.link.close()
	u.broker.end(syscall.SIGKILL)
	os.RemoveAll(u.dir)
}
