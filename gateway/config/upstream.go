package config

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"holdfast/broker/dial"
	"holdfast/broker/outbox"
	"holdfast/broker/profile"
	"holdfast/broker/sinks"
)

// Reach is how to connect to the upstreams of a bridge, and the gateway's identity there.
type Reach struct {
	TLS       dial.TLS
	Proxy     Proxy
	Profile   *profile.Profile // of the service; nil for none
	TokenFile string           // whose text is the password; never with Password
	// References are hosts, or HOST:PORT, that an upstream may name as another server.
	References []string
	SASKey     string // file with the key that signs the password; only of azure-iot-hub
}

// Proxy is what upstreams are reached through. The zero value is the environment's.
type Proxy struct {
	URL      string // http://HOST:PORT or https://HOST:PORT, or "none"
	Username string
	Password Secret
	CA       string
}

// upstreamKeys are the keys of a bridge about the way to its upstream.
func (l *loader) upstreamKeys(b *Bridge) []key {
	t := &b.TLS
	tls := newTable(
		key{"ca", "", "PEM file of the authorities to trust. Default: those of the system.", l.file(&t.CA)},
		key{"cert", "", "PEM file of the gateway's certificate, and of what lies between it and its authority.", l.file(&t.Cert)},
		key{"key", "", "PEM file of its private key, not encrypted.", l.file(&t.Key)},
		key{"server_name", "", "Name that the upstream's certificate has to have, and that it is asked for. Default: the host of the URL.",
			packed(&t.ServerName, "a host name")},
		key{"alpn", "", "Application protocols to offer, where an upstream asks for it.",
			replaced(l, "a list of protocols", &t.ALPN, func(to *string) kind {
				return text(to, "text of 1 to 255 bytes", func(s string) bool { return s != "" && len(s) <= 255 })
			})},
		key{"min_version", "\"1.2\"", "Oldest version of TLS to speak: 1.2 or 1.3.", tlsVersion(&t.MinVersion)},
	)
	p := &b.Proxy
	proxy := newTable(
		key{"url", "", "`http://HOST:PORT` or `https://HOST:PORT`; `none` for no proxy, not even the environment's.", proxyURL(&p.URL)},
		key{"username", "", "Name to log in to it with.", packed(&p.Username, "text of 1 to 65535 bytes")},
		key{"password", "", "Password for it; best as `${file:PATH}`. Never printed.", password(&p.Password)},
		key{"ca", "", "PEM file of the authorities to trust for https, beside those of the system.", l.file(&p.CA)},
	)
	return []key{
		{"profile", "", "Service or broker that the upstream is: fills in what it wants, and refuses what it does not support.", profileName(&b.Profile)},
		{"tls", "", "Certificates, for mqtts and wss.", l.section(tls)},
		{"proxy", "", "HTTP proxy to go through. Default: that of the environment variables `HTTPS_PROXY` and `NO_PROXY`.", l.section(proxy)},
		{"server_references", "", "Hosts, or `HOST:PORT`, that an upstream of MQTT 5 may name as another server to use; over `mqtts` and `wss` only. Default: none is followed.",
			replaced(l, "a list of hosts", &b.References, func(to *string) kind {
				return text(to, "a host, or HOST:PORT", isHost)
			})},
		{"token_file", "", "File whose text is the password, such as a JWT; read for every connection.", l.file(&b.TokenFile)},
		{"sas_key", "", "File with the device's key of Azure IoT Hub; signs a password for every connection.", l.file(&b.SASKey)},
	}
}

// isHost reports whether s is a host or HOST:PORT, of which a URL can be made.
func isHost(s string) bool {
	u, err := dial.ParseURL("mqtts://" + s)
	return err == nil && u.Hostname() != "" && u.Path == "" && u.RawQuery == "" && u.Fragment == "" && (u.Hostname() == s || u.Host == s)
}

// sink returns what a bridge delivers to at an upstream that is no MQTT broker; nil for a broker.
func (l *loader) sink(u Endpoint) *outbox.SinkKind {
	scheme, _, _ := strings.Cut(u.URL, ":")
	return sinks.Of(l.opts.Sinks, scheme)
}

