package auth

import (
	"crypto/sha256"
	"slices"
	"sync/atomic"
)

// Grant holds the rights that a login has given a client. A nil Grant may do everything: it is the gateway's own.
type Grant struct {
	auth   *Auth
	id     identity
	proof  Proof // of the password that was right; zero for a Grant that was made without
	rights atomic.Pointer[rights]
}

// Proof distinguishes one stored password of a user from the next, and reveals neither.
type Proof [16]byte

func proofOf(h hash) Proof {
	sum := sha256.Sum256([]byte(h.text))
	return Proof(sum[:])
}

// Owner identifies the owner of state that outlives a connection. The zero value is a client with neither a user nor
// a certificate.
type Owner struct {
	User string // of the password that was right; empty for none
	CN   string // common name of the certificate; empty for none
}

// Same reports whether o and p are the same owner: the same user, whatever the certificates; without a user the
// same common name; or both anonymous. All anonymous clients are one owner.
func (o Owner) Same(p Owner) bool {
	return o.User == p.User && (o.User != "" || o.CN == p.CN)
}

func (o Owner) String() string {
	switch {
	case o.User != "":
		return "user " + o.User
	case o.CN != "":
		return "certificate " + o.CN
	}
	return "an anonymous client"
}

// Restore returns the Grant of an owner whose client is not connected, with the rights of the current rules. With the
// Proof of an earlier Grant, Revoked reports what it would of that Grant; with the zero Proof, only whether the user exists no more.
func (a *Auth) Restore(o Owner, client string, proof Proof) *Grant {
	g := &Grant{auth: a, id: identity{user: o.User, client: client, cn: o.CN}, proof: proof}
	g.rights.Store(g.rightsIn(a.policy.Load()))
	return g
}

// Owner returns the user and common name of the client.
func (g *Grant) Owner() Owner { return Owner{g.id.user, g.id.cn} }

// Proof returns the proof of the login, for Restore.
func (g *Grant) Proof() Proof { return g.proof }

// Revoked reports whether the user was deleted or has a new password.
func (g *Grant) Revoked() bool {
	if g == nil || g.id.user == "" {
		return false
	}
	h, exists := g.auth.policy.Load().users[g.id.user]
	return !exists || g.proof != Proof{} && proofOf(h) != g.proof
}

// MayRead reports whether messages of a topic may be delivered to the client.
func (g *Grant) MayRead(topic string) bool {
	if g == nil {
		return true
	}
	r := g.current()
	return r.may(topic, r.read)
}

// MayWrite reports whether the client may publish to a topic.
func (g *Grant) MayWrite(topic string) bool {
	if g == nil {
		return true
	}
	r := g.current()
	return r.may(topic, r.write)
}

// MaySubscribe reports whether the client may subscribe with a topic filter: one rule has to allow all
// topics that the filter matches.
func (g *Grant) MaySubscribe(filter string) bool { return g == nil || g.current().maySubscribe(filter) }

// rightsIn returns the client's rights under p. A user who was deleted has none, whatever the rules allow the
// name.
func (g *Grant) rightsIn(p *policy) *rights {
	if _, exists := p.users[g.id.user]; g.id.user != "" && !exists {
		return &rights{policy: p}
	}
	return p.rights(g.id)
}

func (g *Grant) current() *rights {
	r := g.rights.Load()
	if p := g.auth.policy.Load(); r.policy != p {
		r = g.rightsIn(p)
		g.rights.Store(r)
	}
	return r
}

// User returns the name of the user that logged in; empty for none.
func (g *Grant) User() string { return g.id.user }

// Is reports whether a name is the user's own, or that of a group that the user is in.
func (g *Grant) Is(name string) bool {
	return g.id.user != "" && (g.id.user == name || slices.Contains(g.auth.policy.Load().groups[name], g.id.user))
}
