package bridge

import (
	"context"
	"errors"
	"net"
	"net/url"
	"sync"
	"testing"
	"time"

	"holdfast/broker/outbox"
	"holdfast/broker/outbox/outboxtest"
	"holdfast/broker/wire"
)

// TestFaultsOfSinks runs the faults that every sink of an outbox has to get over with the bridge, over both versions.
func TestFaultsOfSinks(t *testing.T) {
	versions(t, func(t *testing.T, version wire.Version) {
		outboxtest.Run(t, func(t *testing.T, o outbox.Options) outboxtest.Subject {
			u := &scriptedUpstream{dials: make(chan *dialed)}
			b, err := New(Options{
				Options: o, Upstreams: []string{"mqtt://upstream"}, ClientID: "gateway", Protocol: version, Dial: u.dial,
				Out: []Rule{{Filter: "#", QoS: 1}},
			})
			if err != nil {
				t.Fatal(err)
			}
			return outboxtest.Subject{Run: b.Run, Stats: func() outbox.Stats { return b.Stats().Stats }, Upstream: u}
		})
	})
}

// scriptedUpstream is a broker at the far ends of pipes.
type scriptedUpstream struct {
	dials chan *dialed
}

// dialed is an attempt that has no answer yet.
type dialed struct {
	far      net.Conn
	accepted chan bool
}

func (u *scriptedUpstream) dial(ctx context.Context, _ *url.URL) (net.Conn, error) {
	near, far := net.Pipe()
	d := &dialed{far, make(chan bool, 1)}
	select {
	case u.dials <- d:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if !<-d.accepted {
		return nil, errors.New("connection refused")
	}
	return socket{near}, nil
}

func (u *scriptedUpstream) Refuse() { (<-u.dials).accepted <- false }

func (u *scriptedUpstream) Accept() outboxtest.Peer {
	d := <-u.dials
	d.accepted <- true
	p := &scriptedPeer{c: d.far, came: make(chan struct{}, 1), ended: make(chan struct{})}
	r := wire.NewReader(d.far, 0)
	packet, err := r.ReadPacket()
	if connect, ok := packet.(*wire.Connect); ok && err == nil {
		p.version = connect.Version
		r.SetVersion(p.version)
		p.write(&wire.Connack{})
	}
	go p.read(r)
	return p
}

// scriptedPeer is a connection to the bridge. A packet identifier is a reference.
type scriptedPeer struct {
	c       net.Conn
	version wire.Version
	writing sync.Mutex

	mu      sync.Mutex
	arrived []outboxtest.Received
	came    chan struct{}
	ended   chan struct{}
}

func (p *scriptedPeer) write(packet wire.Packet) {
	p.writing.Lock()
	defer p.writing.Unlock()
	_, _ = p.c.Write(wire.Append(nil, p.version, packet))
}

func (p *scriptedPeer) read(r *wire.Reader) {
	defer close(p.ended)
	defer p.c.Close()
	for {
		packet, err := r.ReadPacket()
		if err != nil {
			return
		}
		switch packet := packet.(type) {
		case *wire.Publish:
			p.mu.Lock()
			p.arrived = append(p.arrived, outboxtest.Received{Ref: uint64(packet.ID), Payload: packet.Payload})
			p.mu.Unlock()
			signal(p.came)
		case *wire.Ping:
			p.write(&wire.Ping{Type: wire.PINGRESP})
		case *wire.Disconnect:
			return
		}
	}
}

func (p *scriptedPeer) Receive(within time.Duration) (outboxtest.Received, bool) {
	late := time.After(within)
	for {
		p.mu.Lock()
		if len(p.arrived) > 0 {
			m := p.arrived[0]
			p.arrived = p.arrived[1:]
			p.mu.Unlock()
			return m, true
		}
		p.mu.Unlock()
		select {
		case <-p.came:
		case <-p.ended:
			return outboxtest.Received{}, false
		case <-late:
			return outboxtest.Received{}, false
		}
	}
}

// Answer sends a PUBACK; 3.1.1 has no reason codes.
func (p *scriptedPeer) Answer(ref uint64, a outbox.Answer) bool {
	if a != outbox.Taken && p.version != wire.V5 {
		return false
	}
	code := map[outbox.Answer]wire.Code{
		outbox.Taken: wire.Success, outbox.Never: wire.NotAuthorized, outbox.Later: wire.QuotaExceeded, outbox.Doubt: wire.ImplementationSpecific,
	}[a]
	p.write(&wire.Ack{Type: wire.PUBACK, ID: uint16(ref), Code: code})
	return true
}

func (p *scriptedPeer) End() { p.c.Close() }

func (p *scriptedPeer) Ended(within time.Duration) bool {
	select {
	case <-p.ended:
		return true
	case <-time.After(within):
		return false
	}
}
