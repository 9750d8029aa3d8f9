package gateway

import (
	"fmt"
	"net"
	"slices"
	"time"

	"holdfast/broker/listen"
	"holdfast/broker/server"
	"holdfast/gateway/config"
)

// entrance is a place where clients connect.
type entrance struct {
	server.Listener
	tls *listen.TLS // nil for none
}

// entrances makes the places where clients connect. One that is configured as one of those is that one,
// with its certificate.
func entrances(all []config.Listener, known []entrance) ([]entrance, error) {
	var made []entrance
	for _, l := range all {
		key := fmt.Sprintf("%+v", l)
		if i := slices.IndexFunc(known, func(e entrance) bool { return e.Key == key }); i >= 0 {
			made = append(made, known[i])
			continue
		}
		opts, err := place(l)
		if err != nil {
			return nil, fmt.Errorf("listener %s: %w", l.URL, err)
		}
		made = append(made, entrance{server.Listener{Open: opts.Open, Anonymous: &l.Anonymous, Key: key}, opts.TLS})
	}
	return made, nil
}

// opened are entrances as the server takes them.
func opened(all []entrance) []server.Listener {
	list := make([]server.Listener, len(all))
	for i, e := range all {
		list[i] = e.Listener
	}
	return list
}

// certificates are those of the listeners and the dashboard. One whose time is not now is logged and
// used: the clock of a Pi may be what is wrong, and the readings do not depend on it.
func (a *Agent) certificates() (all []*listen.TLS) {
	for _, e := range a.entrances {
		if e.tls != nil {
			all = append(all, e.tls)
		}
	}
	if a.webTLS != nil {
		all = append(all, a.webTLS)
	}
	return all
}

func place(l config.Listener) (listen.Options, error) {
	opts := listen.Options{Network: l.Network, Address: l.Address, Mode: l.Mode}
	if l.WebSocket() {
		opts.WebSocket = &listen.WebSocket{Path: l.Path, Origins: l.Origins, Hosts: hostsOf(l)}
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

// hostsOf are the names that a listener may be reached by: those that are configured, and its own.
func hostsOf(l config.Listener) []string {
	names := slices.Clone(l.Hosts)
	if host, _, err := net.SplitHostPort(l.Address); err == nil && host != "" {
		names = append(names, host)
	}
	return names
}

func (a *Agent) logCertificate(t *listen.TLS) {
	if err := t.Check(time.Now()); err != nil {
		a.log.Error("clients will not trust this listener", "error", err)
	}
}