// endpoint is an upstream's URL: of an MQTT broker, or of a sink.
func (l *loader) endpoint(to *Endpoint) kind {
	want := "mqtt://HOST:PORT, mqtts://, ws:// or wss://"
	for _, s := range l.opts.Sinks {
		want += ", or " + s.Scheme + "://"
	}
	return kind{want: "a URL: " + want, types: []string{"!!str"}, schema: urlSchema, parse: func(s string) error {
		if strings.Contains(s, "@") {
			return errCredentials
		}
		u, err := url.Parse(s)
		if err != nil || u.Scheme == "unix" {
			return errors.New("want " + want)
		}
		if s := sinks.Of(l.opts.Sinks, u.Scheme); s != nil && u.Hostname() != "" {
			address, err := hostPort(u, s.Port, 1)
			if err == nil {
				u.Host = address
				*to = Endpoint{Network: "tcp", Address: address, URL: u.String()}
			}
			return err
		}
		parsed, err := dial.ParseURL(s)
		path := strings.TrimRight(u.EscapedPath(), "/")
		web := u.Scheme == "ws" || u.Scheme == "wss"
		switch {
		case err != nil && u.Hostname() == "" && slices.Contains([]string{"mqtt", "mqtts", "ws", "wss"}, u.Scheme):
			return errors.New("want " + want + ": there is no host")
		case err != nil:
			return errors.New("want " + want)
		case u.RawQuery != "" || u.Fragment != "" || u.Opaque != "" || path != "" && !web:
			return errors.New("want " + want + " and nothing after it, but for the path of ws and wss")
		}
		address, err := hostPort(parsed, "", 1)
		if err != nil {
			return err
		}
		*to = Endpoint{Network: "tcp", Address: address, URL: u.Scheme + "://" + address + path}
		return nil
	}}
}

