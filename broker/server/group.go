package server

import (
	"slices"
	"sync/atomic"
)

// group holds the members of one shared subscription: the clients that have subscribed to the same filter under
// the same name. One of them gets each message.
type group struct {
	members atomic.Pointer[[]member] // replaced, never changed; guarded by index.mu for writing
	turn    atomic.Uint32
}

type member struct {
	*target
	subscription
}

// set adds or replaces a member and reports whether it was there.
func (g *group) set(t *target, sub subscription) bool {
	var members []member
	if p := g.members.Load(); p != nil {
		members = slices.Clone(*p)
	}
	i := slices.IndexFunc(members, func(m member) bool { return m.target == t })
	if i >= 0 {
		members[i].subscription = sub
	} else {
		members = append(members, member{t, sub})
	}
	g.members.Store(&members)
	return i >= 0
}

func (g *group) remove(t *target) bool {
	had := *g.members.Load()
	members := slices.DeleteFunc(slices.Clone(had), func(m member) bool { return m.target == t })
	g.members.Store(&members)
	return len(members) < len(had)
}

// pick chooses the next member in turn: of the connected ones, and while there is none, of those whose sessions
// are durable. Only members that may read the topic now take a turn. A message given to a member stays with
// it, however long it is away.
func (g *group) pick(topic string) (match, bool) {
	members := *g.members.Load()
	n := len(members)
	if n == 0 {
		return match{}, false
	}
	first := int(g.turn.Add(1) % uint32(n))
	away := -1
	for i := range n {
		m := &members[(first+i)%n]
		connected := m.session.conn.Load() != nil
		if !connected && (away >= 0 || m.reader == nil) || !m.session.mayRead(topic) {
			continue
		}
		if connected {
			return newMatch(m.target, m.subscription), true
		}
		away = (first + i) % n
	}
	if away < 0 {
		return match{}, false
	}
	return newMatch(members[away].target, members[away].subscription), true
}

// identifiers returns the Subscription Identifier of a member, if there is one.
func (g *group) identifiers(t *target) []uint32 {
	for _, m := range *g.members.Load() {
		if m.target == t && m.id != 0 {
			return []uint32{m.id}
		}
	}
	return nil
}

// choose replaces the groups among found by the members whose turn it is for a message of topic.
func choose(topic string, found, chosen []match) []match {
	chosen = append(chosen, found...)
	n := 0
	for _, m := range chosen {
		if m.group == nil {
			chosen[n] = m
			n++
		}
	}
	chosen = chosen[:n]
next:
	for i := range found {
		if found[i].group == nil {
			continue
		}
		m, ok := found[i].group.pick(topic)
		if !ok {
			continue
		}
		for i := range chosen {
			if chosen[i].target == m.target {
				chosen[i].add(&m) // no reader is owed a message twice
				continue next
			}
		}
		chosen = append(chosen, m)
	}
	return chosen
}
