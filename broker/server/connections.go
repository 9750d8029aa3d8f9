package server

import (
	"container/list"

	"holdfast/broker/server/limits"
	"holdfast/broker/wire"
)

// connections are the open connections. Guarded by Server.mu.
type connections struct {
	all        map[*conn]struct{}
	connecting list.List // of *conn: those whose CONNECT has not come, the oldest first
}

// add adds a connection whose CONNECT has not come.
func (n *connections) add(c *conn) {
	c.connecting = n.connecting.PushBack(c)
	n.all[c] = struct{}{}
}

// arrived notes that the CONNECT of a connection has come, or that the connection ends. Called with mu held.
func (n *connections) arrived(c *conn) {
	if c.connecting != nil {
		n.connecting.Remove(c.connecting)
		c.connecting = nil
	}
}

// remove removes a connection that has ended.
func (n *connections) remove(c *conn) {
	n.arrived(c)
	delete(n.all, c)
}

// room reports whether another connection may come, and which one it replaces, if any: those that have not logged in
// give way, the oldest first, but for some that take a moment to end.
func (n *connections) room(most, mostConnecting int) (oldest *conn, ok bool) {
	all, coming := len(n.all), n.connecting.Len()
	if all >= most && (coming == 0 || all >= most+max(1, most/20)) {
		return nil, false
	}
	if coming >= mostConnecting || coming > 0 && all >= most {
		oldest = n.connecting.Front().Value.(*conn)
	}
	return oldest, true
}

func (s *Server) serve(c *conn) {
	s.mu.Lock()
	oldest, ok := s.conns.room(s.opts.MaxConnections, s.opts.MaxConnecting)
	if !ok || s.closing || c.place != nil && c.place.gone {
		s.mu.Unlock()
		c.nc.Close()
		if !ok {
			s.limits.Reached(limits.Connections, "connection refused: too many connections", "remote", c.remote(), "connections", s.opts.MaxConnections)
		}
		return
	}
	if oldest != nil {
		s.conns.arrived(oldest)
	}
	s.conns.add(c)
	s.counts.sockets.Add(1)
	s.work.Add(1)
	s.mu.Unlock()
	go func() {
		defer s.work.Done()
		c.serve()
		s.mu.Lock()
		s.conns.remove(c)
		s.mu.Unlock()
	}()
	if oldest != nil {
		s.limits.Reached(limits.Connecting, "connection closed: too many that have not logged in, and this is the oldest", "remote", oldest.remote())
		oldest.kick(wire.ServerBusy)
	}
}
