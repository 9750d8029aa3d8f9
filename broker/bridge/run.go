package bridge

import (
	"context"
	"errors"
	"net/url"
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
		b.count(func(s *Stats) { s.Upstream = upstream.String() })
		event := "upstream cannot be reached"
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
			b.suspect.note(s, err)
			b.noteSign(s, upstream, err)
			b.window.restart()
		}
		if ctx.Err() != nil {
			break
		}
		if ready != nil {
			b.log.Info("back to the first upstream", "upstream", b.upstreams[0].String())
			at = 0
			continue
		}
		b.count(func(s *Stats) { s.LastError = err.Error() })
		if !reported {
			b.log.Warn(event, "upstream", upstream.String(), "reason", err)
			reported = true
		}
		if moves++; b.move(upstream, at, err) && moves <= maxMove {
			continue
		}
		at = (at + 1) % len(b.upstreams)
		if overloaded(err) {
			wait.ceiling = wait.max
		}
		delay := wait.next()
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

// move says whether the upstream has named another server, which is tried next.
func (b *Bridge) move(from *url.URL, at int, err error) bool {
	var said *reasonError
	if !errors.As(err, &said) || said.reference == "" || said.code != wire.UseAnotherServer && said.code != wire.ServerMoved {
		return false
	}
	host, _, _ := strings.Cut(strings.TrimSpace(said.reference), " ") // one of a list, section 4.11
	u, err := dial.ParseURL(from.Scheme + "://" + host)
	if err != nil {
		b.log.Warn("upstream names another server that cannot be", "upstream", from.String(), "server", host)
		return false
	}
	b.moved = u
	if said.code == wire.ServerMoved {
		b.upstreams[at] = u // until the next start; the configuration should say so
	}
	b.log.Warn("upstream says to use another server", "upstream", from.String(), "server", u.String(), "for good", said.code == wire.ServerMoved)
	return true
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
