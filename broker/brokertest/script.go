package brokertest

import (
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"testing"

	"holdfast/broker/wire"
)

// Script is an upstream that a test scripts, on every connection.
type Script struct {
	l    net.Listener
	work sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]struct{}
}

// Answer returns the answer to a packet, in the version of the connection. An error ends the connection. One
// goroutine for each connection calls it, with that connection's own state.
type Answer func(state *tls.ConnectionState, p wire.Packet) ([]wire.Packet, error)

// ErrHangUp ends a connection without a DISCONNECT.
var ErrHangUp = errors.New("hang up")

// NewScript listens until the test ends. With config it speaks TLS. session is called for each
// connection.
func NewScript(t testing.TB, config *tls.Config, session func() Answer) *Script {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &Script{l: l, conns: make(map[net.Conn]struct{})}
	t.Cleanup(s.close)
	s.work.Go(func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.conns[nc] = struct{}{}
			s.mu.Unlock()
			s.work.Go(func() {
				serve(nc, config, session())
				nc.Close()
				s.mu.Lock()
				delete(s.conns, nc)
				s.mu.Unlock()
			})
		}
	})
	return s
}

// Addr returns host:port.
func (s *Script) Addr() string { return s.l.Addr().String() }

func (s *Script) close() {
	s.l.Close()
	s.mu.Lock()
	for nc := range s.conns {
		nc.Close()
	}
	s.mu.Unlock()
	s.work.Wait()
}

func serve(nc net.Conn, config *tls.Config, answer Answer) {
	var state *tls.ConnectionState
	if config != nil {
		t := tls.Server(nc, config)
		if t.Handshake() != nil {
			return
		}
		c := t.ConnectionState()
		state, nc = &c, t
	}
	r := wire.NewReader(nc, 256<<20-1)
	version := wire.V311
	for {
		p, err := r.ReadPacket()
		if err != nil {
			return
		}
		if c, ok := p.(*wire.Connect); ok {
			version = c.Version
			r.SetVersion(version)
		}
		answers, err := answer(state, p)
		if _, ok := p.(*wire.Ping); ok && err == nil {
			answers = append(answers, &wire.Ping{Type: wire.PINGRESP})
		}
		var b []byte
		for _, a := range answers {
			b = wire.Append(b, version, a)
		}
		if _, sent := nc.Write(b); err != nil || sent != nil {
			return
		}
	}
}