func tlsVersion(to *uint16) kind {
	versions := map[string]uint16{"1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13}
	const want = "1.2 or 1.3"
	return kind{want: want, types: []string{"!!str", "!!float"}, schema: pattern(`^"?1\.[23]"?$`), parse: func(s string) error {
		v, ok := versions[strings.Trim(s, `"`)]
		if !ok {
			return errors.New("want " + want)
		}
		*to = v
		return nil
	}}
}

func proxyURL(to *string) kind {
	const want = "http://HOST:PORT, https://HOST:PORT or none"
	return kind{want: want, types: []string{"!!str"}, parse: func(s string) error {
		if strings.Contains(s, "@") {
			return errCredentials
		}
		p := dial.Proxy{URL: s}
		if s == "" || p.Check() != nil {
			return errors.New("want " + want)
		}
		*to = s
		return nil
	}}
}

func profileName(to **profile.Profile) kind {
	var name string
	k := choice(&name, profile.Names()...)
	parse := k.parse
	k.parse = func(s string) error {
		err := parse(s)
		if err == nil {
			*to, _ = profile.Named(name)
		}
		return err
	}
	return k
}

// finishUpstream checks the way to a bridge's upstream, after the profile has filled in its part.
func (l *loader) finishUpstream(e *element[Bridge]) {
	b := &e.value
	given := func(name string) bool {
		section, rest, nested := strings.Cut(name, ".")
		at, ok := e.given[section]
		if !ok || !nested {
			return ok
		}
		for i := 0; i+1 < len(at.node.Content); i += 2 {
			if at.node.Content[i].Value == rest {
				return true
			}
		}
		return false
	}
	at := func(name string) field {
		section, _, _ := strings.Cut(name, ".")
		section, _, _ = strings.Cut(section, "[")
		if f, ok := e.given[section]; ok {
			if name != section {
				f.path = e.at.path + "." + name
			}
			return f
		}
		return e.at.key(name)
	}
	secure := slices.ContainsFunc(b.Upstream, func(u Endpoint) bool { return u.URL != "" && !l.isPlain(u) })
	l.checkSink(b, given, at)
	switch {
	case (b.TLS.Cert == "") != (b.TLS.Key == ""):
		l.errorf(at("tls"), "cert and key go together: a certificate is of no use without its key")
	case given("tls") && !secure && len(b.Upstream) > 0:
		l.errorf(at("tls"), "only upstreams of mqtts and wss have this")
	}
	if what := b.credentials(); secure && what != "" && what != "username" {
		if i := slices.IndexFunc(b.Upstream, l.isPlain); i >= 0 {
			l.errorf(entryOf(e.given["upstream"], i), "is plain text beside encrypted upstreams: an attacker who blocks those is sent the %s in the clear: use mqtts or wss for all of them, or a bridge of its own without it", what)
		}
	}
	if given("server_references") && !secure && len(b.Upstream) > 0 {
		l.errorf(at("server_references"), "are followed from upstreams of mqtts and wss only: over mqtt and ws anybody on the way could name one")
	}
	if b.Proxy.Password != "" && b.Proxy.Username == "" {
		l.errorf(at("proxy"), "a password needs a username beside it")
	}
	if b.Proxy.URL == "" && b.Proxy.Username+b.Proxy.CA != "" {
		l.errorf(at("proxy"), "url is missing: which proxy?")
	}
	var passwords []string
	for _, name := range []string{"password", "token_file", "sas_key"} {
		if given(name) {
			passwords = append(passwords, name)
		}
	}
	if len(passwords) > 1 {
		l.errorf(at(passwords[1]), "there is %s already: want one of them", passwords[0])
	}
	if b.Profile == nil {
		if given("sas_key") {
			l.errorf(at("sas_key"), "is for Azure IoT Hub: give profile: azure-iot-hub")
		} else if given("token_file") && !given("username") {
			l.errorf(at("token_file"), "a password needs a username beside it")
		}
		return
	}
	l.applyProfile(b, given, at)
}

// checkSink reports what a bridge to something else than MQTT brokers cannot have.
func (l *loader) checkSink(b *Bridge, given func(string) bool, at func(string) field) {
	i := slices.IndexFunc(b.Upstream, func(u Endpoint) bool { return l.sink(u) != nil })
	if i < 0 {
		return
	}
	kind := l.sink(b.Upstream[i])
	for _, u := range b.Upstream {
		if other := l.sink(u); u.URL != "" && (other == nil || other.Scheme != kind.Scheme) {
			l.errorf(at("upstream"), "%s:// is no MQTT broker: want upstreams of one scheme, or a bridge for each", kind.Scheme)
			return
		}
	}
	for _, name := range []string{"in", "profile", "server_references"} {
		if given(name) {
			l.errorf(at(name), "is for MQTT brokers, and %s:// is none: want a bridge of its own for it", kind.Scheme)
		}
	}
}

// applyProfile fills in the profile's part, and reports what the profile does not support.
func (l *loader) applyProfile(b *Bridge, given func(string) bool, at func(string) field) {
	s := profile.Settings{
		ClientID: b.ClientID, Username: b.Username, Password: b.Password != "", TokenFile: b.TokenFile != "", SASKey: b.SASKey != "",
		Certificate: b.TLS.Cert != "", ALPN: b.TLS.ALPN, Window: b.Window, KeepAlive: b.KeepAlive, Protocol: string(b.Protocol),
		Status: b.Status,
	}
	for _, e := range b.Upstream {
		u, err := url.Parse(e.URL)
		if err != nil || e.URL == "" {
			return // reported where it is
		}
		s.Upstreams = append(s.Upstreams, u)
	}
	for _, r := range b.Out {
		s.Out = append(s.Out, profile.Rule{Filter: r.Filter, Strip: r.Strip, Prefix: r.Prefix})
	}
	for _, r := range b.In {
		s.In = append(s.In, r.Filter)
	}
	b.Profile.Fill(&s, given)
	b.Username, b.TLS.ALPN, b.Window, b.Protocol, b.Status = s.Username, s.ALPN, s.Window, Protocol(s.Protocol), s.Status
	for i, u := range s.Upstreams {
		b.Upstream[i].URL = fmt.Sprintf("%s://%s%s", u.Scheme, b.Upstream[i].Address, u.EscapedPath())
	}
	for _, p := range b.Profile.Check(s) {
		l.errorf(at(p.Key), "%s", p.Text)
	}
	if (s.TokenFile || s.Password) && s.Username == "" {
		l.errorf(at("username"), "missing: a password needs a username beside it")
	}
}
