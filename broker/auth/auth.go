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
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash/maphash"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

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
