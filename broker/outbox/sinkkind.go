package outbox

import (
	"context"
	"log/slog"
	"net"
	"net/url"

	"holdfast/broker"
)

// SinkKind is a kind of destination: a row of the table of package sinks.
type SinkKind struct {
	Scheme string // of its URLs, in lower case letters; that of the same sink over TLS has an s behind it
	Port   string // where a URL has none
	TLS    bool   // connections are encrypted, with the certificates of the bridge
	// New returns a sink that is not connected. An error is a mistake in the configuration.
	New func(SinkOptions) (Sink, error)
}

// SinkOptions are what a configured sink is made of.
type SinkOptions struct {
	Bridge    string       // its name
	Upstreams []*url.URL   // all of the sink's scheme, the preferred one first, with a port
	Rules     broker.Rules // names of topics on the other side; the topic of announced losses has none
	// Dial connects to an upstream, by the proxy and with the certificates of the bridge.
	Dial func(ctx context.Context, u *url.URL) (net.Conn, error)
	// Credentials are asked for at each connection. They are never logged.
	Credentials func() (username, password string, err error)
	Log         *slog.Logger
}
