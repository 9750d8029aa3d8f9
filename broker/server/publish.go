package server

import (
	"errors"
	"sync"
	"time"

	"holdfast/broker"
	"holdfast/broker/journal"
	"holdfast/broker/wire"
)

// PublishOptions go with a message of this process.
type PublishOptions struct {
	Lazy    bool             // may wait for the journal's shared commit
	Changes []journal.Change // become durable with the message, if anybody durable needs it
	Done    func(error)      // told when the message is settled; must not block
}

// Publish publishes a message of this process, which must not be changed any more. It takes the path
// of a client's publish: durable if a durable reader needs it, in order with the caller's others.
func (s *Server) Publish(m *broker.Message, opts PublishOptions) error {
	if err := broker.CheckTopic(m.Topic); err != nil {
		return err
	}
	p := newPublication(s, m)
	p.done, p.lazy, p.changes = opts.Done, opts.Lazy, opts.Changes
	return s.publish(p)
}

// publication is a message on its way through the journal to those who want it.
type publication struct {
	server  *Server
	message *broker.Message
	matches []match
	owed    []journal.Owed
	changes []journal.Change
	lazy    bool
	at      time.Time
	done    func(error)

	// Of a client: whom to acknowledge what.
	conn *conn
	id   uint16
	qos  byte
}

var publications = sync.Pool{New: func() any { return &publication{} }}

func newPublication(s *Server, m *broker.Message) *publication {
	p := publications.Get().(*publication)
	p.server, p.message, p.at = s, m, time.Now()
	return p
}

func (p *publication) release() {
	clear(p.matches)
	clear(p.owed)
	*p = publication{matches: p.matches[:0], owed: p.owed[:0]}
	publications.Put(p)
}

// publish finds who wants the message and, where a durable reader does, has the journal keep it
// first. The error is the journal's, of this process's own messages; p is released in any case.
func (s *Server) publish(p *publication) error {
	m := p.message
	p.matches = s.index.match(m.Topic, p.matches[:0])
	p.owed = p.owed[:0]
	for i := range p.matches {
		t := &p.matches[i]
		if p.conn != nil && t.noLocal && t.session == p.conn.session {
			t.target = nil // [MQTT-3.8.3-3]
			continue
		}
		if qos := min(t.qos, m.QoS); qos > 0 && t.reader != nil {
			p.owed = append(p.owed, journal.Owed{Reader: t.reader, QoS: qos, Retain: m.Retain && t.retainAsPublished})
		}
	}
	e := journal.Entry{Lazy: p.lazy, Done: p}
	if len(p.owed) > 0 || m.Retain || p.qos == 2 && len(p.changes) > 0 {
		e.Message, e.Owed, e.Retained, e.Changes = m, p.owed, m.Retain, p.changes
	}
	return s.append(p, e)
}

// confirm acknowledges a publish that is a repetition, but not before the original.
func (s *Server) confirm(p *publication) error {
	p.matches = p.matches[:0]
	return s.append(p, journal.Entry{Done: p})
}

// append gives the journal what it has to keep. An entry without a message only keeps the
// publisher's order, and is not needed where nothing waits.
func (s *Server) append(p *publication, e journal.Entry) error {
	if e.Message == nil && (p.conn == nil || p.qos == 0 || p.conn.pending.Load() == 0) {
		p.settle(nil)
		return nil
	}
	if p.conn != nil {
		p.conn.pending.Add(1)
	}
	err := s.journal.Append(e)
	if err == nil {
		return nil
	}
	s.counts.refused.Add(1)
	fromClient := p.conn != nil
	if fromClient {
		p.conn.pending.Add(-1)
	}
	p.settle(err)
	if fromClient {
		return nil // it has been answered
	}
	return err
}

// Committed makes publication a journal.Completer.
func (p *publication) Committed(e *journal.Entry, _ uint64, err error) {
	if p.conn != nil {
		p.conn.settled()
	}
	if err != nil {
		p.server.counts.refused.Add(1)
	} else if e.Retained {
		p.server.kept.set(p.message, p.at)
	}
	p.settle(err)
}

// settle offers the message to everybody who does not read the journal, whatever became of it there,
// and acknowledges it if it is kept.
func (p *publication) settle(err error) {
	for i := range p.matches {
		t := &p.matches[i]
		switch qos := min(t.qos, p.message.QoS); {
		case t.target == nil, qos > 0 && t.reader != nil:
		case t.deliver != nil:
			t.deliver(p.message)
		default:
			t.session.offer(outgoing{
				message: p.message, qos: qos, retain: p.message.Retain && t.retainAsPublished, ids: t.ids, at: p.at,
			})
		}
	}
	if p.conn != nil && p.qos > 0 {
		p.conn.acknowledge(p.id, p.qos, refusal(err))
	}
	if p.done != nil {
		p.done(err)
	}
	p.release()
}

// refusal is the reason code for a journal's error.
func refusal(err error) wire.Code {
	switch {
	case err == nil:
		return wire.Success
	case errors.Is(err, journal.ErrFull):
		return wire.QuotaExceeded
	case errors.Is(err, journal.ErrTooLarge):
		return wire.QuotaExceeded
	default:
		return wire.Unspecified
	}
}
