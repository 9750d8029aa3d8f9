package server

import (
	"sync/atomic"

	"holdfast/broker"
	"holdfast/broker/journal"
	"holdfast/broker/server/filters"
)

// target is a subscriber: a session, a route, or a function of this process.
type target struct {
	session *session
	reader  *journal.Reader                                              // of a route; of a durable session
	deliver func(*broker.Message)                                        // of a route or function
	pick    atomic.Pointer[func(topic string, own bool) *journal.Reader] // of a route, instead of reader; nil for none
}

type (
	topic = filters.Topic[*target]
	match = filters.Match[*target]
)

// Turn makes target a filters.Subscriber. The connected members of a shared subscription take the messages, and while there is
// none, those whose sessions are durable. Only members that may read the topic now take a turn. A message given to a member
// stays with it, however long it is away.
func (t *target) Turn(topic string) filters.Turn {
	connected := t.session.conn.Load() != nil
	switch {
	case !connected && t.reader == nil, !t.session.mayRead(topic):
		return filters.Never
	case connected:
		return filters.Now
	}
	return filters.Later
}

// audience is who gets a message.
type audience struct {
	topic   *topic  // with the subscribers when it was matched
	matches []match // shared, or in chosen
	chosen  []match
	late    []match // subscribers since then, until the retained message was stored
}

// find sets topic and matches.
func (a *audience) find(t *topic) {
	a.topic = t
	a.matches, a.chosen = t.Choose(a.chosen)
}

// addLate sets late to the subscribers of now, a later version of the topic, that find has not found.
func (a *audience) addLate(now *topic) { a.late = a.topic.Newer(now, a.late) }

// skips reports whether m does not get the message: the publisher asked not to get its own [MQTT-3.8.3-3], or m is a
// route that the publish excludes.
func (p *publication) skips(m *match) bool {
	t := m.Target
	if p.opts.From != nil && t.reader == p.opts.From || p.opts.Here && t.reader != nil && t.session == nil {
		return true
	}
	return m.NoLocal && p.client.conn != nil && t.session == p.client.conn.session
}
