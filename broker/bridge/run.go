package bridge

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"holdfast/broker/dial"
	"holdfast/broker/outbox"
	"holdfast/broker/wire"
)

const (
	resendTime    = time.Minute // how long a connection lasts until the upstream would have resent unacknowledged messages
	maxMove       = 3           // references to another server that are followed one after the other
	problemMemory = time.Hour   // how long something that was seen once stays a problem
)

// Run connects, sends and connects again until ctx ends. Then it stops sending, waits up to 2 s for
// acknowledgements and disconnects; it returns nil. What is not acknowledged stays in the journal.
func (b *Bridge) Run(ctx context.Context) error {
	if len(b.opts.In) > 0 {
		b.in = newInbound(b) // not before: a bridge that this one replaces may still have been at work
	}
	err := b.box.Run(ctx)
	if b.upstreams.ready != nil {
		b.upstreams.ready.discard(func(*batch) {})
	}
	return err
}

// sink is a Bridge as its outbox sees it.
type sink struct{ b *Bridge }

// Target chooses the next upstream.
func (k sink) Target() string {
	b := k.b
	if b.upstreams.ready != nil {
		b.log.Info("back to the first upstream", "upstream", dial.Redact(b.upstreams.all[0].String()))
	}
	return dial.Redact(b.upstreams.next().String())
}

// Connect connects to it, unless that was done while another one was in use.
func (k sink) Connect(ctx context.Context) (outbox.Conn, error) {
	b := k.b
	l := b.upstreams.take()
	if l == nil {
		var err error
		if l, err = b.connect(ctx, b.upstreams.target); err != nil {
			return nil, err
		}
	}
	b.conn = &connection{b: b, l: l}
	b.connected(l.version)
	return b.conn, nil
}

// Ended evaluates the end of a connection, or why there is none, and chooses what to try next.
func (k sink) Ended(f *outbox.Flow, err error) outbox.Next {
	b, taken := k.b, false
	if f == nil {
		b.rival.unreachable()
	} else {
		if b.upstreams.ready = b.conn.search.better; b.upstreams.ready != nil {
			err = nil
		}
		if f.Worthwhile() {
			b.upstreams.moves = 0
		}
		taken = b.rival.note(b.conn, err, time.Now())
		b.notePresence(b.conn, b.upstreams.target, err)
		if err == nil {
			return outbox.Next{Handover: b.upstreams.ready != nil}
		}
	}
	next := outbox.Next{Cause: causeOf(err)}
	if b.upstreams.moves++; b.move(b.upstreams.target, err) && b.upstreams.moves <= maxMove {
		next.Now = true
		return next
	}
	b.upstreams.failed()
	next.Slow = overloaded(err)
	if taken {
		next.Delay = b.takenOver(time.Now())
	}
	return next
}

// Release frees the packet identifier of a message.
func (k sink) Release(seq uint64) { k.b.ids.forget(seq) }

// move reports whether the upstream has named another server that may be used, which is tried next, once: the one after
// that is the configuration's again.
func (b *Bridge) move(from *url.URL, err error) bool {
	var said *reasonError
	if !errors.As(err, &said) || said.reference == "" || said.code != wire.UseAnotherServer && said.code != wire.ServerMoved {
		return false
	}
	host, _, _ := strings.Cut(strings.TrimSpace(said.reference), " ") // one of a list, section 4.11
	u, wrong := b.reference(from, host)
	if wrong != "" {
		key := "reference"
		b.problem(key, fmt.Sprintf("the upstream says to use another server, %.100q, which is not followed: %s", host, wrong), time.Now().Add(problemMemory))
		b.refused("", fmt.Sprintf("server reference not followed: %s", wrong))
		return false
	}
	b.upstreams.redirect = u
	b.log.Warn("upstream says to use another server", "upstream", dial.Redact(from.String()), "server", dial.Redact(u.String()))
	return true
}

// reference returns the server that an upstream names, or why it cannot be used, with the remedy.
func (b *Bridge) reference(from *url.URL, host string) (u *url.URL, wrong string) {
	if !dial.Secure(from) {
		return nil, "without TLS an attacker on the way may have sent it; use mqtts or wss, or correct `upstream`"
	}
	u, err := dial.ParseURL(from.Scheme + "://" + host + from.Path)
	if err != nil {
		return nil, "it is no address"
	}
	if !slices.Contains(b.opts.References, u.Hostname()) && !slices.Contains(b.opts.References, u.Host) {
		return nil, "it is not among `server_references`; list it there, or correct `upstream`"
	}
	return u, ""
}

// connected opens the queue of Deliver.
func (b *Bridge) connected(version wire.Version) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.open, b.stats.Version = true, version
}

// disconnected closes the queue of Deliver, and drops what is in it.
func (b *Bridge) disconnected() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.open = false
	for {
		select {
		case <-b.live:
			b.stats.QoS0Dropped++
		default:
			return
		}
	}
}
