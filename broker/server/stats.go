package server

import (
	"cmp"
	"slices"
	"sync/atomic"
	"time"

	"holdfast/broker/wire"
)

// counts are the server's counters, for Stats and $SYS.
type counts struct {
	refusals refusals

	received, sent                                                            atomic.Uint64
	dropped                                                                   drops
	loginsRefused, rateLimited, revoked, refusedHosts, oversized              atomic.Uint64
	packetsIn, packetsOut, bytesIn, bytesOut, publishBytesIn, publishBytesOut atomic.Uint64
	sockets, connects, expired                                                atomic.Uint64
}

// drops are the counters of Drops.
type drops struct {
	queue, size, expired, refused, notRetained, denied, unread atomic.Uint64
}

func (d *drops) load() Drops {
	return Drops{
		Queue: d.queue.Load(), Size: d.size.Load(), Expired: d.expired.Load(), Refused: d.refused.Load(),
		NotRetained: d.notRetained.Load(), Denied: d.denied.Load(), Unread: d.unread.Load(),
	}
}

// Drops are messages that the server did not deliver, or not as asked, by reason. The names in JSON are those of the
// metrics, and a contract with scripts.
type Drops struct {
	Queue       uint64 `json:"queue"`   // the client's queue in memory was full
	Size        uint64 `json:"size"`    // larger than the client takes
	Expired     uint64 `json:"expired"` // their lifetime was over
	Refused     uint64 `json:"refused"` // the journal did not take them
	NotRetained uint64 `json:"not_retained"`
	Denied      uint64 `json:"denied"` // published to where the client may not
	Unread      uint64 `json:"unread"` // the subscriber may not read them
}

// Stats are counters since New and current gauges.
type Stats struct {
	Connections, Sessions, Subscriptions, Retained int

	Connected      int    // sessions that have a connection
	Received, Sent uint64 // PUBLISH packets
	Dropped        Drops
	LoginsRefused  uint64
	RateLimited    uint64                       // connections closed at the rate limit
	Revoked        uint64                       // connections closed for a revoked certificate
	RefusedHosts   uint64                       // WebSocket requests refused for their Host or Origin
	Oversized      uint64                       // connections closed for a packet larger than MaxPacket
	Limits         map[string]uint64            // refusals and drops by the limit's name
	Refusals       map[string]map[string]uint64 // failure codes sent to clients, by packet and reason
}

// Stats returns the server's counters and gauges.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	st := Stats{Connections: len(s.conns.all), Sessions: len(s.sessions.byID)}
	for _, x := range s.sessions.byID {
		if x.conn.Load() != nil {
			st.Connected++
		}
	}
	s.mu.Unlock()
	st.Subscriptions = s.index.Len()
	st.Retained = s.retained.Len()
	c := &s.counts
	st.Received, st.Sent, st.Dropped = c.received.Load(), c.sent.Load(), c.dropped.load()
	st.LoginsRefused, st.RateLimited, st.Revoked = c.loginsRefused.Load(), c.rateLimited.Load(), c.revoked.Load()
	st.RefusedHosts, st.Oversized = c.refusedHosts.Load(), c.oversized.Load()
	st.Limits, st.Refusals = s.limits.Totals(), s.counts.refusals.snapshot()
	return st
}

// firstFailure and lastCode bound the reason codes that are failures (MQTT 5.0 section 2.4).
const (
	firstFailure = wire.Unspecified
	lastCode     = wire.WildcardsDisabled
)

// refusals counts the failures sent to clients, by packet type and reason code. A 3.1.1 client gets fewer codes, or
// none where the connection just ends; it counts like one of 5.0. The zero value is empty; it is safe for concurrent
// use.
type refusals [wire.AUTH + 1][lastCode - firstFailure + 1]atomic.Uint64

// count counts an answer of type t if its code is a failure.
func (r *refusals) count(t wire.Type, code wire.Code) {
	if code >= firstFailure && code <= lastCode && t <= wire.AUTH {
		r[t][code-firstFailure].Add(1)
	}
}

// snapshot returns the totals by the packets' and the codes' names.
func (r *refusals) snapshot() map[string]map[string]uint64 {
	all := map[string]map[string]uint64{}
	for t := range r {
		for i := range r[t] {
			n := r[t][i].Load()
			if n == 0 {
				continue
			}
			name := wire.Type(t).String()
			if all[name] == nil {
				all[name] = map[string]uint64{}
			}
			all[name][(firstFailure + wire.Code(i)).String()] = n
		}
	}
	return all
}

// Client describes a session and its connection.
type Client struct {
	ID            string
	Connected     bool
	Remote        string       // of the connection; empty without one
	Version       wire.Version // of the connection; 0 without one
	Since         time.Time    // when the connection began; zero without one
	Subscriptions int
	Depth         uint64 // messages in the journal for it
}

// Clients returns up to most sessions, connected ones first, by client identifier.
func (s *Server) Clients(most int) []Client {
	type entry struct {
		x    *session
		conn *conn
	}
	s.mu.Lock()
	all := make([]entry, 0, len(s.sessions.byID))
	for _, x := range s.sessions.byID {
		all = append(all, entry{x, x.conn.Load()})
	}
	s.mu.Unlock()
	slices.SortFunc(all, func(a, b entry) int {
		switch {
		case a.conn != nil && b.conn == nil:
			return -1
		case a.conn == nil && b.conn != nil:
			return 1
		}
		return cmp.Compare(a.x.id, b.x.id)
	})
	all = all[:min(most, len(all))]
	clients := make([]Client, 0, len(all))
	for _, e := range all {
		c := Client{ID: e.x.id}
		if e.conn != nil {
			c.Connected, c.Remote, c.Version, c.Since = true, e.conn.remote(), e.conn.peer.version, e.conn.peer.since
		}
		c.Subscriptions = int(e.x.subs.count.Load())
		if e.x.reader != nil {
			c.Depth = e.x.reader.Depth()
		}
		clients = append(clients, c)
	}
	return clients
}
