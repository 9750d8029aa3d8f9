package server

import (
	"math"
	"strings"
	"sync"
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

// index finds the subscriptions of a topic: a tree with a level of the topic at each step. What a search of it may
// cost is known before: see node.steps.
type index struct {
	version atomic.Uint64 // changes with every subscription
	mu      sync.RWMutex
	root    node
	n       int
}

// node is a level of filters. Most have one node below them, or none, so that is cheap.
type node struct {
	name    string           // of the child one
	one     *node            // the child whose name is not "+"; nil if there is none, or many are
	many    map[string]*node // all such children, once there are two
	plus    *node            // the child "+"
	here    *subscribers     // of the filter that ends here
	below   *subscribers     // of the filter that ends here with "/#"
	steps   int32            // most nodes that a search can visit from here, this one included
	largest int32            // steps of the children but plus: the most of all, since a topic leads to one of them
	atMost  int32            // how many have as many
}

// subscribers are those of one filter: a list while they are few.
type subscribers struct {
	few    []owner
	many   map[*target]subscription
	groups map[string]*group // by the group's name
}

type owner struct {
	*target
	subscription
}

const mostFew = 16 // subscribers in a list

func (s *subscribers) empty() bool { return s == nil || len(s.few)+len(s.many)+len(s.groups) == 0 }

// set adds or replaces t and reports whether it was there.
func (s *subscribers) set(t *target, sub subscription) (had bool) {
	for i := range s.few {
		if s.few[i].target == t {
			s.few[i].subscription = sub
			return true
		}
	}
	if s.many == nil && len(s.few) < mostFew {
		s.few = append(s.few, owner{t, sub})
		return false
	}
	if s.many == nil {
		s.many = make(map[*target]subscription, 2*mostFew)
		for _, o := range s.few {
			s.many[o.target] = o.subscription
		}
		s.few = nil
	}
	_, had = s.many[t]
	s.many[t] = sub
	return had
}

func (s *subscribers) unset(t *target) (had bool) {
	if s.many != nil {
		_, had = s.many[t]
		delete(s.many, t)
		return had
	}
	for i := range s.few {
		if last := len(s.few) - 1; s.few[i].target == t {
			s.few[i], s.few[last] = s.few[last], owner{}
			s.few = s.few[:last]
			return true
		}
	}
	return false
}

// child returns the node of a level, or nil.
func (n *node) child(level string) *node {
	switch {
	case level == "+":
		return n.plus
	case n.many != nil:
		return n.many[level]
	case n.one != nil && n.name == level:
		return n.one
	}
	return nil
}

// grow adds the node of a level.
func (n *node) grow(level string) *node {
	child := &node{}
	switch {
	case level == "+":
		n.plus = child
	case n.many != nil:
		n.many[strings.Clone(level)] = child
	case n.one != nil:
		n.many = map[string]*node{n.name: n.one, strings.Clone(level): child}
		n.name, n.one = "", nil
	default:
		n.name, n.one = strings.Clone(level), child
	}
	return child
}

// cut removes the node of a level.
func (n *node) cut(level string) {
	switch {
	case level == "+":
		n.plus = nil
	case n.many != nil:
		if delete(n.many, level); len(n.many) == 0 {
			n.many = nil
		}
	default:
		n.name, n.one = "", nil
	}
}

func (n *node) bare() bool {
	return n.here.empty() && n.below.empty() && n.one == nil && n.plus == nil && len(n.many) == 0
}

// changed notes that a child had old steps and has now others; 0 for one that is not there.
func (n *node) changed(level string, old, now int32) {
	switch {
	case level == "+":
	case now > n.largest:
		n.largest, n.atMost = now, 1
	case now == n.largest && old != now:
		n.atMost++
	case old == n.largest && now < old:
		if n.atMost--; n.atMost == 0 {
			n.largest = 0
			n.measure(n.one)
			for _, child := range n.many {
				n.measure(child)
			}
		}
	}
	n.steps = 1 + n.largest
	if n.plus != nil {
		n.steps += n.plus.steps
	}
}

func (n *node) measure(child *node) {
	switch {
	case child == nil || child.steps < n.largest:
	case child.steps == n.largest:
		n.atMost++
	default:
		n.largest, n.atMost = child.steps, 1
	}
}

// splitShared takes the group's name off the filter of a shared subscription; other filters have none.
func splitShared(filter string) (group, rest string) {
	if !strings.HasPrefix(filter, broker.SharedPrefix) {
		return "", filter
	}
	group, rest, _ = strings.Cut(filter[len(broker.SharedPrefix):], "/")
	return group, rest
}

// noLimit lets add have as many steps as it takes.
const noLimit = math.MaxInt32

// add adds or replaces a subscription, and reports whether it is new and which version has it first. more is by
// how much the most steps of a search have grown. With more than most steps in all, or grown by more than room,
// nothing is added and ok is false.
func (x *index) add(filter string, t *target, sub subscription, most, room int) (isNew bool, version uint64, more int, ok bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	before := max(1, x.root.steps)
	group, rest := splitShared(filter)
	isNew = x.root.add(group, rest, t, sub)
	more = int(x.root.steps - before)
	if more > 0 && (int(x.root.steps) > most || more > room) {
		x.root.remove(group, rest, t)
		return false, x.version.Load(), more, false
	}
	if isNew {
		x.n++
	}
	return isNew, x.version.Add(1), more, true
}

func (n *node) add(group, filter string, t *target, sub subscription) (isNew bool) {
	level, filter, more := strings.Cut(filter, "/")
	if level == "#" {
		n.steps = max(1, n.steps)
		return put(&n.below, group, t, sub)
	}
	child, old := n.child(level), int32(0)
	if child == nil {
		child = n.grow(level)
	} else {
		old = child.steps
	}
	if more {
		isNew = child.add(group, filter, t, sub)
	} else {
		child.steps = max(1, child.steps)
		isNew = put(&child.here, group, t, sub)
	}
	n.changed(level, old, child.steps)
	return isNew
}

func put(at **subscribers, name string, t *target, sub subscription) (isNew bool) {
	if *at == nil {
		*at = &subscribers{}
	}
	s := *at
	if name == "" {
		return !s.set(t, sub)
	}
	g := s.groups[name]
	if g == nil {
		if s.groups == nil {
			s.groups = map[string]*group{}
		}
		g = &group{}
		s.groups[strings.Clone(name)] = g
	}
	return !g.set(t, sub)
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
		return take(&n.below, group, t)
	}
	child := n.child(level)
	if child == nil {
		return false
	}
	old, found := child.steps, false
	if more {
		found = child.remove(group, filter, t)
	} else {
		found = take(&child.here, group, t)
	}
	now := child.steps
	if child.bare() {
		n.cut(level)
		now = 0
	}
	n.changed(level, old, now)
	return found
}

func take(at **subscribers, name string, t *target) (found bool) {
	s := *at
	if s == nil {
		return false
	}
	if name == "" {
		found = s.unset(t)
	} else if g := s.groups[name]; g != nil {
		found = g.remove(t)
		if len(*g.members.Load()) == 0 {
			delete(s.groups, name)
		}
	}
	if s.empty() {
		*at = nil
	}
	return found
}

func (x *index) len() int {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.n
}

// match returns the subscribers of topic, each target once, and the version of the index that it searched. The
// result is never nil.
func (x *index) match(topic string) ([]match, uint64) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	f := x.find(topic)
	if f.places > 1 {
		f.found = merge(f.found)
	}
	return f.found, x.version.Load()
}

// find is called with mu held.
func (x *index) find(topic string) finder {
	f := finder{found: []match{}}
	// A wildcard at the first level does not match a topic of the server's own [MQTT-4.7.2-1].
	f.walk(&x.root, topic, strings.HasPrefix(topic, "$"))
	return f
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
