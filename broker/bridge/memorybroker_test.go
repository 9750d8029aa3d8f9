package bridge

import (
	"net"
	"slices"
	"sync"
	"time"

	"holdfast/broker/wire"
)

const (
	brokerWindow = 10 // commands that the broker has in flight
	brokerWait   = time.Minute
)

// memoryBroker is an upstream at the far ends of pipes: it acknowledges what it has noted, and keeps a session as
// real ones do, that one connection at a time has. What is not acknowledged comes again by the next one, with DUP,
// the same identifiers and in order; and a connection that owes an acknowledgement for long is ended.
type memoryBroker struct {
	got      func(*wire.Publish) // one after the other
	commands []*wire.Publish     // published when the gateway has subscribed
	lowest   bool                // an identifier is the lowest that is free, instead of the next

	mu      sync.Mutex
	now     net.Conn // whose the session is
	version wire.Version
	session bool
	queue   []*wire.Publish
	flight  []*wire.Publish // oldest first
	since   time.Time       // when the oldest in flight was sent, or became the oldest
	id      uint16
}

func (b *memoryBroker) serve(c net.Conn) {
	defer c.Close()
	r := wire.NewReader(c, 0)
	for {
		p, err := r.ReadPacket()
		if err != nil {
			return
		}
		if connect, ok := p.(*wire.Connect); ok {
			r.SetVersion(connect.Version)
		}
		answer, deadline, ok := b.handle(c, p)
		if !ok {
			return
		}
		if _, err := c.Write(answer); err != nil {
			return
		}
		_ = c.SetReadDeadline(deadline)
	}
}

// handle returns what is sent after a packet, and until when the next one has to come.
func (b *memoryBroker) handle(c net.Conn, p wire.Packet) (answer []byte, deadline time.Time, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	send := func(p wire.Packet) { answer = wire.Append(answer, b.version, p) }
	connect, first := p.(*wire.Connect)
	if !first && b.now != c {
		return nil, deadline, false // another connection has taken over
	}
	switch p := p.(type) {
	case *wire.Connect:
		if b.now != nil {
			b.now.Close()
		}
		b.now, b.version, b.since = c, connect.Version, time.Now()
		if connect.CleanStart {
			b.session, b.queue, b.flight = false, nil, nil
		}
		send(&wire.Connack{SessionPresent: b.session})
		for _, m := range b.flight {
			m.Dup = true
			send(m)
		}
	case *wire.Subscribe:
		send(&wire.Suback{Type: wire.SUBACK, ID: p.ID, Codes: make([]wire.Code, len(p.Subscriptions))})
		if !b.session {
			b.session, b.queue = true, b.commands
		}
	case *wire.Publish:
		b.got(p)
		send(&wire.Ack{Type: wire.PUBACK, ID: p.ID})
	case *wire.Ack:
		i := slices.IndexFunc(b.flight, func(m *wire.Publish) bool { return m.ID == p.ID })
		if i >= 0 {
			b.flight = slices.Delete(b.flight, i, i+1)
			b.since = time.Now()
		}
	case *wire.Ping:
		send(&wire.Ping{Type: wire.PINGRESP})
	case *wire.Disconnect:
		return nil, deadline, false
	}
	for len(b.queue) > 0 && len(b.flight) < brokerWindow {
		if len(b.flight) == 0 {
			b.since = time.Now()
		}
		m := *b.queue[0]
		m.ID = b.nextID()
		b.queue, b.flight = b.queue[1:], append(b.flight, &m)
		send(&m)
	}
	if len(b.flight) > 0 {
		deadline = b.since.Add(brokerWait)
	}
	return answer, deadline, true
}

func (b *memoryBroker) nextID() uint16 {
	if !b.lowest {
		b.id++
		return b.id
	}
	for id := uint16(1); ; id++ {
		if !slices.ContainsFunc(b.flight, func(m *wire.Publish) bool { return m.ID == id }) {
			return id
		}
	}
}

// owes is how many commands are not acknowledged.
func (b *memoryBroker) owes() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.queue) + len(b.flight)
}
