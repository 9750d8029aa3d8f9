package bridge

import (
	"context"
	"errors"
	"fmt"
	"time"

	"holdfast/broker/journal"
	"holdfast/broker/wire"
)

const (
	flightBytes = 1 << 20          // of messages in flight, beside the window; one message may exceed it
	liveBytes   = 256 << 10        // that wait for a slow link; QoS 0 messages beyond are dropped
	maxAliases  = 64               // topics that an upstream is told an alias for
	maxTries    = 5                // of a message for which the upstream gives no reason that says more
	turn        = 256              // messages that are sent before the upstream is listened to again
	pingTimeout = 20 * time.Second // a slow link has to carry what is before the ping
	drain       = 2 * time.Second  // for acknowledgements at the end
	goodbye     = 250 * time.Millisecond
)

// session is one connection. Everything happens in the goroutine of run.
type session struct {
	b *Bridge
	l *link

	flight  []sent             // oldest first
	bytes   int                // of messages in flight
	since   time.Time          // when the oldest in flight was sent, or became the oldest
	again   []journal.Delivery // to be sent again before others, at pause
	pause   time.Time          // nothing of the journal is sent before; zero for no pause
	delay   backoff            // of pauses
	aliases map[string]uint16

	sample   uint16 // identifier of the message whose round trip is measured; 0 if there is none
	sampleAt time.Time
	full     bool // the window was full since

	began  time.Time
	better *link  // to the first upstream, instead of this one
	oldest uint64 // in flight when the connection ended; 0 if nothing was
	alone  bool   // one message at a time, because of a suspect
	proved bool   // the upstream has answered a ping since the last one

	pinged  bool
	pingEnd uint64    // bytes that have to be written for the ping to be
	pingAt  time.Time // when they were

	// Of what comes in.
	host     string
	subID    uint16   // of SUBSCRIBE
	unproven []uint16 // acknowledged; the upstream may not know
	proving  []uint16 // of them, those before the ping that is not answered yet
	failed   bool     // a message could not be stored
	failedAt time.Time
	failure  error

	props        []byte // memory for properties
	acknowledged bool
	unreadable   bool      // the journal, at the last attempt
	readAt       time.Time // the next attempt, BackoffMin later, if unreadable
	counts       Stats     // not yet in the bridge's
}

// sent is a message in flight.
type sent struct {
	d    journal.Delivery
	size int
	end  uint64 // bytes that have to be written for it to be
	id   uint16 // 0 at QoS 0
	done bool
	ack  ack
}

