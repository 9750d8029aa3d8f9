// Package access owns where clients connect and what they may do: listeners, users, rules, certificates.
//
// It promises that a configuration with an unusable file changes nothing, that changed files are loaded again, and
// that the previous content stays in use while a file is missing or wrong.
package access

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"sync"
	"time"

	"holdfast/broker/auth"
	"holdfast/broker/listen"
	"holdfast/broker/server"
	"holdfast/gateway/config"
	"holdfast/gateway/part"
	"holdfast/gateway/status"
	"holdfast/gateway/uplinks"
)

// Access is the part that owns listeners, users, rules and certificates. It must be prepared last of all parts,
// because it applies a configuration as it is prepared.
type Access struct {
	auth   *auth.Auth
	log    *slog.Logger
	server *server.Server // set by Serve
	web    *listen.TLS    // certificate of the dashboard; nil for none

	changing  sync.Mutex // while files or a configuration are loaded
	broker    config.Broker
	staleCRLs map[*listen.TLS]string // what noteCRLs has logged

	mu        sync.Mutex
	listeners []listener // changed with changing held too
}

var _ part.Part = (*Access)(nil)

// New loads users and rules. A listener whose certificate cannot be loaded is tried again when it is opened.
func New(b config.Broker, web config.Web, log *slog.Logger) (*Access, error) {
	x := &Access{log: log, broker: b}
	var err error
	if x.auth, err = auth.New(rules(b)); err != nil {
		return nil, err
	}
	x.listeners = listenersOf(b.Listeners, nil)
	if web.On() && web.TLS() {
		x.web, _ = webTLS(web) // an error is found again when it is opened
	}
	for _, t := range x.certificates() {
		x.logCertificate(t)
	}
	x.noteCRLs()
	return x, nil
}

// Auth decides what clients may do.
func (x *Access) Auth() *auth.Auth { return x.auth }

// WebTLS is the dashboard's; nil for none.
func (x *Access) WebTLS() *listen.TLS { return x.web }

// Listeners are for a server's options.
func (x *Access) Listeners() []server.Listener { return forServer(x.listeners) }

// Serve applies changes to s from now on. It is called once, before Run.
func (x *Access) Serve(s *server.Server) { x.server = s }

// Name returns "access".
func (x *Access) Name() string { return "access" }

// Run waits until ctx ends: everything here happens when files or the configuration change.
func (x *Access) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// Health names a listener that is not open.
func (x *Access) Health() error {
	for _, l := range x.Status() {
		if !l.Open {
			return fmt.Errorf("%s is not open: %s", l.URL, l.Error)
		}
	}
	return nil
}

// Prepare applies listeners, users, rules and certificates at once.
func (x *Access) Prepare(next *config.Config) (part.Change, error) {
	old := x.broker
	if err := x.apply(next.Broker); err != nil {
		return part.Change{}, fmt.Errorf("broker: %w", err)
	}
	return part.Change{Describe: func() []string { return x.describe(old, next.Broker) }}, nil
}

func (x *Access) describe(old, now config.Broker) []string {
	d := config.Compare(old.Listeners, now.Listeners, func(l config.Listener) string { return l.URL }, nil)
	lines := d.Describe("listener")
	for _, l := range x.Status() {
		if !l.Open && (slices.Contains(d.Added, l.URL) || slices.Contains(d.Changed, l.URL)) {
			lines = append(lines, fmt.Sprintf("listener %s: not open, and tried again: %s", l.URL, l.Error))
		}
	}
	if !reflect.DeepEqual(rules(old), rules(now)) {
		lines = append(lines, "users and rules: changed")
	}
	return lines
}

