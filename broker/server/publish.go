package server

import (
	"errors"
	"time"

	"holdfast/broker"
	"holdfast/broker/journal"
	"holdfast/broker/server/limits"
	"holdfast/broker/wire"
)

// PublishOptions modify the publish of a message by this process.
type PublishOptions struct {
	Lazy    bool             // may wait for the journal's shared commit
	Changes []journal.Change // become durable with the message, if it has a durable reader
	Done    func(error)      // called with the outcome, but not after ErrReplaced; must not block
	From    *journal.Reader  // the reader that the message came from, whose route does not get it
	Here    bool             // no route gets it
	// AtOnce delivers to subscribers that do not read the journal before the message is on disk. All messages of a topic
	// have it, or none: else one may pass another.
	AtOnce bool
	Client bool // published on behalf of a client: it may not use the space reserved for this process
	always bool // Changes become durable in any case
	// Instead, with a retained message, publishes only if this is the topic's retained message, as Retained
	// returned it, and no newer one is pending. Otherwise Publish does nothing and returns ErrReplaced.
	Instead *broker.Message
}

// ErrReplaced is the error of Publish if the topic's retained message is not PublishOptions.Instead.
var ErrReplaced = errors.New("server: another message is retained")

// Publish publishes a message of this process, which the caller must not change afterwards. Like a client's
// publish it is durable if it has a durable reader, and it keeps the order of the caller's publishes.
func (s *Server) Publish(m *broker.Message, opts PublishOptions) error {
	if err := broker.CheckTopic(m.Topic); err != nil {
		return err
	}
	p := newPublication(s, m, time.Now())
	p.own = opts.From == nil && !opts.Client
	p.opts = opts
	return s.publish(p, s.index.Named(m.Topic), nil)
}

// publish appends the message to the journal if it has a durable reader, and then delivers it. It returns the
// journal's error for messages of this process only. It always releases p.
func (s *Server) publish(p *publication, t *topic, d *scratch) error {
	p.audience.find(t)
	m := p.message
	p.owed = p.owed[:0]
	for i := range p.audience.matches {
		got := &p.audience.matches[i]
		t := got.Target
		if t.reader == nil || p.skips(got) {
			continue
		}
		if qos := min(got.QoS, m.QoS); qos > 0 {
			if t.session != nil && !t.session.mayRead(m.Topic) {
				s.counts.dropped.unread.Add(1)
				continue
			}
			reader := t.reader
			if pick := t.pick.Load(); pick != nil {
				reader = (*pick)(m.Topic, p.own)
			}
			p.owed = append(p.owed, journal.Owed{Reader: reader, QoS: qos, Retain: m.Retain && got.RetainAsPublished})
		}
	}
	retain := m.Retain && s.mayRetain(p)
	e := journal.Entry{Lazy: p.opts.Lazy, Done: p, Limited: p.client.conn != nil}
	if len(p.owed) > 0 || retain || p.client.qos == 2 && len(p.opts.Changes) > 0 {
		e.Message, e.Owed, e.Retained, e.Changes = m, p.owed, retain, p.opts.Changes
		if p.client.conn != nil && p.client.qos > 0 {
			e.From = p.client.conn.peer.publisher
			if p.refused = s.beyondShare(p); p.refused != nil {
				e = journal.Entry{Done: p}
			}
		}
	} else if p.opts.always && len(p.opts.Changes) > 0 {
		if err := s.journal.Append(journal.Entry{Changes: p.opts.Changes}); err != nil {
			s.log.Error("a will that was published is still in the journal", "topic", m.Topic, "error", err)
		}
	}
	if p.opts.AtOnce && e.Message != nil && !retain { // a retained one is stored at once, too: see appendRetained
		p.handOut(d)
		p.handedOut = true
	}
	return s.append(p, e, d)
}

// errShare refuses a publish at the publisher's share of the journal.
var errShare = errors.New("the publisher's messages take too much of a journal that is filling up: see broker.limits.backlog")

