package server

import "sync/atomic"

// counts are the server's counters, for Stats and $SYS.
type counts struct {
	limits   reached
	refusals refusals

	revoked                                                                           atomic.Uint64 // connections with a revoked certificate
	strangers                                                                         atomic.Uint64 // WebSocket requests with a wrong Host or Origin
	received, sent, droppedQueue, droppedSize, droppedExpired, refused, notRetained   atomic.Uint64
	packetsIn, packetsOut, bytesIn, bytesOut, publishBytesIn, publishBytesOut         atomic.Uint64
	sockets, connects, expired, deniedPublishes, logins, deniedReads, rate, oversized atomic.Uint64
}

// Stats are counters since New and current gauges.
type Stats struct {
	Connections, Sessions, Subscriptions, Retained int
	Connected                                      int    // sessions that have a connection
	Received, Sent                                 uint64 // PUBLISH packets
	DroppedQueue                                   uint64 // messages for clients whose memory queue was full
	DroppedSize                                    uint64 // messages larger than the client's maximum packet size
	DroppedExpired                                 uint64
	Refused                                        uint64 // publishes that the journal did not take
	NotRetained                                    uint64 // messages delivered but not retained, at a limit
	Denied                                         uint64 // publishes to topics that the client may not publish to
	DeniedDelivery                                 uint64 // messages that a subscriber may not read
	LoginsRefused                                  uint64
	RateLimited                                    uint64                       // connections closed at the rate limit
	Revoked                                        uint64                       // connections closed for a revoked certificate
	RefusedHosts                                   uint64                       // WebSocket requests refused for their Host or Origin
	Oversized                                      uint64                       // connections closed for a packet larger than MaxPacket
	Limits                                         map[string]uint64            // refusals and drops by the limit's name
	Refusals                                       map[string]map[string]uint64 // failure codes sent to clients, by packet and reason
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
	st.Subscriptions = s.index.len()
	st.Retained = s.retained.len()
	st.Received, st.Sent = s.counts.received.Load(), s.counts.sent.Load()
	st.DroppedQueue, st.DroppedSize = s.counts.droppedQueue.Load(), s.counts.droppedSize.Load()
	st.DroppedExpired, st.Refused = s.counts.droppedExpired.Load(), s.counts.refused.Load()
	st.NotRetained, st.Denied = s.counts.notRetained.Load(), s.counts.deniedPublishes.Load()
	st.Revoked = s.counts.revoked.Load()
	st.RefusedHosts = s.counts.strangers.Load()
	st.LoginsRefused, st.RateLimited, st.DeniedDelivery = s.counts.logins.Load(), s.counts.rate.Load(), s.counts.deniedReads.Load()
	st.Oversized = s.counts.oversized.Load()
	st.Limits, st.Refusals = s.counts.limits.snapshot(), s.counts.refusals.snapshot()
	return st
}
