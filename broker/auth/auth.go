// Package auth authenticates the broker's clients and authorizes what they do: users with passwords,
// rules about topics, certificates.
//
// Once a user or a rule exists, everything that no rule allows is denied. A login costs the same
// whether the user exists or not, one password is checked at a time, and failures from an address
// delay its next logins. A client's rights are computed once: checking a topic does not
// allocate. The first check after a change of files uses the new ones; files with a
// mistake change nothing.
//
// It does not speak MQTT and does not verify certificates: the listener does. It
// does not watch files: the owner calls ReloadIfChanged.
package auth

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
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

// User is a name with a password.
type User struct{ Name, Hash string }

// Group is a name for several users.
type Group struct {
	Name  string
	Users []string
}

// Options are the users and rules. The zero value has none, and allows every client everything.
type Options struct {
	Users        []User
	PasswordFile string // further users, as "name:hash" lines; empty for none
	Groups       []Group
	Rules        []Rule
	ACLFile      string // further rules, in Mosquitto's form; empty for none
}

// policy is one state of users and rules. It is not changed.
type policy struct {
	users   map[string]hash
	samples []hash // of users, or another one: what the password of an unknown user is compared with
	groups  map[string][]string
	rules   []Rule
	guarded bool // whether what is not allowed is denied
}

// Auth holds users and rules. All methods are safe for concurrent use.
type Auth struct {
	policy   atomic.Pointer[policy]
	throttle throttle
	slots    chan struct{} // holds an element while a password is worked on
	secret   []byte        // of remembered
	seed     maphash.Seed

	mu         sync.Mutex // of everything below
	opts       Options
	stamps     [2]stamp
	remembered map[[sha256.Size]byte]struct{} // passwords that were right
}

// New reads the files of opts. Its errors name file, line and remedy.
func New(opts Options) (*Auth, error) {
	a := &Auth{
		throttle: throttle{sources: map[string]*source{}},
		slots:    make(chan struct{}, 1), // argon2id takes 19 MiB
		secret:   make([]byte, sha256.Size), seed: maphash.MakeSeed(),
		remembered: map[[sha256.Size]byte]struct{}{},
	}
	rand.Read(a.secret)
	return a, a.Configure(opts)
}

// Configure replaces all users and rules. After an error it changes nothing.
func (a *Auth) Configure(opts Options) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	stamps := [2]stamp{stat(opts.PasswordFile), stat(opts.ACLFile)} // before reading: what changes meanwhile is read again
	p, err := newPolicy(opts)
	if err != nil {
		return err
	}
	a.opts, a.stamps = opts, stamps
	a.policy.Store(p)
	return nil
}

// Reload reads the files again. After an error it changes nothing.
func (a *Auth) Reload() error {
	a.mu.Lock()
	opts := a.opts
	a.mu.Unlock()
	return a.Configure(opts)
}

// ReloadIfChanged reads the files again if one of them has been replaced or written to. It returns the error
// of a file that cannot be used once, not at every call.
func (a *Auth) ReloadIfChanged() (changed bool, err error) {
	a.mu.Lock()
	now := [2]stamp{stat(a.opts.PasswordFile), stat(a.opts.ACLFile)}
	changed = now != a.stamps
	a.stamps = now
	a.mu.Unlock()
	if !changed {
		return false, nil
	}
	return true, a.Reload()
}

func newPolicy(opts Options) (*policy, error) {
	p := &policy{users: map[string]hash{}, groups: map[string][]string{}, rules: slices.Clone(opts.Rules)}
	var errs []error
	for _, u := range opts.Users {
		h, err := parseHash(u.Hash)
		if err != nil {
			errs = append(errs, fmt.Errorf("user %q: the password %w", u.Name, err))
		}
		p.users[u.Name] = h
	}
	if opts.PasswordFile != "" {
		errs = append(errs, readPasswords(opts.PasswordFile, p.users))
	}
	for _, g := range opts.Groups {
		p.groups[g.Name] = g.Users
	}
	for i, r := range opts.Rules {
		if err := r.Check(); err != nil {
			errs = append(errs, fmt.Errorf("rule %d: %w", i+1, err))
		}
	}
	if opts.ACLFile != "" {
		rules, err := readRules(opts.ACLFile)
		p.rules = append(p.rules, rules...)
		errs = append(errs, err)
	}
	p.guarded = len(opts.Users) > 0 || opts.PasswordFile != "" || len(p.rules) > 0
	for _, h := range p.users {
		p.samples = append(p.samples, h)
	}
	slices.SortFunc(p.samples, func(a, b hash) int { return strings.Compare(a.text, b.text) })
	return p, errors.Join(errs...)
}

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
