package auth

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash/maphash"
	"net"
	"time"
)

// The errors of Login.
var (
	ErrBadPassword = errors.New("bad user name or password")
	ErrAnonymous   = errors.New("anonymous clients are not let in here: see broker.anonymous")
	ErrThrottled   = errors.New("too many failed logins from there: wait")
)

// maxRemembered bounds the memory of right passwords.
const maxRemembered = 1024

// Login holds the credentials of a client.
type Login struct {
	ClientID  string
	Username  string
	Named     bool // whether there is a user name, which may be empty
	Password  []byte
	CN        string   // common name of a certificate that was verified; empty for none
	Anonymous bool     // whether a client without a user and a certificate may come in
	Remote    net.Addr // the client's address
}

// Login checks the credentials of a client and returns its rights. The error is ErrBadPassword, ErrAnonymous,
// ErrThrottled, or that of ctx, which bounds the wait while the passwords of other clients are checked.
func (a *Auth) Login(ctx context.Context, l Login) (*Grant, error) {
	p := a.policy.Load()
	g := &Grant{auth: a, id: identity{client: l.ClientID, cn: l.CN}}
	switch {
	case l.Named && (len(p.users) > 0 || !l.Anonymous && l.CN == ""):
		if err := a.checkPassword(ctx, p, l); err != nil {
			return nil, err
		}
		g.id.user, g.proof = l.Username, proofOf(p.users[l.Username])
		// The check took time: a user that was deleted or got a new password meanwhile is refused.
		if p = a.policy.Load(); g.Revoked() {
			return nil, ErrBadPassword
		}
	case l.CN == "" && !l.Anonymous:
		return nil, ErrAnonymous
	}
	g.rights.Store(g.rightsIn(p))
	return g, nil
}

func (a *Auth) checkPassword(ctx context.Context, p *policy, l Login) error {
	from := Source(l.Remote)
	h, known := p.users[l.Username]
	var lanes, waits []string // of a login from this machine
	if from == "" {
		lanes, waits = a.throttle.localLanes(l.Username, l.ClientID, known, time.Now())
	}
	had, err := a.delay(ctx, from, waits)
	if err != nil {
		return err
	}
	mark := a.mark(l.Username, h.text, l.Password)
	a.mu.Lock()
	_, right := a.remembered[mark]
	a.mu.Unlock()
	if right && known {
		a.right(lanes, l)
		return nil
	}
	for {
		select {
		case a.slots <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		if had || !a.throttle.slow(waits, time.Now()) {
			break
		}
		<-a.slots // failures meanwhile count, and the wait for a turn holds no slot
		if had, err = a.delay(ctx, from, waits); err != nil {
			return err
		}
	}
	defer func() { <-a.slots }()
	if lanes == nil && a.throttle.blocked(from, time.Now()) {
		return ErrThrottled
	}
	if !known {
		h = p.sample(maphash.String(a.seed, l.Username))
	}
	if !h.verify(l.Password) || !known {
		if lanes != nil {
			a.throttle.failedHere(lanes, time.Now())
		} else {
			a.throttle.failed(from, time.Now())
		}
		return ErrBadPassword
	}
	a.right(lanes, l)
	a.mu.Lock()
	if len(a.remembered) >= maxRemembered {
		for m := range a.remembered {
			delete(a.remembered, m)
			break
		}
	}
	a.remembered[mark] = struct{}{}
	a.mu.Unlock()
	return nil
}

// delay refuses a login after failures from its address or, on this machine, waits for its turn. had reports
// whether it took a turn.
func (a *Auth) delay(ctx context.Context, from string, lanes []string) (had bool, err error) {
	if lanes != nil {
		return a.throttle.turn(ctx, lanes)
	}
	if a.throttle.blocked(from, time.Now()) {
		return false, ErrThrottled
	}
	return false, nil
}

// right notes a right password from this machine.
func (a *Auth) right(lanes []string, l Login) {
	if lanes != nil {
		a.throttle.prove(l.Username, l.ClientID)
	}
}

// sample returns the hash that an unknown user's password is compared with, at the same cost.
func (p *policy) sample(n uint64) hash {
	if len(p.samples) == 0 {
		return hash{verify: func(password []byte) bool { NewHash(password); return false }}
	}
	return p.samples[n%uint64(len(p.samples))]
}

// mark returns the value under which a right password is remembered, so that a thousand clients that reconnect at
// once do not cost a thousand times argon2id. It is a MAC of user, stored hash and password under a key that is only in
// this process's memory: it reveals nothing without the key, a new password or user invalidates it, and
// a wrong password never has one, so a guess stays as costly.
func (a *Auth) mark(user, hash string, password []byte) [sha256.Size]byte {
	m := hmac.New(sha256.New, a.secret)
	for _, b := range [][]byte{[]byte(user), []byte(hash), password} {
		m.Write(binary.BigEndian.AppendUint64(nil, uint64(len(b))))
		m.Write(b)
	}
	return [sha256.Size]byte(m.Sum(nil))
}
