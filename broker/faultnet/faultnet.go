// Package faultnet is a TCP path to a broker that can be cut: a port that forwards to it. Tests, `holdfast demo`
// and `holdfast torture` put it between a gateway and its upstream.
//
// It promises that after Cut nothing more comes through and none of its goroutines is left. It delays nothing
// and loses no part of what it has let through.
package faultnet

import (
	"io"
	"net"
	"sync"
)

// Link begins cut; then connections are refused. Its methods are safe for concurrent use.
type Link struct {
	addr, target string

	mu       sync.Mutex
	listener net.Listener // nil while cut
	conns    map[net.Conn]struct{}
	work     sync.WaitGroup
}

// New returns a link from addr to target, each host:port.
func New(addr, target string) *Link {
	return &Link{addr: addr, target: target, conns: map[net.Conn]struct{}{}}
}

// Addr returns host:port of the near end.
func (l *Link) Addr() string { return l.addr }

// Join lets connections through.
func (l *Link) Join() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.listener != nil {
		return nil
	}
	listener, err := net.Listen("tcp", l.addr)
	if err != nil {
		return err
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
	return nil
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
