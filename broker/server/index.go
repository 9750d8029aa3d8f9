package server

import (
	"math"
	"strings"
	"sync"
	"sync/atomic"

	"holdfast/broker"
)

// index finds the subscriptions of a topic: a tree with a level of the topic at each step. What a search of it may
// cost is known before: see node.steps.
type index struct {
	version atomic.Uint64 // changes with every subscription
	filters account       // weights of clients' filters, by user
	steps   account       // by which these have made searches longer

	mu   sync.RWMutex // guards what follows
	root node
	n    int
}

func (x *index) init(o *Options) {
	x.filters.limited(limitFilters, int64(o.MaxFilters), o.UserShare)
	x.steps.limited(limitMatching, int64(o.MaxMatching), o.UserShare)
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
