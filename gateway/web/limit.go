package web

import (
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"holdfast/broker/auth"
	"holdfast/broker/listen"
)

// Refused counts connections that were closed at a limit.
type Refused struct {
	All     uint64 // there were as many as may be
	Address uint64 // one address had its share of them
	Pages   uint64 // as many pages as may be were looking: 503
}

// refusals are the totals of a Server, and what was logged of them.
type refusals struct {
	all, address, pages atomic.Uint64

	mu      sync.Mutex
	lastLog time.Time
	total   uint64 // when it was logged
}

// logEvery is the least time between log lines about closed connections.
const logEvery = 10 * time.Second

// note counts a connection from a remote address that is closed, and logs it at most every ten seconds.
func (r *refusals) note(log *slog.Logger, remote string, ofAddress bool) {
	count, limit, text := &r.all, maxConnections, "dashboard: connection closed: there are as many as may be; close pages, or let programs ask less often"
	if ofAddress {
		count, limit, text = &r.address, maxFromOne, "dashboard: connection closed: its address has as many as one may have; close pages, or let programs ask less often"
	}
	count.Add(1)
	r.mu.Lock()
	now, total := time.Now(), r.all.Load()+r.address.Load()
	quiet := !r.lastLog.IsZero() && now.Sub(r.lastLog) < logEvery
	times := total - r.total
	if !quiet {
		r.lastLog, r.total = now, total
	}
	r.mu.Unlock()
	if !quiet {
		log.Warn(text, "remote", remote, "connections", limit, "times", times)
	}
}

// limited bounds the connections of a listener, and puts TLS on them. One too many is closed at once.
type limited struct {
	net.Listener
	tls     listen.Options
	refused func(remote string, ofAddress bool)

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
		full := l.all >= maxConnections
		ofAddress := !full && from != "" && l.from[from] >= maxFromOne
		if !full && !ofAddress {
			l.all++
			l.from[from]++
		}
		l.mu.Unlock()
		if full || ofAddress {
			l.refused(nc.RemoteAddr().String(), ofAddress)
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
