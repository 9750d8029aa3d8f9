package config

import (
	"errors"
	"io/fs"
	"net"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"holdfast/broker/dial"
)

// schemes are those of a listener. dial.Port has the ports that their names stand for.
var schemes = []string{"mqtt", "mqtts", "ws", "wss", "unix"}

const defaultMode fs.FileMode = 0o660

// maxSocket is the most bytes of a socket's path (unix(7)).
const maxSocket = 107

func (l *loader) listenerKeys(e *Listener) *table {
	t := newTable(
		key{"url", required, "`mqtt://HOST:PORT`, `mqtts://`, `ws://`, `wss://` or `unix:///PATH`. Without a host all addresses, as with `[::]`, and with `0.0.0.0` those of IPv4; without a port 1883, 8883, 80 or 443. A path after ws and wss is the only one served.",
			listenerURL(e)},
		key{"cert", "", "PEM file of the certificate, and of what lies between it and its authority. Of mqtts and wss, required there.", l.file(&e.Cert)},
		key{"key", "", "PEM file of the private key, not encrypted. Of mqtts and wss, required there.", l.file(&e.Key)},
		key{"ca", "", "PEM file of the authorities that sign the certificates of clients. Of mqtts and wss.", l.file(&e.CA)},
		key{"crl", "", "File of what `ca` has revoked (CRL): one list in DER, or any number in PEM. Clients with a certificate in it are refused, those that are connected too. Read again when it changes. Of mqtts and wss.", l.file(&e.CRL)},
		key{"require_client_certificate", "false", "Turn away clients without a certificate of `ca`.", boolean(&e.RequireClientCertificate)},
		key{"origins", "", "Web pages that may connect, such as `https://dash.example`, or `\"*\"` for any. Of ws and wss; pages from the host they connect to always may.",
			replaced(l, "a list of origins", &e.Origins, origin)},
		key{"hosts", "", "Further names that clients may reach this listener by, such as `gateway.example`, or `\"*\"` for any. Of ws and wss; addresses, `localhost`, the machine's own name and those of `cert` always may.",
			replaced(l, "a list of host names", &e.Hosts, hostName)},
		key{"mode", "\"0660\"", "Who may connect, as the permissions of the socket. Of unix.", fileMode(&e.Mode)},
		key{"anonymous", "", "Let clients in without a name and password. Default: `broker.anonymous`.", boolean(&e.Anonymous)},
	)
	e.Mode = defaultMode
	return t
}

func listenerURL(to *Listener) kind {
	var names []string
	for _, s := range schemes {
		names = append(names, s+"://")
	}
	return kind{want: "a URL that starts with " + oneOf(names), types: []string{"!!str"}, schema: urlSchema, parse: func(s string) error {
		return to.parse(s, "want a URL that starts with "+oneOf(names))
	}}
}

func (to *Listener) parse(s, want string) error {
	if strings.Contains(s, "@") {
		return errCredentials
	}
	u, err := url.Parse(s)
	if err != nil {
		return errors.New(want)
	}
	port := dial.Port(u.Scheme)
	switch {
	case !slices.Contains(schemes, u.Scheme):
		return errors.New(want)
	case u.RawQuery != "" || u.Fragment != "" || u.Opaque != "":
		return errors.New("want nothing after the address")
	case u.Scheme == "unix":
		if u.Host != "" || !filepath.IsAbs(u.Path) || strings.HasSuffix(u.Path, "/") || len(u.Path) > maxSocket {
			return errors.New("want unix:///PATH, with three slashes and a path of at most " + strconv.Itoa(maxSocket) + " bytes")
		}
		path := filepath.Clean(u.Path)
		to.Endpoint, to.Scheme = Endpoint{Network: "unix", Address: path, URL: "unix://" + path}, u.Scheme
		return nil
	}
	address, err := hostPort(u, port, 0)
	if err != nil {
		return err
	}
	path := strings.TrimRight(u.Path, "/")
	webSocket := u.Scheme == "ws" || u.Scheme == "wss"
	if path != "" && !webSocket {
		return errors.New("want nothing after the port: only ws and wss have a path")
	}
	to.Endpoint = Endpoint{Network: "tcp", Address: address, URL: u.Scheme + "://" + address + path}
	to.Scheme, to.Path = u.Scheme, path
	return nil
}

func sameURL(s string) string {
	var l Listener
	if l.parse(s, "") != nil {
		return s
	}
	return l.URL
}

