package server

import (
	"errors"
	"math"
	"slices"
	"time"

	"holdfast/broker"
	"holdfast/broker/journal"
	"holdfast/broker/server/limits"
	"holdfast/broker/server/retained"
)

// retain stores the message of p, and adds the clients that subscribed while it was on its way to disk to its
// subscribers. A later subscriber finds it stored: each subscription gets it either live or as retained, once.
func (s *Server) retain(p *publication) {
	at := s.journal.Now()
	at.Boot -= time.Since(p.at) // since it came
	before := p.audience.topic
	var now *topic
	stored := s.retained.Put(before.Name, p.retention.taken, p.retention.promised, func() retained.Entry {
		now = s.index.Named(before.Name)
		return retained.Entry{Message: p.message, At: at, Version: now.Version, Matched: before.Version, Own: p.own, From: p.opts.From}
	})
	p.retention.promised = retained.Load{}
	if stored && now.Version != before.Version && !p.silent {
		p.audience.addLate(now)
	}
}

// appendRetained appends a retained message to the journal. One of QoS 0, for which the publisher gets no answer that
// could wait for the disk, is stored at once: a client that subscribes after the server has received it, as a PINGRESP or
// any other answer shows, finds it, or finds the one gone that it deletes [MQTT-3.3.1-8]. It is also delivered at
// once, unless messages of the same client are on their way to disk, whose order it keeps. So is one with AtOnce.
func (s *Server) appendRetained(p *publication, e journal.Entry) (err error, handOut bool) {
	topic := e.Message.Topic
	lane := s.retained.Lane(topic)
	lane.Lock()
	defer lane.Unlock()
	if p.opts.Instead != nil {
		if k, onTheirWay := s.retained.Latest(topic); k.Message != p.opts.Instead || onTheirWay {
			return ErrReplaced, false
		}
	}
	p.retention.taken = s.retained.Begin(topic)
	now := e.Message.QoS == 0 || p.opts.AtOnce
	if now && (p.client.conn == nil || p.client.conn.window.pending.Load() == 1) { // its own
		e.Done, handOut = &storedAtOnce{s, topic, p.client.conn, p.opts.Done}, true
		e.Owed = slices.Clone(e.Owed) // p is released before the journal has written it
	}
	// Before Append, after which p is the completer's. Meanwhile only publishes that have passed can store the topic.
	if now {
		s.retain(p)
		p.retention.stored = true
	}
	if err = s.journal.Append(e); err != nil {
		s.retained.End(topic)
		if now {
			s.unretain(topic)
		}
		return err, false
	}
	if handOut {
		p.opts.Done = nil
	}
	return nil, handOut
}

// storedAtOnce finishes the publish of a retained message of QoS 0 when it is on disk.
type storedAtOnce struct {
	s     *Server
	topic string
	conn  *conn
	done  func(error)
}

func (r *storedAtOnce) Committed(_ *journal.Entry, _ uint64, err error) {
	if err != nil {
		r.s.counts.dropped.refused.Add(1)
	}
	r.s.retained.End(r.topic)
	if r.conn != nil {
		r.conn.settled()
	}
	if r.done != nil {
		r.done(err)
	}
}

// unretain removes the retained message of a topic because the journal refused a newer one: the older is not true any
// more, and the newer would be lost at a restart. Called with the topic's lane held.
func (s *Server) unretain(topic string) {
	gone := &broker.Message{Topic: topic, Retain: true}
	s.counts.dropped.notRetained.Add(1)
	s.retained.Set(retained.Entry{Message: gone})
	if err := s.journal.Append(journal.Entry{Message: gone, Retained: true, Lazy: true}); err != nil && !errors.Is(err, journal.ErrClosed) {
		s.log.Error("a retained message that is not true any more is still on disk", "topic", topic, "error", err)
	}
}

// mayRetain reports whether the limits leave room for a retained message. If not, it is still delivered, and
// mayRetain deletes the topic's retained message: a state that is not true any more is never served.
func (s *Server) mayRetain(p *publication) bool {
	m := p.message
	if len(m.Payload) == 0 {
		return true
	}
	fits, had, promised := s.retained.Fits(m, p.own)
	p.retention.promised = promised
	if fits {
		return true
	}
	s.counts.dropped.notRetained.Add(1)
	s.limits.Reached(limits.Retained, "a message is not retained", "topic", m.Topic, "bytes", retained.Weight(m), "older_deleted", had)
	if had {
		gone := newPublication(s, &broker.Message{Topic: m.Topic, QoS: m.QoS, Retain: true}, p.at)
		gone.audience.topic, gone.silent, p.behind = s.index.Named(m.Topic), true, m.QoS > 0
		if err := s.append(gone, journal.Entry{Message: gone.message, Retained: true, Lazy: p.opts.Lazy, Done: gone}, nil); err != nil {
			s.log.Error("a retained message that is not true any more cannot be deleted", "topic", m.Topic, "error", err)
		}
	}
	return false
}

// Retained returns the retained message of a topic, nil if there is none. The message is shared and must not be changed.
// from reports whether it came from the reader of route. before reports whether it was stored before the start, in which
// case its publisher is unknown.
func (s *Server) Retained(topic string, route *journal.Reader) (m *broker.Message, from, before bool) {
	k, _ := s.retained.Latest(topic)
	return k.Message, k.From != nil && k.From == route, k.Before
}

// RetainedMessages returns the retained messages whose topics filter matches, by topic. They are shared and must not be
// changed.
func (s *Server) RetainedMessages(filter string) (list []*broker.Message) {
	for _, k := range s.retained.Matching(filter, math.MaxUint64) {
		list = append(list, k.Message)
	}
	return list
}
