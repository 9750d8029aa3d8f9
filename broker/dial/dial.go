// Package dial connects to MQTT brokers: over TCP, TLS, WebSocket and unix sockets, directly or through an
// HTTP proxy.
//
// Files of certificates and tokens may be replaced at any time; the next connection uses the new ones. No
// call outlasts its context or Options.Timeout. An error names the cause and the remedy: a clock that is
// not set, a certificate that has expired, an authority that is not trusted, a proxy that requires a
// password. Errors never contain passwords, tokens or keys.
//
// It does not speak MQTT, does not retry, and does not choose between addresses.
package dial

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"holdfast/broker/listen"
)

// Options configure how to reach brokers. The zero value trusts the system's authorities and uses the
// proxy of the environment.
type Options struct {
	TLS     TLS
	Proxy   Proxy
	Timeout time.Duration // until the first byte of MQTT; 0 means 30 s, for slow links
	// Clock returns the time to check certificates at, and whether anything has set the clock since the
	// machine started. nil means time.Now and true.
	Clock func() (now time.Time, synced bool)
	Log   *slog.Logger // nil discards
}

// Dialer makes connections. Its methods are safe for concurrent use.
type Dialer struct {
	opts Options

	mu        sync.Mutex
	trust     *trust               // the files' content; nil before the first load
	expiries  map[string]Expiry    // by Expiry.What
	reminders map[string]time.Time // time of the last warning
}

// New returns a dialer. It reads files at the first connection that needs them, or in Check.
func New(opts Options) *Dialer {
	if opts.Timeout == 0 {
		opts.Timeout = 30 * time.Second
	}
	if opts.Clock == nil {
		opts.Clock = func() (time.Time, bool) { return time.Now(), true }
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	return &Dialer{opts: opts, expiries: make(map[string]Expiry), reminders: make(map[string]time.Time)}
}

// Trace has hooks that Dial calls as the steps of a connection succeed. Each may be nil.
type Trace struct {
	Connected func(remote net.Addr)           // TCP, to the broker or to the proxy
	Proxied   func(proxy string, date string) // the proxy has connected; date is its clock, or empty
	Secured   func(State)
	Upgraded  func(date string) // WebSocket; date is the broker's clock, or empty
}

type traceKey struct{}

// WithTrace returns a context with which Dial calls the hooks of t.
func WithTrace(ctx context.Context, t *Trace) context.Context {
	return context.WithValue(ctx, traceKey{}, t)
}

// Port returns the port of a URL without one, by its scheme; empty for a unix socket and for unknown schemes.
func Port(scheme string) string { return ports[scheme] }

var ports = map[string]string{"mqtt": "1883", "mqtts": "8883", "ws": "80", "wss": "443"}

const schemes = "want mqtt://, mqtts://, ws://, wss:// or unix:///PATH"

// ParseURL parses and checks a broker's URL, and fills in the default port.
func ParseURL(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return nil, errors.New(schemes) // the error of url.Parse would repeat a password
	case u.User != nil:
		return nil, errors.New("no name and password in a URL: others can see it")
	case u.Scheme == "unix":
		if u.Host != "" || !filepath.IsAbs(u.Path) {
			return nil, fmt.Errorf("%q: want unix:///PATH, with three slashes", Redact(s))
		}
		return u, nil
	case ports[u.Scheme] == "":
		return nil, fmt.Errorf("%q: %s", Redact(s), schemes)
	case u.Hostname() == "":
		return nil, fmt.Errorf("%q: there is no host", Redact(s))
	case u.Port() == "":
		u.Host = net.JoinHostPort(u.Hostname(), ports[u.Scheme])
	}
	return u, nil
}

// Secure reports whether connections to u are encrypted.
func Secure(u *url.URL) bool { return u.Scheme == "mqtts" || u.Scheme == "wss" }

// Dial connects to a URL of ParseURL, up to where MQTT begins. The connection has no deadline.
func (d *Dialer) Dial(ctx context.Context, u *url.URL) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, d.opts.Timeout)
	defer cancel()
	nc, err := d.dial(ctx, u)
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		if err == nil {
			nc.Close()
		}
		return nil, fmt.Errorf("no connection within %v: %w", d.opts.Timeout, context.DeadlineExceeded)
	}
	return nc, err
}

func (d *Dialer) dial(ctx context.Context, u *url.URL) (net.Conn, error) {
	trace, _ := ctx.Value(traceKey{}).(*Trace)
	if trace == nil {
		trace = &Trace{}
	}
	nc, err := d.reach(ctx, u, trace)
	if err != nil {
		return nil, err
	}
	// What follows reads and writes without knowing of ctx.
	raw := nc
	interrupted := context.AfterFunc(ctx, func() { raw.SetDeadline(time.Unix(1, 0)) })
	if Secure(u) {
		s, err := d.secure(ctx, nc, u.Hostname())
		if err != nil {
			nc.Close()
			return nil, err
		}
		if trace.Secured != nil {
			trace.Secured(s.state)
		}
		nc = s
	}
	if strings.HasPrefix(u.Scheme, "ws") {
		stream, header, err := listen.DialWebSocket(ctx, nc, u.String())
		if err != nil {
			return nil, err
		}
		if trace.Upgraded != nil {
			trace.Upgraded(header.Get("Date"))
		}
		nc = stream
	}
	if !interrupted() {
		nc.Close()
		return nil, ctx.Err()
	}
	return nc, nil
}

// reach opens the connection below TLS.
func (d *Dialer) reach(ctx context.Context, u *url.URL, trace *Trace) (net.Conn, error) {
	if u.Scheme == "unix" {
		return plain(ctx, "unix", u.Path, trace)
	}
	proxy, err := d.opts.Proxy.to(u)
	if err != nil {
		return nil, err
	}
	if proxy == nil {
		return plain(ctx, "tcp", u.Host, trace)
	}
	nc, date, err := d.tunnel(ctx, proxy, u.Host, trace)
	if err != nil {
		return nil, fmt.Errorf("proxy %s: %w", proxy.Redacted(), err)
	}
	if trace.Proxied != nil {
		trace.Proxied(proxy.Redacted(), date)
	}
	return nc, nil
}

func plain(ctx context.Context, network, address string, trace *Trace) (net.Conn, error) {
	var n net.Dialer
	nc, err := n.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	if trace.Connected != nil {
		trace.Connected(nc.RemoteAddr())
	}
	return nc, nil
}
