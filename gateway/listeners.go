package gateway

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"holdfast/broker/listen"
	"holdfast/broker/server"
	"holdfast/gateway/config"
	"holdfast/gateway/status"
)

// entrance is a place where clients connect.
type entrance struct {
	server.Listener
	url string      // as messages name it
	tls *listen.TLS // nil for none; without a certificate while its files cannot be read
}

// entrances makes the places where clients connect. One that is configured as one of those is that one,
// with its certificate. What is wrong with the files of one is found out when it is opened, and then again until
// nothing is.
func entrances(all []config.Listener, known []entrance) []entrance {
	var made []entrance
	for _, l := range all {
		key := keyOf(l)
		if i := slices.IndexFunc(known, func(e entrance) bool { return e.Key == key }); i >= 0 {
			made = append(made, known[i])
			continue
		}
		opts, _ := place(l) // an error is found again by Open
		e := entrance{
			server.Listener{Open: opts.Open, Anonymous: &l.Anonymous, Key: key, Patient: true, Name: l.URL}, l.URL, opts.TLS,
		}
		if e.tls != nil {
			e.Revoked = e.tls.Revoked
		}
		made = append(made, e)
	}
	return made
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

// keyOf tells a listener from others.
func keyOf(l config.Listener) string { return fmt.Sprintf("%+v", l) }

func place(l config.Listener) (listen.Options, error) {
	opts := listen.Options{Network: l.Network, Address: l.Address, Mode: l.Mode}
	if l.WebSocket() {
		opts.WebSocket = &listen.WebSocket{Path: l.Path, Origins: l.Origins, Hosts: hostsOf(l)}
	}
	if !l.TLS() {
		return opts, nil
	}
	var err error // the TLS is there all the same
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

func (a *Agent) logCertificate(t *listen.TLS) {
	if err := t.Check(time.Now()); err != nil {
		a.log.Error("clients will not trust this listener", "error", err)
	}
}

// noteCRLs logs each CRL that should have been replaced by now, once. Called with changing held, or before Run.
func (a *Agent) noteCRLs() {
	told := map[*listen.TLS]string{}
	for _, t := range a.certificates() {
		err := t.CheckCRL(time.Now())
		if err == nil {
			continue
		}
		if told[t] = err.Error(); a.staleCRLs[t] != told[t] {
			a.log.Warn("revoked certificates", "error", err)
		}
	}
	a.staleCRLs = told
}

// brokerListeners is how the places are doing where clients connect.
func (a *Agent) brokerListeners() []status.Listener {
	list := []status.Listener{}
	a.mu.Lock()
	known := slices.Clone(a.entrances)
	a.mu.Unlock()
	for _, x := range a.server.ListenerStates() {
		i := slices.IndexFunc(known, func(e entrance) bool { return e.Key == x.Key })
		if i < 0 {
			continue // it is just being exchanged
		}
		l := listenerOf(known[i].url, x.Err, x.Since)
		if t := known[i].tls; t != nil {
			if err := t.CheckCRL(time.Now()); err != nil {
				l.Warning = err.Error()
			}
		}
		list = append(list, l)
	}
	return list
}

// listenerStatus is that of brokerListeners, of the dashboard and, while it is not open, of the control socket.
func (a *Agent) listenerStatus() []status.Listener {
	list := a.brokerListeners()
	if a.web != nil {
		since, err := a.web.Failure()
		if err != nil || a.web.Addr() != nil {
			list = append(list, listenerOf(a.config().Web.URL, err, since))
		}
	}
	if since, err := a.control.Failure(); err != nil {
		list = append(list, listenerOf("control "+a.control.Path(), err, since))
	}
	return list
}

func listenerOf(url string, err error, since time.Time) status.Listener {
	l := status.Listener{URL: url, Open: err == nil, Since: since}
	if err != nil {
		l.Error = strings.ReplaceAll(err.Error(), "\n", ": ")
	}
	return l
}
