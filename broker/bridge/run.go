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
	"holdfast/broker/wire"
)

const (
	stable  = time.Minute // how long a connection lasts that was worth its attempt, even with nothing to send
	maxMove = 3           // references to another server that are followed one after the other
)

// Run connects, sends and connects again until ctx ends. Then it stops sending, waits up to 2 s for
// acknowledgements and disconnects; it returns nil. What is not acknowledged stays in the journal.
func (b *Bridge) Run(ctx context.Context) error {
	if len(b.opts.In) > 0 {
		b.in = newInbound(b) // not before: a bridge that this one replaces may still have been at work
	}
	wait := backoff{min: b.opts.BackoffMin, max: b.opts.BackoffMax}
	defer b.opts.Progress(false)
	var reported bool // this outage is in the log
	var ready *link   // to the first upstream, made while another one was in use
	at, moves := 0, 0
	for ctx.Err() == nil {
		upstream := b.upstreams[at]
		if b.moved != nil {
			upstream, b.moved = b.moved, nil
		}
		b.count(func(s *Stats) { s.Upstream = dial.Redact(upstream.String()) })
		event, taken := "upstream cannot be reached", false
		l, err := ready, error(nil)
		if ready = nil; l == nil {
			b.opts.Progress(false) // a connection has deadlines of its own
			l, err = b.connect(ctx, upstream)
		}
		b.opts.Progress(true)
		if err == nil {
			event, reported = "upstream lost", false
			var s *session
			s, ready, err = b.serve(ctx, l, upstream, at)
			if s.acknowledged || time.Since(s.began) >= stable {
				wait.reset()
				moves = 0
			}
			if b.poison.note(s, err, time.Now()) {
				wait.reset()
			}
			taken = b.rival.note(s, err, time.Now())
			b.noteSign(s, upstream, err)
			b.window.restart()
		} else {
			b.poison.unreachable()
			b.rival.unreachable()
		}
		if ctx.Err() != nil {
			break
		}
		if ready != nil {
			b.log.Info("back to the first upstream", "upstream", dial.Redact(b.upstreams[0].String()))
			at = 0
			continue
		}
		b.count(func(s *Stats) { s.LastError = err.Error() })
		if !reported {
			b.log.Warn(event, "upstream", dial.Redact(upstream.String()), "reason", err)
			reported = true
		}
		if moves++; b.move(upstream, err) && moves <= maxMove {
			continue
		}
		at = (at + 1) % len(b.upstreams)
		if overloaded(err) {
			wait.ceiling = wait.max
		}
		delay := wait.next()
		if taken {
			delay = b.takenOver(time.Now())
		}
		b.log.Debug("next attempt", "in", delay, "reason", err)
		b.opts.Progress(false)
		select {
		case <-ctx.Done():
		case <-time.After(delay):
		}
	}
	if ready != nil {
		ready.discard(func(*batch) {})
	}
	return nil
}

// serve uses a connection until it ends, or until there is one to the first upstream instead.
func (b *Bridge) serve(ctx context.Context, l *link, upstream *url.URL, at int) (s *session, better *link, err error) {
	b.connected(l.version)
	b.changed(true, nil)
	s = &session{b: b, l: l, began: time.Now(), delay: backoff{min: b.opts.BackoffMin, max: b.opts.BackoffMax}}
	found := make(chan *link, 1)
	probing, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if at > 0 {
			b.probe(probing, found)
		}
	}()
	err = s.run(ctx, upstream.Host, found)
	cancel()
	<-ended
	s.end()
	if better = s.better; better == nil {
		select {
		case better = <-found:
		default:
		}
	}
	b.disconnected()
	if ctx.Err() != nil || better != nil {
		err = nil
	}
	b.changed(false, err)
	return s, better, err
}

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
	b.moved = u
	b.log.Warn("upstream says to use another server", "upstream", dial.Redact(from.String()), "server", dial.Redact(u.String()))
	return true
}

// reference returns the server that an upstream names, or what keeps it from being used, with the remedy.
func (b *Bridge) reference(from *url.URL, host string) (u *url.URL, wrong string) {
	if !dial.Secure(from) {
		return nil, "without TLS anybody on the way may have said so; use mqtts or wss, or correct `upstream`"
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

func (b *Bridge) connected(version wire.Version) {
	b.mu.Lock()
	b.stats.Connected, b.stats.Version, b.stats.Since = true, version, time.Now()
	b.connections++
	if b.connections > 1 {
		b.stats.Reconnects++
	}
	upstream := b.stats.Upstream
	b.mu.Unlock()
	b.log.Info("upstream connected", "upstream", upstream)
}

// changed tells who asked that a connection has begun or ended.
func (b *Bridge) changed(connected bool, reason error) {
	if b.opts.Changed != nil {
		b.opts.Changed(connected, reason)
	}
}

// disconnected drops what Deliver has queued: nothing is added after Connected is false.
func (b *Bridge) disconnected() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stats.Connected, b.stats.Since = false, time.Now()
	b.stats.InFlight = 0
	for {
		select {
		case <-b.live:
			b.stats.QoS0Dropped++
		default:
			return
		}
	}
}
