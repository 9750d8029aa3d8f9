package filters

import "strings"

// Match is a subscriber of a topic, once, with what all its matching subscriptions grant together.
type Match[T Subscriber] struct {
	Target            T
	QoS               byte
	NoLocal           bool
	RetainAsPublished bool
	IDs               []uint32  // the Subscription Identifiers, shared; of a shared subscription that of the filter alone
	group             *group[T] // instead of Target, before Choose: one of its members gets the message
}

type finder[T Subscriber] struct {
	found  []Match[T]
	places int // where something was found; in one place no subscriber stands twice
	steps  int // nodes that were visited
}

func (f *finder[T]) walk(n *node[T], topic string, own bool) {
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

func (f *finder[T]) step(child *node[T], rest string, more bool) {
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

func (f *finder[T]) collect(s *subscribers[T]) {
	if s.empty() {
		return
	}
	f.places++
	for _, o := range s.few {
		f.found = append(f.found, newMatch(o.target, o.sub))
	}
	for t, sub := range s.many {
		f.found = append(f.found, newMatch(t, sub))
	}
	for _, g := range s.groups {
		f.found = append(f.found, Match[T]{group: g})
	}
}

func newMatch[T Subscriber](t T, sub Subscription) Match[T] {
	m := Match[T]{Target: t, QoS: sub.QoS, NoLocal: sub.NoLocal, RetainAsPublished: sub.RetainAsPublished}
	if sub.ID != 0 {
		m.IDs = []uint32{sub.ID}
	}
	return m
}

// merge leaves each subscriber once. Of overlapping subscriptions the highest QoS counts, and every
// identifier is sent [MQTT-3.3.4-2, MQTT-3.3.4-3].
func merge[T Subscriber](found []Match[T]) []Match[T] {
	at := make(map[T]int, len(found))
	n := 0
	for _, m := range found {
		if i, twice := at[m.Target]; twice && m.group == nil {
			found[i].add(&m)
			continue
		}
		if m.group == nil {
			at[m.Target] = n
		}
		found[n] = m
		n++
	}
	return found[:n]
}

func (m *Match[T]) add(other *Match[T]) {
	m.QoS = max(m.QoS, other.QoS)
	m.NoLocal = m.NoLocal && other.NoLocal
	m.RetainAsPublished = m.RetainAsPublished || other.RetainAsPublished
	m.IDs = append(m.IDs[:len(m.IDs):len(m.IDs)], other.IDs...)
}
