package gateway

import (
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

func (a *Agent) logCertificate(t *listen.TLS) {
	if err := t.Check(time.Now()); err != nil {
		a.log.Error("clients will not trust this listener", "error", err)
	}
}
