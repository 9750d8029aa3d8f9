package access

import (
	"fmt"
	"net"
	"slices"
	"time"

	"holdfast/broker/listen"
	"holdfast/broker/server"
	"holdfast/gateway/config"
)

// listener is where clients connect.
type listener struct {
	server.Listener
	url string      // as messages name it
	tls *listen.TLS // nil for none; without a certificate while its files cannot be read
}

// listenersOf returns the configured listeners. One whose configuration did not change stays the same one, with its
// certificate. Opening a listener reports what is wrong with its files, and is tried again until nothing is.
func listenersOf(all []config.Listener, known []listener) []listener {
	var made []listener
	for _, l := range all {
		key := keyOf(l)
		if i := slices.IndexFunc(known, func(e listener) bool { return e.Key == key }); i >= 0 {
			made = append(made, known[i])
			continue
		}
		opts, _ := optionsOf(l) // an error is found again by Open
		e := listener{
			server.Listener{Open: opts.Open, Anonymous: &l.Anonymous, Key: key, Patient: true, Name: l.URL}, l.URL, opts.TLS,
		}
		if e.tls != nil {
			e.Revoked = e.tls.Revoked
		}
		made = append(made, e)
	}
	return made
}

// forServer returns listeners as the server takes them.
func forServer(all []listener) []server.Listener {
	list := make([]server.Listener, len(all))
	for i, e := range all {
		list[i] = e.Listener
	}
	return list
}

// certificates returns those of the listeners and the dashboard. One that is expired or not yet valid is logged and
// used: the clock of a Pi may be wrong, and the readings do not depend on it.
func (x *Access) certificates() (all []*listen.TLS) {
	for _, e := range x.listeners {
		if e.tls != nil {
			all = append(all, e.tls)
		}
	}
	if x.web != nil {
		all = append(all, x.web)
	}
	return all
}

// keyOf distinguishes a listener from others.
func keyOf(l config.Listener) string { return fmt.Sprintf("%+v", l) }

func optionsOf(l config.Listener) (listen.Options, error) {
	opts := listen.Options{Network: l.Network, Address: l.Address, Mode: l.Mode}
	if l.WebSocket() {
		opts.WebSocket = &listen.WebSocket{Path: l.Path, Origins: l.Origins, Hosts: hostsOf(l)}
	}
	if !l.TLS() {
		return opts, nil
	}
	var err error // the TLS exists in spite of it
	opts.TLS, err = listen.NewTLS(listen.TLSOptions{
		Cert: l.Cert, Key: l.Key, ClientCA: l.CA, Require: l.RequireClientCertificate, CRL: l.CRL,
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

func (x *Access) logCertificate(t *listen.TLS) {
	if err := t.Check(time.Now()); err != nil {
		x.log.Error("clients will not trust this listener", "error", err)
	}
}

// noteCRLs logs each CRL that should have been replaced by now, once. Called with changing held, or by New.
func (x *Access) noteCRLs() {
	logged := map[*listen.TLS]string{}
	for _, t := range x.certificates() {
		err := t.CheckCRL(time.Now())
		if err == nil {
			continue
		}
		if logged[t] = err.Error(); x.staleCRLs[t] != logged[t] {
			x.log.Warn("revoked certificates", "error", err)
		}
	}
	x.staleCRLs = logged
}
