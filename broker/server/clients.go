package server

import (
	"cmp"
	"slices"
	"time"

	"holdfast/broker/wire"
)

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
