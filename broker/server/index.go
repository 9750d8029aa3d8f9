package server

import (
	"strings"
	"sync"

	"holdfast/broker"
	"holdfast/broker/journal"
)

// target is somebody who wants messages: a session, a route, or a function of this process.
type target struct {
	session *session
	reader  *journal.Reader       // of a route; of a durable session
	deliver func(*broker.Message) // of a route or function
}

// subscription is what a target asked for with one filter.
type subscription struct {
	qos               byte
	noLocal           bool
	retainAsPublished bool
	id                uint32 // Subscription Identifier, 0 if there is none
}

// match is a target, once, with what all its matching subscriptions grant together.
type match struct {
	*target
	qos               byte
	noLocal           bool
	retainAsPublished bool
	ids               []uint32
}

// index finds the subscriptions of a topic: a tree with a level of the topic at each step.
type index struct {
	mu   sync.RWMutex
	root node
	n    int
}

type node struct {
	children map[string]*node
	subs     map[*target]subscription // of the filter that ends here
	rest     map[*target]subscription // of the filter that ends here with "/#"
}

// add adds or replaces a subscription and says whether it is new.
func (x *index) add(filter string, t *target, sub subscription) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	n := &x.root
	for more := true; more; {
		var level string
		level, filter, more = strings.Cut(filter, "/")
		if level == "#" {
			return x.put(&n.rest, t, sub)
		}
		child := n.children[level]
		if child == nil {
			if n.children == nil {
				n.children = map[string]*node{}
			}
			child = &node{}
			n.children[level] = child
		}
		n = child
	}
	return x.put(&n.subs, t, sub)
}

func (x *index) put(m *map[*target]subscription, t *target, sub subscription) bool {
	if *m == nil {
		*m = map[*target]subscription{}
	}
	_, had := (*m)[t]
	(*m)[t] = sub
	if !had {
		x.n++
	}
	return !had
}

// remove removes a subscription and the branches that it leaves empty.
func (x *index) remove(filter string, t *target) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	found := x.root.remove(filter, t)
	if found {
		x.n--
	}
	return found
}

func (n *node) remove(filter string, t *target) bool {
	level, filter, more := strings.Cut(filter, "/")
	if level == "#" {
		return take(n.rest, t)
	}
	child := n.children[level]
	if child == nil {
		return false
	}
	found := false
	if more {
		found = child.remove(filter, t)
	} else {
		found = take(child.subs, t)
	}
	if len(child.subs)+len(child.rest)+len(child.children) == 0 {
		delete(n.children, level)
	}
	return found
}

func take(m map[*target]subscription, t *target) bool {
	_, found := m[t]
	delete(m, t)
	return found
}

func (x *index) len() int {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.n
}

// match appends everybody who wants topic to found, each target once.
func (x *index) match(topic string, found []match) []match {
	x.mu.RLock()
	defer x.mu.RUnlock()
	// A wildcard at the first level does not match a topic of the server's own [MQTT-4.7.2-1].
	return x.root.match(topic, strings.HasPrefix(topic, "$"), found)
}

func (n *node) match(topic string, own bool, found []match) []match {
	if !own {
		found = collect(n.rest, found)
	}
	level, rest, more := strings.Cut(topic, "/")
	for i := range 2 {
		if i == 1 {
			if own {
				break
			}
			level = "+"
		}
		child := n.children[level]
		switch {
		case child == nil:
		case more:
			found = child.match(rest, false, found)
		default:
			found = collect(child.subs, found)
			found = collect(child.rest, found) // "a/#" matches "a" [MQTT-4.7.1-2]
		}
	}
	return found
}

// collect adds the targets of m. Of overlapping subscriptions the highest QoS counts, and every
// identifier is told [MQTT-3.3.4-2, MQTT-3.3.4-3].
func collect(m map[*target]subscription, found []match) []match {
next:
	for t, sub := range m {
		for i := range found {
			if f := &found[i]; f.target == t {
				f.qos = max(f.qos, sub.qos)
				f.noLocal = f.noLocal && sub.noLocal
				f.retainAsPublished = f.retainAsPublished || sub.retainAsPublished
				f.ids = appendID(f.ids, sub.id)
				continue next
			}
		}
		found = append(found, match{t, sub.qos, sub.noLocal, sub.retainAsPublished, appendID(nil, sub.id)})
	}
	return found
}

func appendID(ids []uint32, id uint32) []uint32 {
	if id == 0 {
		return ids
	}
	return append(ids, id)
}
