package server

import (
	"time"

	"holdfast/broker/journal"
)

// away is what happens to a session while its client is away. Guarded by Server.mu.
type away struct {
	expiry  uint32      // seconds that the session outlives its connection, or forever
	left    time.Time   // when the connection ended; zero if that was in an earlier process
	expires *time.Timer // nil while the client is connected, and for a session that does not expire
	will    *will       // that is published after its delay
	willDue *time.Timer
}

// setExpiry is called with Server.mu held.
func (x *session) setExpiry(seconds uint32) error {
	x.away.expiry = seconds
	if x.reader == nil {
		return nil
	}
	return x.s.journal.Append(journal.Entry{
		Limited: true,
		Changes: []journal.Change{{Key: x.reader.Name(), Value: x.encode()}}, Lazy: true,
	})
}

// scheduleExpiry starts the session's expiry timer. After a restart it starts again, because no clock can
// be trusted to know how long the power was off: a session lives at least as long as it was promised.
// Called with Server.mu held.
func (x *session) scheduleExpiry() {
	if x.away.expiry == forever {
		return
	}
	var t *time.Timer
	t = time.AfterFunc(time.Duration(x.away.expiry)*time.Second, func() {
		x.s.mu.Lock()
		if x.away.expires != t {
			x.s.mu.Unlock()
			return
		}
		will := x.stopTimers()
		x.s.discard(x, reasonSessionExpired)
		x.s.mu.Unlock()
		x.s.counts.expired.Add(1)
		x.s.log.Info("session expired", "client", x.id)
		x.s.publishWill(will)
	})
	x.away.expires = t
}

// delayWill is called with Server.mu held.
func (x *session) delayWill(w *will) {
	var t *time.Timer
	t = time.AfterFunc(time.Duration(w.Delay)*time.Second, func() {
		x.s.mu.Lock()
		due := x.away.willDue == t
		if due {
			x.away.will, x.away.willDue = nil, nil
		}
		x.s.mu.Unlock()
		if due {
			x.s.publishWill(w)
		}
	})
	x.away.will, x.away.willDue = w, t
}

// stopTimers stops the timers and returns the delayed will. Called with Server.mu held.
func (x *session) stopTimers() *will {
	for _, t := range []*time.Timer{x.away.expires, x.away.willDue} {
		if t != nil {
			t.Stop()
		}
	}
	w := x.away.will
	x.away.expires, x.away.willDue, x.away.will = nil, nil, nil
	return w
}
