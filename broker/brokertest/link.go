package brokertest

import (
	"io"
	"net"
	"sync"
	"testing"
)

// Link is a TCP path to a broker that a test can cut: a port of its own that forwards to it. It begins
// cut; then connections are refused.
type Link struct {
	t      testing.TB
	addr   string
	target string

	mu       sync.Mutex
	listener net.Listener // nil while cut
	conns    map[net.Conn]struct{}
	work     sync.WaitGroup
}

// NewLink returns a link to target, host:port, which ends with the test.
func NewLink(t testing.TB, target string) *Link {
	l := &Link{t: t, addr: FreeAddress(t), target: target, conns: map[net.Conn]struct{}{}}
	t.Cleanup(l.Cut)
	return l
}

// Addr returns host:port of the near end.
func (l *Link) Addr() string { return l.addr }

// Join lets connections through.
func (l *Link) Join() {
	l.t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.listener != nil {
		return
	}
	listener, err := net.Listen("tcp", l.addr)
	if err != nil {
		l.t.Fatal(err)
	}
	l.listener = listener
	l.work.Go(func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return
			}
			l.forward(near)
		}
	})
}

// forward carries bytes both ways until one end closes.
func (l *Link) forward(near net.Conn) {
	far, err := net.Dial("tcp", l.target)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil || l.listener == nil {
		near.Close()
		if far != nil {
			far.Close()
		}
		return
	}
	for _, pair := range [][2]net.Conn{{near, far}, {far, near}} {
		l.conns[pair[0]] = struct{}{}
		l.work.Go(func() {
			io.Copy(pair[1], pair[0])
			near.Close()
			far.Close()
			l.mu.Lock()
			delete(l.conns, pair[0])
			l.mu.Unlock()
		})
	}
}

// Cut ends every connection and refuses new ones.
func (l *Link) Cut() {
	l.mu.Lock()
	if l.listener != nil {
		l.listener.Close()
		l.listener = nil
	}
	for c := range l.conns {
		c.Close()
	}
	l.mu.Unlock()
	l.work.Wait()
}
