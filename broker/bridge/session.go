package bridge

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"holdfast/broker/journal"
	"holdfast/broker/wire"
)

const (
	drain   = 2 * time.Second // for acknowledgements at the end
	goodbye = 250 * time.Millisecond
	forever = math.MaxInt64
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
	better *link // to the first upstream, instead of this one

	// See poison.
	held      []held // oldest first
	heldBytes int
	trial     *trial  // in flight; nil for none
	loose     []loose // written at QoS 0, and not known to be taken
	proved    bool    // the upstream has answered since the last trial was sent
	ponged    bool    // it has answered a ping by this connection
	answers   int     // of the upstream by this connection

	presence presence

	pinged  bool
	pingEnd uint64    // bytes that have to be written for the ping to be
	pingAt  time.Time // when they were

	// Of what comes in.
	host     string
	subID    uint16    // of SUBSCRIBE
	asked    time.Time // when it was sent, or something came after that; zero if it is answered
	askAgain time.Time // when a refused subscription is tried again; zero for not
	refusals int
	unproven []proof // acknowledged; the upstream may not know
	proving  []proof // of them, those before the ping that is not answered yet
	resent   bool    // what earlier connections have acknowledged would have come again by now
	failed   bool    // a message could not be stored
	failedAt time.Time
	failure  error
	refresh  refresh
	fence    fence // the last ping
	owed     int   // messages that came at QoS 1 and are not acknowledged
	peak     int   // the most that were

	props        []byte // memory for properties
	acknowledged bool
	unreadable   bool      // the journal, at the last attempt
	readAt       time.Time // the next attempt, BackoffMin later, if unreadable
	counts       Stats     // not yet in the bridge's
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
	in := s.b.in
	s.b.ids.begin(in != nil && s.l.limits.present)
	s.proved = true // by CONNACK
	var stored <-chan struct{}
	if in != nil {
		s.subscribe(host)
		stored = in.ready
	}
	if s.l.willed {
		s.greet(time.Now())
	}
	for {
		s.settle()
		if ctx.Err() != nil { // an acknowledgement may have come at the same time: it makes no room any more
			return s.finish()
		}
		silent := min(s.repeat(time.Now()), s.resubscribe(time.Now()), s.reconcile(time.Now()))
		why, at := s.fill()
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
		wake = min(wake, silent)
		switch why {
		case itsTurnIsOver:
			ready = always
		case linkIsFull:
			drained = s.l.drained
		case nothingWaits:
			ready = feed.ready
		}
		if !at.IsZero() {
			wake = min(wake, at.Sub(now))
		}
		if wait := feed.rate.wait(); wait > 0 {
			wake, live = min(wake, wait), nil
		}
		if len(s.flight) > 0 {
			left := s.overdue(&s.since, s.flight[0].end, now)
			if left <= 0 {
				return fmt.Errorf("no acknowledgement for %v", s.b.opts.AckTimeout)
			}
			wake = min(wake, left)
			if s.flight[0].id == 0 { // acknowledged by being written
				drained = s.l.drained
			}
		}
		if p := &s.presence; p.id != 0 {
			left := s.overdue(&p.since, p.end, now)
			if left <= 0 {
				return fmt.Errorf("no acknowledgement for the status for %v", s.b.opts.AckTimeout)
			}
			wake = min(wake, left)
		}
		if !s.asked.IsZero() {
			left := subackTimeout - now.Sub(s.asked)
			if left <= 0 {
				return errors.New("upstream does not answer a subscription")
			}
			wake = min(wake, left)
		}
		if s.failed {
			left := redelivery - now.Sub(s.failedAt)
			if left <= 0 {
				return fmt.Errorf("a message from the upstream could not be stored: %w", s.failure)
			}
			wake = min(wake, left)
		}
		if why != itsTurnIsOver {
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

// take deals with what has arrived.
func (s *session) take(b *batch) {
	s.acked(b.acks)
	for _, p := range b.packets {
		switch p := p.(type) {
		case *wire.Ping:
			s.pinged, s.ponged = false, true
			s.alive(s.pingEnd, time.Now())
			if s.b.in != nil {
				s.fenced()
				s.prove(true)
			}
		case *wire.Publish:
			s.receive(p)
		case oversized:
			s.b.refused(p.Topic, fmt.Sprintf("from the upstream: packet too large: more than %d bytes", maxReceive))
			if s.b.in != nil {
				s.confirm(&arrival{kept: true}, p.ID)
			}
		case *wire.Suback:
			s.subscribed(p)
			s.confirming(p)
		}
	}
}

// finish sends what Deliver has queued, waits for what is in flight and takes leave.
func (s *session) finish() error {
	ctx, cancel := context.WithTimeout(context.Background(), drain)
	defer cancel()
	for range len(s.b.live) { // and no more, however fast others come
		s.sendLive(<-s.b.live)
	}
	for {
		s.settle()
		if s.b.in != nil {
			s.stored()
		}
		s.l.flush()
		if len(s.flight) == 0 && s.leave() {
			return nil
		}
		select {
		case batch := <-s.l.arrived:
			s.take(batch)
			s.l.release(batch)
		case <-s.l.drained:
		case <-s.l.ended:
			return s.l.err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// end closes the connection. Acknowledgements that came before it, in whatever order, are kept; the
// rest waits on disk.
func (s *session) end() {
	end := s.l.put
	if p := s.farewell(); p != nil {
		end = s.l.send(p)
	}
	s.l.flush()
	late := time.After(goodbye)
	for s.l.written.Load() < end {
		select {
		case <-s.l.drained:
			continue
		case <-s.l.ended:
		case <-late:
		}
		break
	}
	s.l.discard(func(b *batch) { s.acked(b.acks) })
	left := s.flight[:0]
	for i := range s.flight {
		if m := s.flight[i]; m.done {
			s.answered(&m)
		} else {
			left = append(left, m)
		}
	}
	s.flight = left // in doubt
	s.b.feed.detach()
	s.report()
}

// report adds what has happened to the bridge's figures.
func (s *session) report() {
	c := &s.counts
	c.InFlight = len(s.flight)
	s.b.count(func(st *Stats) {
		st.Sent += c.Sent
		st.Resent += c.Resent
		st.Acknowledged += c.Acknowledged
		st.QoS0Sent += c.QoS0Sent
		st.QoS0Dropped += c.QoS0Dropped
		st.Expired += c.Expired
		st.Received += c.Received
		st.Duplicates += c.Duplicates
		st.Looped += c.Looped
		st.InFlight = c.InFlight
		if c.LastError != "" {
			st.LastError = c.LastError
		}
	})
	*c = Stats{}
}
