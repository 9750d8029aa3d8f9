package web

import (
	"net"
	"sync"

	"holdfast/broker/auth"
	"holdfast/broker/listen"
)

// limited bounds the connections of a listener, and puts TLS on them. One too many is closed at once.
type limited struct {
	net.Listener
	tls listen.Options

	mu   sync.Mutex
	all  int
	from map[string]int // by source
}

func (l *limited) Accept() (net.Conn, error) {
	for {
		nc, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		from := auth.Source(nc.RemoteAddr()) // empty for this device
		l.mu.Lock()
		full := l.all >= maxConnections || from != "" && l.from[from] >= maxFromOne
		if !full {
			l.all++
			l.from[from]++
		}
		l.mu.Unlock()
		if full {
			nc.Close()
			continue
		}
		return l.tls.Wrap(&counted{Conn: nc, free: sync.OnceFunc(func() { l.free(from) })}), nil
	}
}

func (l *limited) free(from string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all--
	if l.from[from]--; l.from[from] == 0 {
		delete(l.from, from)
	}
}

type counted struct {
	net.Conn
	free func()
}

func (c *counted) Close() error {
	c.free()
	return c.Conn.Close()
}
