package server

import "sync/atomic"

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
	st.Retained = s.retained.len()
	c := &s.counts
	st.Received, st.Sent, st.Dropped = c.received.Load(), c.sent.Load(), c.dropped.load()
	st.LoginsRefused, st.RateLimited, st.Revoked = c.loginsRefused.Load(), c.rateLimited.Load(), c.revoked.Load()
	st.RefusedHosts, st.Oversized = c.refusedHosts.Load(), c.oversized.Load()
	st.Limits, st.Refusals = s.limits.Totals(), s.counts.refusals.snapshot()
	return st
}
