package server

import (
	"container/list"
	"fmt"
	"time"

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

// temporary is the part of all sessions that is reserved for those that end with their connection: short-lived
// clients can connect although the table is full of absent ones.
const temporary = 10 // one in ten

// sessions are all sessions, connected or not, by client identifier. Guarded by Server.mu.
type sessions struct {
	byID  map[string]*session
	tally tally
}

// add adds a session.
func (t *sessions) add(x *session) {
	t.byID[x.id] = x
	t.tally.add(x, 1)
}

// remove removes a session.
func (t *sessions) remove(x *session) {
	delete(t.byID, x.id)
	t.tally.add(x, -1)
}

// tally counts sessions. Guarded by Server.mu.
type tally struct {
	durable   int
	each      map[string]int // by user
	connected map[string]int // connections that have a session, by user
	logins    int            // of all users
}

func (t *tally) add(x *session, n int) {
	if x.reader != nil {
		t.durable += n
	}
	if t.each == nil {
		t.each = map[string]int{}
	}
	if t.each[x.user] += n; t.each[x.user] == 0 {
		delete(t.each, x.user)
	}
}

// connect notes that a client of a user has bound a connection to its session, or with -1 that it has ended.
func (t *tally) connect(user string, n int) {
	if t.connected == nil {
		t.connected = map[string]int{}
	}
	t.logins += n
	if t.connected[user] += n; t.connected[user] == 0 {
		delete(t.connected, user)
	}
}

// share returns how much one user may have of an amount that all clients share, if others have so much already. Clients
// without a user count as one.
func (s *Server) share(all, others int64) int64 { return limits.Share(s.opts.UserShare, all, others) }

// admitConnection returns why c's user may have no further connection: the user has its share of all, and the rest is
// for others. Called with mu held.
func (s *Server) admitConnection(c *conn) error {
	user := c.user()
	own, all := s.sessions.tally.connected[user], s.opts.MaxConnections
	share := int(s.share(int64(all), int64(s.sessions.tally.logins-own)))
	if share >= all || own < share {
		return nil
	}
	c.later(func() {
		s.limits.Reached(limits.UserShare, "login refused: the clients of this user have as many connections as one user may; raise broker.limits.connections or user_share if all of them are wanted",
			"remote", c.remote(), "user", user, "connections", own)
	})
	return fmt.Errorf("%d connections of this user, which is the most of %d: see broker.limits.%s", own, all, limits.UserShare)
}

// admit makes room for another session of c's user, or returns why there is none. Where the table or the user's
// share of it is full, the oldest session goes that has neither a connection nor a message queued. Its will, if
// there is one, is to be published. Called with mu held.
func (s *Server) admit(c *conn, durable bool) (due *will, err error) {
	user := c.user()
	all := s.opts.MaxSessions
	most := all
	if durable {
		most = max(1, all-all/temporary)
	}
	share := int(s.share(int64(all), int64(len(s.sessions.byID)-s.sessions.tally.each[user])))
	var refused limits.Name
	var victims func(x *session) bool
	switch {
	case share < all && s.sessions.tally.each[user] >= share:
		refused, victims = limits.UserShare, func(x *session) bool { return x.user == user }
	case len(s.sessions.byID) >= all || durable && s.sessions.tally.durable >= most:
		refused, victims = limits.Sessions, func(*session) bool { return true }
	default:
		return due, nil
	}
	if x := s.oldestEmpty(victims); x != nil {
		due = x.stopTimers()
		c.later(func() {
			s.limits.Reached(refused, "session discarded: it was the oldest without a connection and without messages, and another needs its place",
				"client", x.id, "user", x.user, "absent_since", x.away.left)
		})
		s.discard(x, reasonEvicted)
		return due, nil
	}
	sessions, own := len(s.sessions.byID), s.sessions.tally.each[user]
	c.later(func() {
		s.limits.Reached(refused, "login refused: there are as many sessions as may be, and all have a connection or messages",
			"remote", c.remote(), "user", user, "sessions", sessions, "of_user", own)
	})
	return due, fmt.Errorf("%d sessions, %d of them the user's, which is the most: see broker.limits.%s", len(s.sessions.byID), s.sessions.tally.each[user], refused)
}

// oldestEmpty returns the session that has been without a connection for the longest time, of those with nothing
// queued that may go. Called with mu held.
func (s *Server) oldestEmpty(may func(x *session) bool) (oldest *session) {
	var since time.Time
	for _, x := range s.sessions.byID {
		if x.conn.Load() != nil || oldest != nil && !x.away.left.Before(since) || !may(x) || !x.empty() {
			continue
		}
		oldest, since = x, x.away.left
	}
	return oldest
}

// empty reports whether nothing would be lost with the session but its subscriptions.
func (x *session) empty() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return len(x.queue)+x.inFlight() == 0 && (x.reader == nil || x.reader.Depth() == 0)
}