// local reports whether only this device can reach what listens there. A host name other than localhost
// can mean anything.
func local(e Endpoint) bool {
	host, _, _ := net.SplitHostPort(e.Address)
	ip := net.ParseIP(host)
	return e.Network == "unix" || host == "localhost" || ip != nil && ip.IsLoopback()
}

func origin(to *string) kind {
	return text(to, `an origin such as https://dash.example, or "*"`, func(s string) bool {
		u, err := url.Parse(s)
		return s == "*" || err == nil && u.Scheme != "" && u.Host != "" && u.Path == "" && u.RawQuery == "" && u.User == nil
	})
}

// hostName is the name of a host, without a port.
func hostName(to *string) kind {
	return text(to, `a host name without a port, such as gateway.example, or "*"`, func(s string) bool {
		return s == "*" || s != "" && len(s) <= 253 && !strings.ContainsAny(s, ":/@?#[]* \t")
	})
}

// fileMode is in quotes, because YAML takes a number with a 0 in front for octal or not, by its version.
func fileMode(to *fs.FileMode) kind {
	const want = `permissions in quotes, such as "0660"`
	return kind{want: want, types: []string{"!!str"}, schema: pattern(`^"?[0-7]{1,4}"?$`), parse: func(s string) error {
		n, err := strconv.ParseUint(strings.Trim(s, `"`), 8, 32)
		if err != nil || n > 0o777 {
			return errors.New("want " + want)
		}
		*to = fs.FileMode(n)
		return nil
	}}
}

// file is the path of a file, relative to the configuration file that names it.
func (l *loader) file(to *string) kind {
	const want = "a path"
	return kind{into: to, want: want, schema: schema{"type": "string", "minLength": 1}, decode: func(f field) {
		var path string
		before := len(l.errs)
		l.decode(f, packed(&path, want))
		if len(l.errs) > before {
			return
		}
		if !filepath.IsAbs(path) {
			path = filepath.Join(filepath.Dir(f.file), path)
		}
		*to = path
	}}
}

func (l *loader) finishBroker() {
	if _, given := l.broker.given["listeners"]; !given {
		e := &element[Listener]{}
		e.table = l.listenerKeys(&e.value)
		l.defaults(e.table)
		_ = e.value.parse("mqtt://127.0.0.1:"+dial.Port("mqtt"), "")
		l.listeners = append(l.listeners, e)
	}
	for _, e := range l.listeners {
		if e.value.Address != "" {
			l.finishListener(e)
		}
		l.config.Broker.Listeners = append(l.config.Broker.Listeners, e.value)
	}
}

func (l *loader) finishListener(e *element[Listener]) {
	v := &e.value
	for _, k := range []struct {
		name  string
		fits  bool
		needs bool
		of    string
	}{
		{"cert", v.TLS(), true, "mqtts and wss"}, {"key", v.TLS(), true, "mqtts and wss"},
		{"ca", v.TLS(), false, "mqtts and wss"}, {"crl", v.TLS(), false, "mqtts and wss"},
		{"require_client_certificate", v.TLS(), false, "mqtts and wss"},
		{"origins", v.WebSocket(), false, "ws and wss"}, {"hosts", v.WebSocket(), false, "ws and wss"},
		{"mode", v.Scheme == "unix", false, "unix"},
	} {
		switch at, given := e.given[k.name]; {
		case given && !k.fits:
			l.errorf(at, "only listeners of %s have this, and this one is %s", k.of, v.Scheme)
		case !given && k.fits && k.needs:
			l.errorf(e.at.key(k.name), "missing: %s needs a PEM file here", v.Scheme)
		}
	}
	if v.RequireClientCertificate && v.CA == "" {
		l.errorf(e.given["require_client_certificate"], "needs ca beside it: who signs the certificates?")
	}
	if v.CRL != "" && v.CA == "" {
		l.errorf(e.given["crl"], "needs ca beside it: who has signed the list?")
	}
	if _, given := e.given["anonymous"]; !given {
		_, given := l.broker.given["anonymous"]
		v.Anonymous = given && l.anonymous || !given && local(v.Endpoint)
	}
	b := &l.config.Broker
	if !v.Anonymous && !local(v.Endpoint) && v.CA == "" && len(b.Users) == 0 && b.PasswordFile == "" {
		l.errorf(e.given["url"], "other devices can connect here, and there are no users: add broker.users or broker.password_file, set broker.anonymous to true if anybody may come in, or listen on 127.0.0.1")
	}
}
