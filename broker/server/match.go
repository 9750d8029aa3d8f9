package server

import (
	"strings"
	"sync/atomic"

	"holdfast/broker"
	"holdfast/broker/journal"
)

// target is a subscriber: a session, a route, or a function of this process.
type target struct {
	session *session
	reader  *journal.Reader                                              // of a route; of a durable session
	deliver func(*broker.Message)                                        // of a route or function
	pick    atomic.Pointer[func(topic string, own bool) *journal.Reader] // of a route, instead of reader; nil for none
}

// subscription is what a target asked for with one filter.
type subscription struct {
	qos               byte
	noLocal           bool
	retainAsPublished bool
	id                uint32 // Subscription Identifier, 0 if there is none
	steps             int    // by which it has made searches of the index longer
}

// match is a target, once, with what all its matching subscriptions grant together, or a group of
// which one member gets the message.
type match struct {
	*target
	group             *group
	qos               byte
	noLocal           bool
	retainAsPublished bool
	ids               []uint32 // shared
}

type finder struct {
	found  []match
	places int // where something was found; in one place no target stands twice
	steps  int // nodes that were visited
}

func (f *finder) walk(n *node, topic string, own bool) {
	f.steps++
	if !own {
		f.collect(n.below)
	}
	level, rest, more := strings.Cut(topic, "/")
	if level != "+" {
		f.step(n.child(level), rest, more)
	}
	if !own {
		f.step(n.plus, rest, more)
	}
}

func (f *finder) step(child *node, rest string, more bool) {
	switch {
	case child == nil:
	case more:
		f.walk(child, rest, false)
	default:
		f.steps++
		f.collect(child.here)
		f.collect(child.below) // "a/#" matches "a" [MQTT-4.7.1-2]
	}
}

func (f *finder) collect(s *subscribers) {
	if s.empty() {
		return
	}
	f.places++
	for _, o := range s.few {
		f.found = append(f.found, newMatch(o.target, o.subscription))
	}
	for t, sub := range s.many {
		f.found = append(f.found, newMatch(t, sub))
	}
	for _, g := range s.groups {
		f.found = append(f.found, match{group: g})
	}
}

func newMatch(t *target, sub subscription) match {
	m := match{target: t, qos: sub.qos, noLocal: sub.noLocal, retainAsPublished: sub.retainAsPublished}
	if sub.id != 0 {
		m.ids = []uint32{sub.id}
	}
	return m
}

// merge leaves each target once. Of overlapping subscriptions the highest QoS counts, and every
// identifier is sent [MQTT-3.3.4-2, MQTT-3.3.4-3].
func merge(found []match) []match {
	at := make(map[*target]int, len(found))
	n := 0
	for _, m := range found {
		if i, twice := at[m.target]; twice && m.group == nil {
			found[i].add(&m)
			continue
		}
		if m.group == nil {
			at[m.target] = n
		}
		found[n] = m
		n++
	}
	return found[:n]
}

func (m *match) add(other *match) {
	m.qos = max(m.qos, other.qos)
	m.noLocal = m.noLocal && other.noLocal
	m.retainAsPublished = m.retainAsPublished || other.retainAsPublished
	m.ids = append(m.ids[:len(m.ids):len(m.ids)], other.ids...)
}
