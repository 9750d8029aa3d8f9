package filters

import (
	"fmt"
	"hash/maphash"
	"strings"
	"sync/atomic"

	"holdfast/broker"
)

const (
	topicSlots   = 512 // of the cache
	longestTopic = 256 // bytes of a topic that is cached
	mostMatches  = 128 // of a topic whose subscribers are cached
)

// Topic is a topic name with its subscribers at one version of the index. It does not change.
type Topic[T Subscriber] struct {
	Name    string
	Err     error // why it cannot be published to
	Version uint64

	matches []Match[T] // shared; nil before they are looked up
	groups  bool       // whether there are shared subscriptions among them
}

// cache remembers topics, so that a publisher that names one again costs neither a string nor a
// walk through the index. Its size is fixed: a slot keeps the last topic that fell into it.
type cache[T Subscriber] struct {
	levels int // most levels of a topic
	seed   maphash.Seed
	slots  [topicSlots]atomic.Pointer[Topic[T]]
}

func (c *cache[T]) slot(name string) *atomic.Pointer[Topic[T]] {
	return &c.slots[maphash.String(c.seed, name)%topicSlots]
}

// Name returns the topic of that name, checked, and perhaps without its subscribers: Resolve looks them up.
func (x *Index[T]) Name(name []byte) *Topic[T] {
	if len(name) > longestTopic {
		return x.checked(string(name))
	}
	slot := &x.cache.slots[maphash.Bytes(x.cache.seed, name)%topicSlots]
	if t := slot.Load(); t != nil && t.Name == string(name) {
		return t
	}
	t := x.checked(string(name))
	slot.Store(t)
	return t
}

func (x *Index[T]) checked(name string) *Topic[T] {
	return &Topic[T]{Name: name, Err: x.Check(name)}
}

// Check returns why a topic cannot be published to: it is malformed (then the error wraps broker.ErrTopic), or has too many
// levels.
func (x *Index[T]) Check(name string) error {
	if err := broker.CheckTopic(name); err != nil {
		return err
	}
	if strings.Count(name, "/") >= x.cache.levels {
		return fmt.Errorf("topic of more than %d levels", x.cache.levels)
	}
	return nil
}

// Resolve returns the topic with its current subscribers.
func (x *Index[T]) Resolve(t *Topic[T]) *Topic[T] {
	if t.matches != nil && t.Version == x.version.Load() {
		return t
	}
	r := &Topic[T]{Name: t.Name, Err: t.Err}
	r.matches, r.Version = x.match(t.Name)
	for i := range r.matches {
		r.groups = r.groups || r.matches[i].group != nil
	}
	if len(t.Name) <= longestTopic && len(r.matches) <= mostMatches {
		x.cache.slot(t.Name).Store(r)
	}
	return r
}

// Named returns the topic of a name that is known to be well-formed, with its current subscribers.
func (x *Index[T]) Named(name string) *Topic[T] {
	if len(name) <= longestTopic {
		if t := x.cache.slot(name).Load(); t != nil && t.Name == name {
			return x.Resolve(t)
		}
	}
	return x.Resolve(&Topic[T]{Name: name})
}

// Choose returns who gets a message of the topic: its subscribers, and of each shared subscription the member whose turn
// it is. The result must not be changed, and is either shared or room with its new content; kept is room for the next
// call.
func (t *Topic[T]) Choose(room []Match[T]) (chosen, kept []Match[T]) {
	if !t.groups {
		return t.matches, room
	}
	room = append(room[:0], t.matches...)
	n := 0
	for _, m := range room {
		if m.group == nil {
			room[n] = m
			n++
		}
	}
	room = room[:n]
next:
	for i := range t.matches {
		if t.matches[i].group == nil {
			continue
		}
		m, ok := t.matches[i].group.pick(t.Name)
		if !ok {
			continue
		}
		for i := range room {
			if room[i].Target == m.Target {
				room[i].add(&m) // no subscriber gets a message twice
				continue next
			}
		}
		room = append(room, m)
	}
	return room, room
}

// Newer appends to late who gets a message of the topic by subscriptions of now, a later version of it, that the topic does
// not have.
func (t *Topic[T]) Newer(now *Topic[T], late []Match[T]) []Match[T] {
	type place struct {
		target T
		group  *group[T]
	}
	found := make(map[place]bool, len(t.matches))
	for i := range t.matches {
		found[place{t.matches[i].Target, t.matches[i].group}] = true
	}
	for _, m := range now.matches {
		if found[place{m.Target, m.group}] {
			continue
		}
		if m.group != nil {
			var ok bool
			if m, ok = m.group.pick(t.Name); !ok || found[place{m.Target, nil}] {
				continue
			}
		}
		late = append(late, m)
	}
	return late
}

// Identifiers returns the Subscription Identifiers of a subscriber's filters that match the topic. The result is shared.
// Those of shared subscriptions count only if no other matches: then the message comes from one of them.
func (t *Topic[T]) Identifiers(target T) (shared []uint32) {
	for _, m := range t.matches {
		switch {
		case m.group != nil:
			shared = append(shared, m.group.identifiers(target)...)
		case m.Target == target:
			return m.IDs
		}
	}
	return shared
}
