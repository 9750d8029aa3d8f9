// Package sinks is the table of what the messages of a bridge can be delivered to beside MQTT brokers.
//
// A sink is a package with the two interfaces of package outbox, and a function that returns its Sink for the table. The
// configuration takes the scheme as an upstream of a bridge, and the gateway delivers there; neither knows the sink.
package sinks

import (
	"context"
	"log/slog"
	"net"
	"net/url"
	"slices"

	"holdfast/broker"
	"holdfast/broker/outbox"
)

// Sink is one kind of destination.
type Sink struct {
	Scheme string // of its URLs, in lower case letters; that of the same sink over TLS has an s behind it
	Port   string // where a URL has none
	TLS    bool   // connections are encrypted, with the certificates of the bridge
	// New returns an outbox's sink that is not connected. An error is a mistake in the configuration.
	New func(Options) (outbox.Sink, error)
}

// Options are what a sink is made of.
type Options struct {
	Bridge    string       // its name
	Upstreams []*url.URL   // all of the sink's scheme, the preferred one first, with a port
	Rules     broker.Rules // names of topics on the other side; the topic of announced losses has none
	// Dial connects to an upstream, by the proxy and with the certificates of the bridge.
	Dial func(ctx context.Context, u *url.URL) (net.Conn, error)
	// Credentials are asked for at each connection. They are never logged.
	Credentials func() (username, password string, err error)
	Log         *slog.Logger
}

// All returns the sinks that there are. A new one is a line.
func All() []Sink {
	return []Sink{}
}

// Of returns the sink of a scheme, nil if none has it.
func Of(list []Sink, scheme string) *Sink {
	if i := slices.IndexFunc(list, func(s Sink) bool { return s.Scheme == scheme }); i >= 0 {
		return &list[i]
	}
	return nil
}
