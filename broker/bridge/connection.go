package bridge

import (
	"errors"
	"fmt"
	"time"

	"holdfast/broker/outbox"
	"holdfast/broker/wire"
)

const goodbye = 250 * time.Millisecond // for the last packets to be written

// connection is one connection, in both directions. It is the outbox's Conn, and belongs to the outbox's goroutine.
type connection struct {
	b *Bridge
	l *link
	f *outbox.Flow

	began   time.Time
	leaving bool
	silent  time.Duration // until Tend has something to do

	packet   packet   // that is sent next
	presence presence // of the gateway, upstream
	pings    pings
	search   search // for a better connection

	// Of what comes in.
	sub      granted
	receipts receipts
	failure  failure
	refresh  refresh // of what is retained

	counts Stats // not yet in the bridge's
}

// Begin subscribes, publishes that the gateway is online, and looks for the first upstream if this is another one.
func (s *connection) Begin(f *outbox.Flow) {
	s.f, s.began = f, f.Began()
	s.search.begin(s.b)
	s.b.ids.begin(s.b.in != nil && s.l.limits.present)
	if s.b.in != nil {
		host := s.b.upstreams.target.Host
		s.b.in.backlog.begin(host, s.l.limits.present, time.Now())
		s.subscribe(host)
	}
	if s.l.willed {
		s.greet(f.Began())
	}
}

// Tend repeats presence, refused subscriptions and the search for retained messages when they are due.
func (s *connection) Tend(now time.Time) {
	s.silent = min(s.repeat(now), s.resubscribe(now), s.reconcile(now))
}

// Room returns the receive maximum, and nothing until the upstream has acknowledged the status.
func (s *connection) Room() (messages int, full bool) {
	if s.presence.id != 0 {
		return 0, false
	}
	return s.l.limits.receive, s.l.out.unwritten() >= unsent
}

// Flush writes what was queued.
func (s *connection) Flush(now time.Time) (quiet time.Duration, err error) {
	if s.b.in != nil {
		s.stored()
		if !s.leaving {
			s.confirmReceipts(false)
		}
	}
	s.l.flush()
	s.report()
	if s.leaving {
		return outbox.Forever, nil
	}
	wake, alive := s.keepAlive(now)
	if !alive {
		return 0, errors.New("upstream does not answer pings")
	}
	wake = min(wake, s.silent)
	if p := &s.presence; p.id != 0 {
		left := s.overdue(&p.since, p.end, now)
		if left <= 0 {
			return 0, fmt.Errorf("no acknowledgement for the status for %v", s.b.opts.AckTimeout)
		}
		wake = min(wake, left)
	}
	if !s.sub.asked.IsZero() {
		left := subackTimeout - now.Sub(s.sub.asked)
		if left <= 0 {
			return 0, errors.New("upstream does not answer a subscription")
		}
		wake = min(wake, left)
	}
	if s.failure.err != nil {
		left := redelivery - now.Sub(s.failure.at)
		if left <= 0 {
			return 0, fmt.Errorf("a message from the upstream could not be stored: %w", s.failure.err)
		}
		wake = min(wake, left)
	}
	return wake, nil
}

// overdue returns how long the acknowledgement of what was sent at since, and ends at end, may still take.
// Time until it was written does not count: the writer has its own deadline.
func (s *connection) overdue(since *time.Time, end uint64, now time.Time) time.Duration {
	if written, at := s.Written(); written < end && at.After(*since) {
		*since = at
	}
	return since.Add(s.b.opts.AckTimeout).Sub(now)
}

// Wait waits for the next event and handles it.
func (s *connection) Wait(u *outbox.Until) error {
	var stored, drained <-chan struct{}
	if s.b.in != nil {
		stored = s.b.in.ready
	}
	if u.Room {
		drained = s.l.out.drained
	}
	live, found := s.b.live, s.search.found
	if u.Quiet {
		live = nil
	}
	if u.Leave {
		found = nil
	}
	select {
	case <-u.Stop:
	case s.search.better = <-found:
		return outbox.ErrHandover
	case <-s.l.ended:
		return s.l.err
	case batch := <-s.l.arrived:
		s.take(batch)
		s.l.release(batch)
	case m := <-live:
		s.sendLive(m)
	case <-stored:
	case <-u.More:
	case <-drained:
	case <-u.Clock:
	}
	return nil
}

// Written returns how many bytes the kernel has taken, and when the last ones.
func (s *connection) Written() (end uint64, at time.Time) {
	return s.l.out.written.Load(), s.l.wroteAt()
}

// Probe pings, once more if a ping is on its way that may have left before.
func (s *connection) Probe() {
	if s.pings.sent {
		s.pings.again = s.l.out.put > s.pings.end
		return
	}
	s.ping()
}

// Lossy reports whether the kernel sends much again.
func (s *connection) Lossy() bool { return s.l.tcp.lossy() }

// take handles a batch that has arrived.
func (s *connection) take(b *batch) {
	s.acked(b.acks)
	for _, p := range b.packets {
		switch p := p.(type) {
		case *wire.Ping:
			s.pings.sent = false
			s.f.Probed(s.pings.end)
			if s.b.in != nil {
				s.fenced()
				s.confirmReceipts(true)
			}
			if s.pings.again && !s.pings.sent {
				s.ping()
			}
			s.pings.again = false
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

// acked reports PUBACKs.
func (s *connection) acked(acks []ack) {
	for i := range acks {
		a := &acks[i]
		if a.id == s.presence.id {
			s.presence.heard(*a)
			continue
		}
		if a.code < wire.Unspecified {
			s.f.Acknowledged(uint64(a.id))
			continue
		}
		reason := "upstream says: " + a.code.String()
		if a.text != "" {
			reason += fmt.Sprintf(" (%.200q)", a.text)
		}
		s.f.Answered(uint64(a.id), answerOf(a.code), reason)
	}
}

// Leave sends what Deliver has queued and, when nothing is in flight any more, publishes that the gateway is offline.
func (s *connection) Leave(now time.Time, idle bool) (done bool) {
	if !s.leaving {
		s.leaving = true
		for range len(s.b.live) { // and no more, however fast others come
			s.sendLive(<-s.b.live)
		}
	}
	return idle && s.leave(now)
}

// Close sends the last packet and closes the connection. Acknowledgements that came before it are reported.
func (s *connection) Close() {
	s.search.end()
	end := s.l.out.put
	if p := s.farewell(); p != nil {
		end = s.l.send(p)
	}
	s.l.flush()
	late := time.After(goodbye)
	for s.l.out.written.Load() < end {
		select {
		case <-s.l.out.drained:
			continue
		case <-s.l.ended:
		case <-late:
		}
		break
	}
	s.l.discard(func(b *batch) { s.acked(b.acks) })
	s.report()
	s.b.disconnected()
}

// report adds the connection's counts to the bridge's figures.
func (s *connection) report() {
	if s.counts == (Stats{}) {
		return
	}
	c := &s.counts
	s.b.mu.Lock()
	st := &s.b.stats
	st.QoS0Sent += c.QoS0Sent
	st.QoS0Dropped += c.QoS0Dropped
	st.Received += c.Received
	st.Duplicates += c.Duplicates
	st.Looped += c.Looped
	s.b.mu.Unlock()
	if c.LastError != "" {
		s.b.box.NoteError(c.LastError)
	}
	*c = Stats{}
}
