package main

import (
	"io"
	"net"
	"sync"
)

// link carries connections to a broker as long as it is up. It splices in the kernel, so that it costs
// little.
type link struct {
	net.Listener
	target string

	mu    sync.Mutex
	up    bool
	conns []net.Conn
}

func newLink(target string) (*link, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	k := &link{Listener: l, target: target}
	go k.accept()
	return k, nil
}

func (k *link) accept() {
	for {
		near, err := k.Accept()
		if err != nil {
			return
		}
		k.mu.Lock()
		up := k.up
		k.mu.Unlock()
		if !up {
			near.Close()
			continue
		}
		far, err := net.Dial("tcp", k.target)
		if err != nil {
			near.Close()
			continue
		}
		k.mu.Lock()
		k.conns = append(k.conns, near, far)
		k.mu.Unlock()
		for _, pair := range [][2]net.Conn{{near, far}, {far, near}} {
			go func() {
				io.Copy(pair[0], pair[1])
				pair[0].Close()
				pair[1].Close()
			}()
		}
	}
}

// set lets connections through, or ends those that there are and lets none through.
func (k *link) set(up bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.up = up
	if !up {
		for _, c := range k.conns {
			c.Close()
		}
		k.conns = nil
	}
}

func (k *link) close() {
	k.set(false)
	k.Listener.Close()
}
