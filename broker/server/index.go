package server

import (
	"strings"
	"sync"
	"sync/atomic"

	"holdfast/broker"
	"holdfast/broker/journal"
)

// target is somebody who wants messages: a session, a route, or a function of this process.
type target struct {
	session *session
	reader  *journal.Reader                                    // of a route; of a durable session
	deliver func(*broker.Message)                              // of a route or function
	pick    atomic.Pointer[func(topic string) *journal.Reader] // of a route, instead of reader; nil for none
}

// subscription is what a target asked for with one filter.
type subscription struct {
	qos               byte
	noLocal           bool
	retainAsPublished bool
	id                uint32 // Subscription Identifier, 0 if there is none
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

// index finds the subscriptions of a topic: a tree with a level of the topic at each step.
type index struct {
	version atomic.Uint64 // changes with every subscription
	mu      sync.RWMutex
	root    node
	n       int
}

type node struct {
	children map[string]*node
	here     subscribers // of the filter that ends here
	below    subscribers // of the filter that ends here with "/#"
}

type subscribers struct {
	own    map[*target]subscription
	groups map[string]*group // by the group's name
}

func (s *subscribers) empty() bool { return len(s.own)+len(s.groups) == 0 }

// splitShared takes the group's name off the filter of a shared subscription; other filters have none.
func splitShared(filter string) (group, rest string) {
	if !strings.HasPrefix(filter, broker.SharedPrefix) {
		return "", filter
	}
	group, rest, _ = strings.Cut(filter[len(broker.SharedPrefix):], "/")
	return group, rest
}

// add adds or replaces a subscription, and says whether it is new and which version has it first.
func (x *index) add(filter string, t *target, sub subscription) (isNew bool, version uint64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	version = x.version.Add(1)
	group, filter := splitShared(filter)
	n := &x.root
	for more := true; more; {
		var level string
		level, filter, more = strings.Cut(filter, "/")
		if level == "#" {
			return x.put(&n.below, group, t, sub), version
		}
		child := n.children[level]
		if child == nil {
			if n.children == nil {
				n.children = map[string]*node{}
			}
			child = &node{}
			n.children[strings.Clone(level)] = child
		}
		n = child
	}
	return x.put(&n.here, group, t, sub), version
}

func (x *index) put(s *subscribers, name string, t *target, sub subscription) bool {
	had := false
	if name == "" {
		if s.own == nil {
			s.own = map[*target]subscription{}
		}
		_, had = s.own[t]
		s.own[t] = sub
	} else {
		g := s.groups[name]
		if g == nil {
			if s.groups == nil {
				s.groups = map[string]*group{}
			}
			g = &group{}
			s.groups[strings.Clone(name)] = g
		}
		had = g.set(t, sub)
	}
	if !had {
		x.n++
	}
	return !had
}

// remove removes a subscription and the branches that it leaves empty.
func (x *index) remove(filter string, t *target) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.version.Add(1)
	group, filter := splitShared(filter)
	found := x.root.remove(group, filter, t)
	if found {
		x.n--
	}
	return found
}

func (n *node) remove(group, filter string, t *target) bool {
	level, filter, more := strings.Cut(filter, "/")
	if level == "#" {
		return n.below.remove(group, t)
	}
	child := n.children[level]
	if child == nil {
		return false
	}
	found := false
	if more {
		found = child.remove(group, filter, t)
	} else {
		found = child.here.remove(group, t)
	}
	if child.here.empty() && child.below.empty() && len(child.children) == 0 {
		delete(n.children, level)
	}
	return found
}

func (s *subscribers) remove(name string, t *target) (found bool) {
	if name == "" {
		_, found = s.own[t]
		delete(s.own, t)
		return found
	}
	g := s.groups[name]
	if g == nil {
		return false
	}
	found = g.remove(t)
	if len(*g.members.Load()) == 0 {
		delete(s.groups, name)
	}
	return found
}

func (x *index) len() int {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.n
}

// match returns everybody who wants topic, each target once, and the version that this is true of. The
// result is never nil.
func (x *index) match(topic string) ([]match, uint64) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	f := finder{found: []match{}}
	// A wildcard at the first level does not match a topic of the server's own [MQTT-4.7.2-1].
	f.walk(&x.root, topic, strings.HasPrefix(topic, "$"))
	if f.places > 1 {
		f.found = merge(f.found)
	}
	return f.found, x.version.Load()
}

type finder struct {
	found  []match
	places int // where something was found; in one place no target stands twice
}

func (f *finder) walk(n *node, topic string, own bool) {
	if !own {
		f.collect(&n.below)
	}
	level, rest, more := strings.Cut(topic, "/")
	f.step(n.children[level], rest, more)
	if !own {
		f.step(n.children["+"], rest, more)
	}
}

func (f *finder) step(child *node, rest string, more bool) {
	switch {
	case child == nil:
	case more:
		f.walk(child, rest, false)
	default:
		f.collect(&child.here)
		f.collect(&child.below) // "a/#" matches "a" [MQTT-4.7.1-2]
	}
}

func (f *finder) collect(s *subscribers) {
	if s.empty() {
		return
	}
	f.places++
	for t, sub := range s.own {
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
// identifier is told [MQTT-3.3.4-2, MQTT-3.3.4-3].
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
