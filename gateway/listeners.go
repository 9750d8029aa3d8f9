package gateway

import (
	"context"
	"errors"
	"fmt"
	"time"

	"holdfast/broker/listen"
	"holdfast/broker/server"
	"holdfast/gateway/config"
)

// listeners makes the places where clients connect. A certificate whose time is not now is logged and
// used: the clock of a Pi may be what is wrong, and the readings do not depend on it.
func (a *Agent) listeners() ([]server.Listener, error) {
	var made []server.Listener
	for _, l := range a.cfg.Broker.Listeners {
		opts, err := place(l)
		if err != nil {
			return nil, fmt.Errorf("listener %s: %w", l.URL, err)
		}
		if opts.TLS != nil {
			a.certificates = append(a.certificates, opts.TLS)
			a.logCertificate(opts.TLS)
		}
		made = append(made, server.Listener{Open: opts.Open, Anonymous: &l.Anonymous})
	}
	return made, nil
}

func place(l config.Listener) (listen.Options, error) {
	opts := listen.Options{Network: l.Network, Address: l.Address, Mode: l.Mode}
	if l.WebSocket() {
		opts.WebSocket = &listen.WebSocket{Path: l.Path, Origins: l.Origins}
	}
	if !l.TLS() {
		return opts, nil
	}
	var err error
	opts.TLS, err = listen.NewTLS(listen.TLSOptions{
		Cert: l.Cert, Key: l.Key, ClientCA: l.CA, Require: l.RequireClientCertificate,
	})
	return opts, err
}

// filesEvery is how often certificates are looked at for a change.
const filesEvery = 10 * time.Second

// watchFiles takes replaced certificates into use until ctx ends.
func (a *Agent) watchFiles(ctx context.Context) error {
	tick := time.NewTicker(filesEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			a.reload((*listen.TLS).ReloadIfChanged)
		}
	}
}

// Reload reads certificates again, whether or not they seem to have changed. Connections stay. What
// cannot be used is logged, and what was there before goes on.
func (a *Agent) Reload() {
	a.reload(func(t *listen.TLS) (bool, error) { return true, t.Reload() })
}

func (a *Agent) reload(read func(*listen.TLS) (changed bool, err error)) {
	for _, t := range a.certificates {
		switch changed, err := read(t); {
		case err != nil:
			a.log.Error("certificate is not taken into use, the one before stays", "error", err)
		case changed:
			a.log.Info("certificate was read again", "file", t.Name())
			a.logCertificate(t)
		}
	}
}

func (a *Agent) logCertificate(t *listen.TLS) {
	if err := t.Check(time.Now()); err != nil {
		a.log.Error("clients will not trust this listener", "error", err)
	}
}

// Check reads the files that a configuration names and finds what New or clients would stumble over.
// It starts and opens nothing else.
func Check(cfg *config.Config) error {
	var errs []error
	for _, l := range cfg.Broker.Listeners {
		opts, err := place(l)
		if err == nil && opts.TLS != nil {
			err = opts.TLS.Check(time.Now())
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("listener %s: %w", l.URL, err))
		}
	}
	return errors.Join(errs...)
}
