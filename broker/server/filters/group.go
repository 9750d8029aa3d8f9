package filters

import (
	"slices"
	"sync/atomic"
)

// Turn is when a member of a shared subscription takes a message.
type Turn int

// The values of Turn.
const (
	Never Turn = iota // another member is to have the message, or none
	Later             // only if no member takes it at once
	Now
)

// group holds the members of one shared subscription: the subscribers that have subscribed to the same filter under
// the same name. One of them gets each message.
type group[T Subscriber] struct {
	members atomic.Pointer[[]owner[T]] // replaced, never changed; guarded by Index.mu for writing
	turn    atomic.Uint32
}

// set adds or replaces a member and reports whether it was there.
func (g *group[T]) set(t T, sub Subscription) bool {
	var members []owner[T]
	if p := g.members.Load(); p != nil {
		members = slices.Clone(*p)
	}
	i := slices.IndexFunc(members, func(m owner[T]) bool { return m.target == t })
	if i >= 0 {
		members[i].sub = sub
	} else {
		members = append(members, owner[T]{t, sub})
	}
	g.members.Store(&members)
	return i >= 0
}

func (g *group[T]) remove(t T) bool {
	had := *g.members.Load()
	members := slices.DeleteFunc(slices.Clone(had), func(m owner[T]) bool { return m.target == t })
	g.members.Store(&members)
	return len(members) < len(had)
}

// pick chooses the next member in turn: of those that take a message of topic now, and while there is none, of those that
// take it later.
func (g *group[T]) pick(topic string) (Match[T], bool) {
	members := *g.members.Load()
	n := len(members)
	if n == 0 {
		return Match[T]{}, false
	}
	first := int(g.turn.Add(1) % uint32(n))
	later := -1
	for i := range n {
		m := &members[(first+i)%n]
		switch m.target.Turn(topic) {
		case Now:
			return newMatch(m.target, m.sub), true
		case Later:
			if later < 0 {
				later = (first + i) % n
			}
		}
	}
	if later < 0 {
		return Match[T]{}, false
	}
	return newMatch(members[later].target, members[later].sub), true
}

// identifiers returns the Subscription Identifier of a member, if there is one.
func (g *group[T]) identifiers(t T) []uint32 {
	for _, m := range *g.members.Load() {
		if m.target == t && m.sub.ID != 0 {
			return []uint32{m.sub.ID}
		}
	}
	return nil
}