// run sends until the connection or ctx ends, and returns why.
func (s *session) run(ctx context.Context, host string, found <-chan *link) error {
	feed := s.b.feed
	if err := feed.attach(uint64(s.b.opts.Window)); err != nil {
		return err
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	always := make(chan struct{})
	close(always)
	s.alone = s.b.suspect.alone()
	in := s.b.in
	var stored <-chan struct{}
	if in != nil {
		s.subscribe(host)
		stored = in.ready
	}
	for {
		s.settle()
		if ctx.Err() != nil { // an acknowledgement may have come at the same time: it makes no room any more
			return s.finish()
		}
		more := s.fill()
		if in != nil {
			s.stored()
			s.prove(false)
		}
		s.l.flush()
		s.report()

		var ready, drained <-chan struct{}
		live := s.b.live
		now := time.Now()
		wake, alive := s.keepAlive(now)
		if !alive {
			return errors.New("upstream does not answer pings")
		}
		switch {
		case more:
			ready = always
		case s.l.waiting() >= unsent:
			drained = s.l.drained
		case !s.room():
		case s.pause.After(now):
			wake = min(wake, s.pause.Sub(now))
		case s.unreadable:
			wake = min(wake, s.readAt.Sub(now))
		default:
			ready = feed.ready
		}
		if wait := feed.rate.wait(); wait > 0 {
			wake, live = min(wake, wait), nil
		} else if wait := feed.lateRate.wait(); wait > 0 {
			wake = min(wake, wait)
		}
		if len(s.flight) > 0 {
			left := s.overdue(now)
			if left <= 0 {
				return fmt.Errorf("no acknowledgement for %v", s.b.opts.AckTimeout)
			}
			wake = min(wake, left)
			if s.flight[0].id == 0 { // acknowledged by being written
				drained = s.l.drained
			}
		}
		if s.failed {
			left := redelivery - now.Sub(s.failedAt)
			if left <= 0 {
				return fmt.Errorf("a message from the upstream could not be stored: %w", s.failure)
			}
			wake = min(wake, left)
		}
		if !more {
			timer.Reset(wake)
			s.b.opts.Progress(false)
		}
		select {
		case <-ctx.Done():
			return s.finish()
		case s.better = <-found:
			return s.finish()
		case <-s.l.ended:
			return s.l.err
		case batch := <-s.l.arrived:
			s.take(batch)
			s.l.release(batch)
		case m := <-live:
			s.sendLive(m)
		case <-stored:
		case <-ready:
		case <-drained:
		case <-timer.C:
		}
		s.b.opts.Progress(true)
	}
}

// keepAlive pings where there is nothing else to say or to hear, and returns for how long nothing has
// to be done about that; alive is false if the link is dead.
func (s *session) keepAlive(now time.Time) (wait time.Duration, alive bool) {
	heard := time.Unix(0, s.l.heard.Load())
	if s.pinged {
		if s.l.written.Load() < s.pingEnd { // the writer has a deadline of its own
			return pingTimeout, true
		}
		if s.pingAt.IsZero() {
			s.pingAt = time.Unix(0, s.l.wrote.Load())
		}
		wait = pingTimeout - min(now.Sub(s.pingAt), now.Sub(heard))
		return wait, wait > 0
	}
	every := s.l.limits.keepAlive
	if every == 0 {
		every = s.b.opts.KeepAlive // the upstream asks for none; the link may be dead all the same
	}
	quiet := max(now.Sub(heard), now.Sub(time.Unix(0, s.l.wrote.Load())))
	if quiet < every {
		return every - quiet, true
	}
	s.ping()
	s.l.flush()
	return pingTimeout, true
}

func (s *session) ping() {
	s.pinged, s.pingAt, s.pingEnd = true, time.Time{}, s.l.send(&wire.Ping{Type: wire.PINGREQ})
}

// overdue returns how long the oldest message in flight may still take. Time until it was written does
// not count: the writer has its own deadline.
func (s *session) overdue(now time.Time) time.Duration {
	since := s.since
	if wrote := time.Unix(0, s.l.wrote.Load()); s.l.written.Load() < s.flight[0].end && wrote.After(since) {
		s.since, since = wrote, wrote
	}
	return since.Add(s.b.opts.AckTimeout).Sub(now)
}

func (s *session) room() bool {
	if s.alone {
		if len(s.flight) == 0 && !s.proved && !s.pinged {
			s.ping()
		}
		return len(s.flight) == 0 && s.proved
	}
	return len(s.flight) < s.window() && s.bytes < flightBytes
}

func (s *session) window() int { return s.b.window.now(s.l.limits.receive) }

// fill sends as much as there is room for. more says that it has stopped before.
func (s *session) fill() (more bool) {
	for range turn {
		if !s.room() {
			s.full = true
			return false
		}
		if s.l.waiting() >= unsent || !s.pause.IsZero() && s.pause.After(time.Now()) {
			return false
		}
		d, ok := s.next()
		if !ok {
			return false
		}
		s.forward(d)
	}
	return true
}

// next returns the next message of the journal.
func (s *session) next() (d journal.Delivery, ok bool) {
	if len(s.again) > 0 {
		if len(s.flight) > 0 {
			return d, false // so that they keep their order
		}
		d, s.again = s.again[0], s.again[1:]
		return d, true
	}
	if s.unreadable && time.Now().Before(s.readAt) {
		return d, false
	}
	d, ok, err := s.b.feed.next(s.window(), flightBytes)
	if err != nil {
		if !s.unreadable {
			s.b.log.Error("journal cannot be read; trying again", "every", s.b.opts.BackoffMin, "error", err)
		}
		s.unreadable, s.readAt = true, time.Now().Add(s.b.opts.BackoffMin)
		return d, false
	}
	if s.unreadable {
		s.b.log.Info("journal can be read again")
		s.unreadable = false
	}
	return d, ok
}
