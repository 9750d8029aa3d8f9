package gateway

import (
	"errors"
	"fmt"
	"time"

	"holdfast/broker/auth"
	"holdfast/gateway/config"
)

// access is who may do what, as package auth takes it.
func access(b config.Broker) auth.Options {
	opts := auth.Options{PasswordFile: b.PasswordFile, Groups: b.Groups, Rules: b.ACL, ACLFile: b.ACLFile}
	for _, u := range b.Users {
		opts.Users = append(opts.Users, auth.User{Name: u.Name, Hash: string(u.PasswordHash)})
	}
	return opts
}

// lookAtFiles takes certificates, passwords and rules into use whose files have changed.
func (a *Agent) lookAtFiles() {
	if !a.changing.TryLock() {
		return // everything is being read anyway, or about to end
	}
	defer a.changing.Unlock()
	a.takeFiles()
}

// takeFiles is lookAtFiles, called with changing held.
func (a *Agent) takeFiles() {
	certificates := false
	for _, t := range a.certificates() {
		changed, err := t.ReloadIfChanged()
		a.reloaded(t.Name(), changed, err)
		if changed && err == nil {
			a.logCertificate(t)
			certificates = true // a CRL may revoke those of clients that are here
		}
	}
	a.noteCRLs()
	changed, err := a.auth.ReloadIfChanged()
	a.reloaded("users and rules", changed, err)
	if certificates || changed && err == nil {
		a.server.Reauthorize()
	}
}

// reloaded logs what became of a reading. What cannot be used leaves what was there before.
func (a *Agent) reloaded(what string, changed bool, err error) {
	switch {
	case err != nil:
		a.log.Error("not taken into use, what was there before stays", "what", what, "error", err)
	case changed:
		a.log.Info("read again", "what", what)
	}
}

// Check reads the files that a configuration names and finds what New or clients would stumble over.
// It starts and opens nothing else.
func Check(cfg *config.Config) error { return CheckAt(cfg, time.Now()) }

// warn logs what is possible in a configuration and hardly meant, in the words of `holdfast check`.
func (a *Agent) warn(cfg *config.Config) {
	for _, w := range cfg.Warnings() {
		a.log.Warn("warning: " + w.Error())
	}
}

// CheckAt is Check at a certain time, which certificates are judged by.
func CheckAt(cfg *config.Config, now time.Time) error {
	var errs []error
	for _, l := range cfg.Broker.Listeners {
		opts, err := place(l)
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
		if err := checkUpstream(b); err != nil {
			errs = append(errs, fmt.Errorf("bridge %s: %w", b.Name, err))
		}
	}
	_, err := auth.New(access(cfg.Broker))
	return errors.Join(append(errs, err)...)
}
