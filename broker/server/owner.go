package server

import (
	"encoding/binary"
	"sync/atomic"

	"holdfast/broker/auth"
)

// ownership is whose session it is. Guarded by Server.mu, but for grant.
type ownership struct {
	who   auth.Owner
	known bool                       // false for a session of a version without owners, until a client takes it
	grant atomic.Pointer[auth.Grant] // the owner's rights, connected or not; nil while the owner is unknown
}

// set makes the owner of g the session's.
func (o *ownership) set(g *auth.Grant) {
	o.who, o.known = g.Owner(), true
	o.grant.Store(g)
}

// mayBeTaken reports whether c's client may resume the session, end it, or disconnect the client that has it: a client
// of the same owner may.
//
// A session stored by an earlier version has no known owner. The first login with a name takes it: that is most
// probably its creator, no record shows better, and the login gets only what it may read. An anonymous
// login takes it if it may make each of its subscriptions; otherwise the first stranger after an update
// could empty a user's queue. Once no listener accepts anonymous clients, a login with a name may take the session of
// an anonymous client: its owner can never come back. Called with Server.mu held.
func (x *session) mayBeTaken(c *conn) bool {
	login := c.peer.grant.Owner()
	anonymous := login == auth.Owner{}
	switch {
	case x.owner.known && x.owner.who.Same(login):
		return true
	case x.owner.known:
		return x.owner.who == auth.Owner{} && !x.s.listeners.anonymous.Load()
	case anonymous:
		x.mu.Lock()
		defer x.mu.Unlock()
		for filter := range x.subs.byFilter {
			if !c.peer.grant.MaySubscribe(filter) {
				return false
			}
		}
	}
	return true
}

// mayRead reports whether the owner may read messages of a topic now, connected or not.
func (x *session) mayRead(topic string) bool {
	g := x.owner.grant.Load()
	return g == nil || g.MayRead(topic)
}

// noteAnonymous notes whether any of these listeners accepts anonymous clients. Without a listener Options.Anonymous
// decides.
func (s *Server) noteAnonymous(open []*place) {
	any := len(open) == 0 && s.opts.Anonymous
	for _, p := range open {
		any = any || p.Anonymous == nil && s.opts.Anonymous || p.Anonymous != nil && *p.Anonymous
	}
	s.listeners.anonymous.Store(any)
}

// The value of a session: its expiry, and since owners are stored 1, user and common name.
func (x *session) encode() []byte {
	b := binary.AppendUvarint(nil, uint64(x.away.expiry))
	if x.owner.known {
		b = appendText(appendText(append(b, 1), x.owner.who.User), x.owner.who.CN)
	}
	return b
}

// decode restores the result of encode. A record without an owner, or with one that cannot be read, leaves the owner
// unknown.
func (x *session) decode(b []byte) {
	v, n := binary.Uvarint(b)
	x.away.expiry = uint32(v)
	if n <= 0 || len(b) == n || b[n] != 1 {
		return
	}
	var o auth.Owner
	user, rest, ok := cutText(b[n+1:])
	o.User = user
	if ok {
		o.CN, _, ok = cutText(rest)
	}
	if ok {
		x.owner.who, x.owner.known = o, true
		x.owner.grant.Store(x.s.opts.Auth.Restore(o, x.id, auth.Proof{}))
	}
}
