package web

import (
	"crypto/tls"
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

// limited bounds the connections of a listener, and puts TLS on them. One too many takes the place of the connection that
// has waited the longest for its next request to be complete, or is closed at once where there is none: a flood of
// connections keeps a probe of the gateway's health away for no longer than the gateway takes to answer it.
type limited struct {
	net.Listener
	tls     listen.Options
	refused func(remote string, ofAddress bool)

	mu      sync.Mutex
	places  map[*place]struct{}
	turns   uint64 // counts places taken and requests answered
	working int    // places with a request in work
}

// place is a connection of a limited listener. The fields below the first line are guarded by the listener's mutex.
type place struct {
	net.Conn
	of   *limited
	from string // its source; empty for this device

	turn     uint64 // when it began to wait
	requests int    // in work
}

func (l *limited) Accept() (net.Conn, error) {
	for {
		nc, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		p := &place{Conn: nc, of: l, from: auth.Source(nc.RemoteAddr())}
		closed, ofAddress := l.take(p)
		if closed != nil {
			l.refused(closed.RemoteAddr().String(), ofAddress)
			closed.Close()
		}
		if closed != p {
			return l.tls.Wrap(p), nil
		}
	}
}

// take gives p a place. It returns the connection that has to be closed for that, p itself where all others work, and
// whether one address has its share.
func (l *limited) take(p *place) (closed *place, ofAddress bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	same := 0
	for o := range l.places {
		if o.from == p.from {
			same++
		}
	}
	ofAddress = p.from != "" && same >= maxFromOne
	if ofAddress || len(l.places) >= maxConnections {
		for o := range l.places {
			if o.requests == 0 && (!ofAddress || o.from == p.from) && (closed == nil || o.turn < closed.turn) {
				closed = o
			}
		}
		if closed == nil {
			return p, ofAddress
		}
		delete(l.places, closed)
	}
	l.turns++
	p.turn = l.turns
	l.places[p] = struct{}{}
	return closed, ofAddress
}

// begin notes that p has a request in work. It reports false where as many as may be have one.
func (p *place) begin() bool {
	p.of.mu.Lock()
	defer p.of.mu.Unlock()
	if p.requests == 0 {
		if p.of.working >= maxWorking {
			return false
		}
		p.of.working++
	}
	p.requests++
	return true
}

func (p *place) end() {
	p.of.mu.Lock()
	defer p.of.mu.Unlock()
	if p.requests--; p.requests == 0 {
		p.of.working--
		p.of.turns++
		p.turn = p.of.turns
	}
}

// Close gives the place back.
func (p *place) Close() error {
	p.of.mu.Lock()
	delete(p.of.places, p)
	p.of.mu.Unlock()
	return p.Conn.Close()
}

// placeOf returns the place of a connection that http has; nil if it has none.
func placeOf(c net.Conn) *place {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	p, _ := c.(*place)
	return p
}