// beyondShare refuses a client's message where space in the journal is short and the client's messages, or those of
// its user, take more of it than MaxBacklog, or a quarter: one publisher must not push out those of all others.
func (s *Server) beyondShare(p *publication) error {
	if s.opts.MaxBacklog <= 0 {
		return nil
	}
	share := min(s.opts.MaxBacklog, s.journal.MaxSize()/4)
	held := s.journal.Held(p.client.conn.peer.publisher)
	if held <= share {
		return nil
	}
	s.counts.dropped.refused.Add(1)
	s.limits.Reached(limits.Backlog, "publish refused: space in the journal is short, and the publisher's messages take more than its share",
		"client", p.client.conn.session.id, "user", p.client.conn.user(), "topic", p.audience.topic.Name, "bytes", held, "share", share)
	return errShare
}

// stateRefused reports whether err is the journal's refusal of more state, which it counts and logs.
func (s *Server) stateRefused(err error, client, what string) bool {
	if !errors.Is(err, journal.ErrState) && !errors.Is(err, journal.ErrTooLarge) {
		return false
	}
	s.limits.Reached(limits.State, what+": the state of clients has its share of the journal; end sessions that are not needed, or raise max_size", "client", client)
	return true
}

// confirm acknowledges a publish that is a repetition, but not before the original.
func (s *Server) confirm(p *publication, d *scratch) error {
	return s.append(p, journal.Entry{Done: p}, d)
}

// append appends an entry to the journal. An entry without a message only keeps the
// publisher's order, and is skipped if no earlier publish is pending.
func (s *Server) append(p *publication, e journal.Entry, d *scratch) error {
	if e.Message == nil && !p.behind && (p.client.conn == nil || p.client.qos == 0 || p.client.conn.window.pending.Load() == 0) {
		p.settle(nil, d)
		p.release()
		return nil
	}
	if p.client.conn != nil {
		p.client.conn.window.pending.Add(1)
		if len(d.dirty) > 0 {
			d.finish(s) // Append may wait for the disk
		}
	}
	var err error
	if e.Retained {
		var handedOut bool
		if err, handedOut = s.appendRetained(p, e); handedOut {
			p.settle(nil, d)
			p.release()
			return nil
		}
	} else {
		err = s.journal.Append(e)
	}
	if err == nil {
		return nil
	}
	if err == ErrReplaced {
		p.release()
		return err
	}
	s.counts.dropped.refused.Add(1)
	fromClient := p.client.conn != nil
	if errors.Is(err, journal.ErrState) {
		s.stateRefused(err, p.client.conn.session.id, "QoS 2 publish is refused")
	}
	if fromClient {
		p.client.conn.window.pending.Add(-1)
	}
	p.settle(err, d)
	p.release()
	if fromClient {
		return nil // it has been answered
	}
	return err
}

// Committed makes publication a journal.Completer.
func (p *publication) Committed(e *journal.Entry, _ uint64, err error) {
	if err != nil {
		p.server.counts.dropped.refused.Add(1)
	} else if e.Retained && !p.retention.stored {
		p.server.retain(p)
	}
	if e.Retained {
		p.server.retained.End(p.audience.topic.Name)
	}
	p.settle(err, nil)
	if p.client.conn != nil {
		p.client.conn.settled() // its next message, which may not need the journal, finds this one handed out
	}
	p.release()
}

// handOut offers the message to the subscribers that were found when it came.
func (p *publication) handOut(d *scratch) {
	for i := range p.audience.matches {
		p.offer(&p.audience.matches[i], false, d)
	}
}

// settle offers the message to the subscribers that do not read the journal, whether or not it is on disk,
// and answers the publisher: an acknowledgement, or a refusal with err.
func (p *publication) settle(err error, d *scratch) {
	if !p.silent && !p.apart && !p.handedOut && p.refresh() {
		p.handOut(d)
		for i := range p.audience.late {
			p.offer(&p.audience.late[i], true, d)
		}
	}
	switch {
	case p.client.denied:
		err = errDenied
	case p.refused != nil:
		err = p.refused
	}
	if p.client.conn != nil && p.client.qos > 0 {
		p.client.conn.acknowledge(p.client.id, p.client.qos, err, d)
	}
	if p.opts.Done != nil {
		p.opts.Done(err)
	}
}

// refusal returns the reason code for a journal's error.
func refusal(err error) wire.Code {
	switch {
	case err == errDenied:
		return wire.NotAuthorized
	case err == errShare, errors.Is(err, journal.ErrFull), errors.Is(err, journal.ErrTooLarge), errors.Is(err, journal.ErrState):
		return wire.QuotaExceeded
	default:
		return wire.Unspecified
	}
}
