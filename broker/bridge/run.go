package bridge

import (
	"context"
	"time"
)

// stable is how long a connection lasts that was worth its attempt, even with nothing to send.
const stable = time.Minute

// Run connects, sends and connects again until ctx ends. Then it stops sending, waits up to 2 s for
// acknowledgements and disconnects; it returns nil. What is not acknowledged stays in the journal.
func (b *Bridge) Run(ctx context.Context) error {
	wait := backoff{min: b.opts.BackoffMin, max: b.opts.BackoffMax}
	var reported bool // this outage is in the log
	for attempt := 0; ctx.Err() == nil; attempt++ {
		upstream := b.upstreams[attempt%len(b.upstreams)]
		b.count(func(s *Stats) { s.Upstream = upstream.String() })
		event := "upstream cannot be reached"
		l, err := b.connect(ctx, upstream)
		if err == nil {
			event, reported = "upstream lost", false
			b.connected()
			b.changed(true, nil)
			s := session{b: b, l: l, delay: wait}
			s.delay.reset()
			since := time.Now()
			err = s.run(ctx, upstream.Host)
			s.end()
			b.disconnected()
			if ctx.Err() != nil {
				err = nil
			}
			b.changed(false, err)
			if s.acknowledged || time.Since(since) >= stable {
				wait.reset()
			}
			b.window.restart()
		}
		if ctx.Err() != nil {
			break
		}
		b.count(func(s *Stats) { s.LastError = err.Error() })
		if !reported {
			b.log.Warn(event, "upstream", upstream.String(), "reason", err)
			reported = true
		}
		delay := wait.next()
		b.log.Debug("next attempt", "in", delay, "reason", err)
		select {
		case <-ctx.Done():
		case <-time.After(delay):
		}
	}
	return nil
}

func (b *Bridge) connected() {
	b.mu.Lock()
	b.stats.Connected = true
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
	b.stats.Connected = false
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
