package filters

import "strings"

// node is a level of filters. Most have one node below them, or none, so that is cheap.
type node[T Subscriber] struct {
	name    string              // of the child one
	one     *node[T]            // the child whose name is not "+"; nil if there is none, or many are
	many    map[string]*node[T] // all such children, once there are two
	plus    *node[T]            // the child "+"
	here    *subscribers[T]     // of the filter that ends here
	below   *subscribers[T]     // of the filter that ends here with "/#"
	steps   int32               // most nodes that a search can visit from here, this one included
	largest int32               // steps of the children but plus: the most of all, since a topic leads to one of them
	atMost  int32               // how many have as many
}

// child returns the node of a level, or nil.
func (n *node[T]) child(level string) *node[T] {
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
func (n *node[T]) grow(level string) *node[T] {
	child := &node[T]{}
	switch {
	case level == "+":
		n.plus = child
	case n.many != nil:
		n.many[strings.Clone(level)] = child
	case n.one != nil:
		n.many = map[string]*node[T]{n.name: n.one, strings.Clone(level): child}
		n.name, n.one = "", nil
	default:
		n.name, n.one = strings.Clone(level), child
	}
	return child
}

// cut removes the node of a level.
func (n *node[T]) cut(level string) {
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

func (n *node[T]) bare() bool {
	return n.here.empty() && n.below.empty() && n.one == nil && n.plus == nil && len(n.many) == 0
}

// changed notes that a child had old steps and has now others; 0 for one that is not there.
func (n *node[T]) changed(level string, old, now int32) {
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

func (n *node[T]) measure(child *node[T]) {
	switch {
	case child == nil || child.steps < n.largest:
	case child.steps == n.largest:
		n.atMost++
	default:
		n.largest, n.atMost = child.steps, 1
	}
}

func (n *node[T]) add(group, filter string, t T, sub Subscription) (isNew bool) {
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

func (n *node[T]) remove(group, filter string, t T) bool {
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
