package bridge

import (
	"context"
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

	aliases map[string]uint16
	next    wire.Publish // prepared
	seq     uint64       // of its message
	props   []byte       // memory for properties

	began   time.Time
	probing context.CancelFunc // ends the search for a better connection
	probed  chan struct{}      // closed when it has ended
	found   chan *link
	better  *link // to the first upstream, instead of this one
	leaving bool

	presence presence
	silent   time.Duration // until Tend has something to do

	pinged    bool
	pingAgain bool      // when this ping is answered: something was sent behind it that an answer is wanted for
	pingEnd   uint64    // bytes that have to be written for the ping to be
	pingAt    time.Time // when they were

	// Of what comes in.
	host        string
	subID       uint16    // of SUBSCRIBE
	asked       time.Time // when it was sent, or something came after that; zero if it is answered
	askAgain    time.Time // when a refused subscription is tried again; zero for not
	refusals    int
	unconfirmed []receiptSent // acknowledged; the upstream may not have it yet
	confirmed   []receiptSent // of them, those before the ping that is not answered yet
	resent      bool          // what earlier connections have acknowledged would have come again by now
	failed      bool          // a message could not be stored
	failedAt    time.Time
	failure     error
	refresh     refresh
	fence       fence // the last ping
	owed        int   // messages that came at QoS 1 and are not acknowledged
	peak        int   // the most that were

	counts Stats // not yet in the bridge's
}

// Begin subscribes, publishes that the gateway is online, and looks for the first upstream if this is another one.
func (s *connection) Begin(f *outbox.Flow) {
	s.f, s.began = f, f.Began()
	s.found, s.probed = make(chan *link, 1), make(chan struct{})
	var probing context.Context
	probing, s.probing = context.WithCancel(context.Background())
	elsewhere := s.b.at > 0
	go func() {
		defer close(s.probed)
		if elsewhere {
			s.b.probe(probing, s.found)
		}
	}()
	s.b.ids.begin(s.b.in != nil && s.l.limits.present)
	if s.b.in != nil {
		s.subscribe(s.b.target.Host)
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
	return s.l.limits.receive, s.l.waiting() >= unsent
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
	if !s.asked.IsZero() {
		left := subackTimeout - now.Sub(s.asked)
		if left <= 0 {
			return 0, errors.New("upstream does not answer a subscription")
		}
		wake = min(wake, left)
	}
	if s.failed {
		left := redelivery - now.Sub(s.failedAt)
		if left <= 0 {
			return 0, fmt.Errorf("a message from the upstream could not be stored: %w", s.failure)
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
		drained = s.l.drained
	}
	live, found := s.b.live, s.found
	if u.Quiet {
		live = nil
	}
	if u.Leave {
		found = nil
	}
	select {
	case <-u.Stop:
	case s.better = <-found:
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
	return s.l.written.Load(), s.l.wroteAt()
}

// Probe pings, once more if a ping is on its way that may have left before.
func (s *connection) Probe() {
	if s.pinged {
		s.pingAgain = s.l.put > s.pingEnd
		return
	}
	s.ping()
}

// Lossy reports whether the kernel sends much again.
func (s *connection) Lossy() bool { return s.l.lossy() }

// take handles a batch that has arrived.
func (s *connection) take(b *batch) {
	s.acked(b.acks)
	for _, p := range b.packets {
		switch p := p.(type) {
		case *wire.Ping:
			s.pinged = false
			s.f.Probed(s.pingEnd)
			if s.b.in != nil {
				s.fenced()
				s.confirmReceipts(true)
			}
			if s.pingAgain && !s.pinged {
				s.ping()
			}
			s.pingAgain = false
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
	s.probing()
	<-s.probed
	if s.better == nil {
		select {
		case s.better = <-s.found:
		default:
		}
	}
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