// apply changes everything, or nothing.
func (x *Access) apply(b config.Broker) error {
	x.changing.Lock()
	defer x.changing.Unlock()
	for _, l := range b.Listeners {
		// The files of those that stay may have changed too, but where they were missing before nothing gets worse.
		missing := slices.ContainsFunc(x.listeners, func(e listener) bool { return e.Key == keyOf(l) && e.tls != nil && !e.tls.Loaded() })
		if _, err := optionsOf(l); err != nil && !missing {
			return fmt.Errorf("listener %s: %w", l.URL, err)
		}
	}
	if _, err := auth.New(rules(b)); err != nil {
		return err
	}
	next := listenersOf(b.Listeners, x.listeners)
	if err := x.server.SetListeners(context.Background(), forServer(next)); err != nil {
		return err
	}
	if err := x.auth.Configure(rules(b)); err != nil { // changed since a moment ago
		return errors.Join(err, x.server.SetListeners(context.Background(), forServer(x.listeners)))
	}
	x.broker = b
	x.mu.Lock()
	x.listeners = next
	x.mu.Unlock()
	for _, t := range x.certificates() {
		if err := t.Reload(); err != nil {
			x.loaded(t.Name(), true, err)
		} else {
			x.logCertificate(t)
		}
	}
	x.noteCRLs()
	x.server.Reauthorize()
	return nil
}

// rules returns the users and rules of a configuration in the form of package auth.
func rules(b config.Broker) auth.Options {
	opts := auth.Options{PasswordFile: b.PasswordFile, Groups: b.Groups, Rules: b.ACL, ACLFile: b.ACLFile}
	for _, u := range b.Users {
		opts.Users = append(opts.Users, auth.User{Name: u.Name, Hash: string(u.PasswordHash)})
	}
	return opts
}

// LoadChangedFiles loads certificates, passwords and rules whose files have changed.
func (x *Access) LoadChangedFiles() {
	x.changing.Lock()
	defer x.changing.Unlock()
	certificates := false
	for _, t := range x.certificates() {
		changed, err := t.ReloadIfChanged()
		x.loaded(t.Name(), changed, err)
		if changed && err == nil {
			x.logCertificate(t)
			certificates = true // a CRL may revoke those of clients that are here
		}
	}
	x.noteCRLs()
	changed, err := x.auth.ReloadIfChanged()
	x.loaded("users and rules", changed, err)
	if certificates || changed && err == nil {
		x.server.Reauthorize()
	}
}

// loaded logs the outcome of loading a file. After an error the previous content stays in use.
func (x *Access) loaded(what string, changed bool, err error) {
	switch {
	case err != nil:
		x.log.Error("not taken into use, what was there before stays", "what", what, "error", err)
	case changed:
		x.log.Info("read again", "what", what)
	}
}

// Check loads the files that a configuration names and reports what would fail in the gateway or at clients. It
// starts and opens nothing else. Certificates are checked against the time now.
func Check(cfg *config.Config, now time.Time) error {
	var errs []error
	for _, l := range cfg.Broker.Listeners {
		opts, err := optionsOf(l)
		if err == nil && opts.TLS != nil {
			err = opts.TLS.Check(now)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("listener %s: %w", l.URL, err))
		}
	}
	if cfg.Web.On() && cfg.Web.TLS() {
		t, err := webTLS(cfg.Web)
		if err == nil {
			err = t.Check(now)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("web: %w", err))
		}
	}
	for _, b := range cfg.Bridges {
		if err := uplinks.Check(b); err != nil {
			errs = append(errs, fmt.Errorf("bridge %s: %w", b.Name, err))
		}
	}
	_, err := auth.New(rules(cfg.Broker))
	return errors.Join(append(errs, err)...)
}

func webTLS(w config.Web) (*listen.TLS, error) {
	return listen.NewTLS(listen.TLSOptions{Cert: w.Cert, Key: w.Key})
}

// Status returns how the listeners are doing.
func (x *Access) Status() []status.Listener {
	list := []status.Listener{}
	x.mu.Lock()
	known := slices.Clone(x.listeners)
	x.mu.Unlock()
	for _, s := range x.server.ListenerStates() {
		i := slices.IndexFunc(known, func(e listener) bool { return e.Key == s.Key })
		if i < 0 {
			continue // it is just being exchanged
		}
		l := status.NewListener(known[i].url, s.Err, s.Since)
		if t := known[i].tls; t != nil {
			if err := t.CheckCRL(time.Now()); err != nil {
				l.Warning = err.Error()
			}
		}
		list = append(list, l)
	}
	return list
}
