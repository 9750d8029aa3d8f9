package config

import (
	"errors"
	"net/url"
	"slices"
	"strings"
)

// defaultWeb is HOLD on the keys of a telephone. Nothing else that runs on a Pi is known to use it.
const defaultWeb = "http://127.0.0.1:4653"

// Web is where the dashboard is served.
type Web struct {
	Endpoint               // Address is empty if it is off
	Scheme        string   // "http" or "https"
	Cert, Key     string   // PEM files, of https
	View, Operate []string // users and groups of the broker; who operates may view as well
}

// On reports whether there is a dashboard.
func (w Web) On() bool { return w.Address != "" }

// TLS reports whether connections are encrypted.
func (w Web) TLS() bool { return w.Scheme == "https" }

// Local reports whether only this device can reach it.
func (w Web) Local() bool { return local(w.Endpoint) }

// Login reports whether a login is required. If not, only this device can connect.
func (w Web) Login() bool { return len(w.View)+len(w.Operate) > 0 }

func (l *loader) webKeys(w *Web) *table {
	who := func(to *string) kind { return packed(to, "the name of a user or group") }
	return newTable(
		key{"url", defaultWeb, "Where browsers connect: `http://HOST:PORT` or `https://HOST:PORT`; without a host all addresses; `off` for no dashboard.",
			webURL(w)},
		key{"cert", "", "PEM file of the certificate, and of what lies between it and its authority. Of https, required there.", l.file(&w.Cert)},
		key{"key", "", "PEM file of the private key, not encrypted. Of https, required there.", l.file(&w.Key)},
		key{"view", "", "Users and groups of `broker` who may look; `\"*\"` for every user. With this or `operate` one has to log in.",
			replaced(l, "a list of users and groups", &w.View, who)},
		key{"operate", "", "Those who may also move outputs. Without this and `view` every user of this device may, unless the broker has users or rules.",
			replaced(l, "a list of users and groups", &w.Operate, who)},
	)
}

func webURL(to *Web) kind {
	const want = "http://HOST:PORT, https://HOST:PORT or off"
	return kind{into: &to.Endpoint, want: "a URL that starts with http:// or https://, or off", types: []string{"!!str"}, parse: func(s string) error {
		to.Endpoint, to.Scheme = Endpoint{}, ""
		if s == "" || s == "off" {
			return nil
		}
		if strings.Contains(s, "@") {
			return errCredentials
		}
		u, err := url.Parse(s)
		switch {
		case err != nil || u.Scheme != "http" && u.Scheme != "https":
			return errors.New("want " + want)
		case strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" || u.Opaque != "":
			return errors.New("want " + want + " and nothing after it")
		case u.Port() == "":
			return errors.New("want " + want + ": there is no port")
		}
		address, err := hostPort(u, "", 0)
		if err != nil {
			return err
		}
		to.Endpoint, to.Scheme = Endpoint{Network: "tcp", Address: address, URL: u.Scheme + "://" + address}, u.Scheme
		return nil
	}}
}

// finishWeb checks section web against itself and the broker's users, after finishAccess.
func (l *loader) finishWeb() {
	w, b := &l.config.Web, &l.config.Broker
	if !w.On() {
		return
	}
	for _, name := range []string{"cert", "key"} {
		switch at, given := l.web.given[name]; {
		case given && !w.TLS():
			l.errorf(at, "only https has this, and web.url is %s", w.Scheme)
		case !given && w.TLS():
			at := l.web.given["url"]
			at.path = "web." + name
			l.errorf(at, "missing: https needs a PEM file here")
		}
	}
	known := []string{"*"}
	for _, u := range b.Users {
		known = append(known, u.Name)
	}
	for _, g := range b.Groups {
		known = append(known, g.Name)
	}
	for _, list := range []struct {
		name string
		who  []string
	}{{"view", w.View}, {"operate", w.Operate}} {
		for _, name := range list.who {
			switch {
			case name == "" || b.PasswordFile != "": // reported, or known to the file
			case len(b.Users) == 0:
				l.errorf(l.web.given[list.name], "there are no users who could log in: add broker.users or broker.password_file")
			case !slices.Contains(known, name):
				l.errorf(l.web.given[list.name], "there is no user or group %q, %s", name, nearest(name, known[1:]))
			}
		}
	}
	if at, given := l.web.given["url"]; given && !w.Login() && !w.Local() {
		l.errorf(at, "other devices can open this page without a login: add web.view or web.operate with names of broker.users, or serve it on 127.0.0.1")
	}
}
