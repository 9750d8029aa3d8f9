package uplinks

import (
	"context"
	"net"
	"net/url"
	"strings"
	"sync/atomic"

	"holdfast/broker"
	"holdfast/broker/bridge"
	"holdfast/broker/dial"
	"holdfast/broker/outbox"
	"holdfast/broker/sinks"
	"holdfast/gateway/config"
)

// sender delivers an uplink's messages. Run is called once, everything else is safe for concurrent use.
type sender interface {
	Run(ctx context.Context) error
	Deliver(m *broker.Message) // takes what the journal does not keep, without blocking
	Stats() bridge.Stats
	Problems() []string
}

// sinkOf returns what a bridge delivers to if its upstreams are no MQTT brokers; nil if they are.
func sinkOf(list []outbox.SinkKind, c config.Bridge) *outbox.SinkKind {
	scheme, _, _ := strings.Cut(c.Upstream[0].URL, ":") // all have one scheme if any is a sink's: package config checks
	return sinks.Of(list, scheme)
}

// newSink returns the sender to a sink.
func (u *Uplinks) newSink(kind *outbox.SinkKind, c config.Bridge, box outbox.Options, dialer *dial.Dialer) (sender, error) {
	opts := outbox.SinkOptions{
		Bridge: c.Name, Rules: config.Rules(c.Out), Credentials: credentials(c).Get, Log: u.log.With("bridge", c.Name),
		Dial: func(ctx context.Context, to *url.URL) (net.Conn, error) {
			at := url.URL{Scheme: "mqtt", Host: to.Host} // what package dial knows as TCP
			if kind.TLS {
				at.Scheme = "mqtts"
			}
			return dialer.Dial(ctx, &at)
		},
	}
	for _, e := range c.Upstream {
		at, err := url.Parse(e.URL)
		if err != nil {
			return nil, err
		}
		opts.Upstreams = append(opts.Upstreams, at)
	}
	box.Log = opts.Log
	sink, err := kind.New(opts)
	if err != nil {
		return nil, err
	}
	out, err := outbox.New(box, sink)
	if err != nil {
		return nil, err
	}
	return &boxed{Outbox: out}, nil
}

// boxed is an outbox as a sender.
type boxed struct {
	*outbox.Outbox
	dropped atomic.Uint64
}

// Deliver drops the message and counts it: an outbox sends what the journal has.
func (b *boxed) Deliver(*broker.Message) { b.dropped.Add(1) }

// Stats returns those of the outbox, and what was dropped.
func (b *boxed) Stats() bridge.Stats {
	return bridge.Stats{Stats: b.Outbox.Stats(), QoS0Dropped: b.dropped.Load()}
}
