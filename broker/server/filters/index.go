// Package filters finds the subscribers of a topic: an index of topic filters, with the shared subscriptions among them,
// and a cache of the topics that were looked up last.
//
// A subscriber of a topic is found once, with what all of its filters that match grant together. Add
// counts how many nodes a search can visit at most, and refuses a filter that would exceed the limit: whatever the topic, no
// search takes longer. A topic that is looked up again while no subscription has changed costs neither an allocation nor
// a search. An Index is safe for concurrent use; a search holds up no other one.
//
// The package does not know what a subscriber is, who may subscribe or read, nor how many subscriptions there may be. It
// delivers nothing. It keeps subscriptions in memory only, and expects filters that broker.CheckFilter accepts.
package filters

import (
	"hash/maphash"
	"math"
	"strings"
	"sync"
	"sync/atomic"

	"holdfast/broker"
)

// Subscriber is who subscribes, usually a pointer. A subscriber has one subscription for each filter, and one for each
// group that shares it.
type Subscriber interface {
	comparable
	// Turn returns when the subscriber, as a member of a shared subscription, takes a message of topic. It must not block.
	Turn(topic string) Turn
}

// Subscription is what a subscriber asked for with one filter.
type Subscription struct {
	QoS               byte
	NoLocal           bool
	RetainAsPublished bool
	ID                uint32 // Subscription Identifier, 0 if there is none
}

// Index holds the subscriptions, as a tree with a level of their filters at each step, and the topics that were looked up
// last. What a search of it may cost is known before: see node.steps.
type Index[T Subscriber] struct {
	version atomic.Uint64 // changes with every subscription
	cache   cache[T]

	mu   sync.RWMutex // a leaf; guards what follows
	root node[T]
	n    int
}

// New returns an empty index. A topic has at most that many levels.
func New[T Subscriber](levels int) *Index[T] {
	return &Index[T]{cache: cache[T]{levels: levels, seed: maphash.MakeSeed()}}
}

// NoLimit lets Add have as many steps as it takes.
const NoLimit = math.MaxInt32

// Add adds or replaces a subscription, and reports whether it is new and which version has it first. more is by
// how much the most steps of a search have grown. With more than most steps in all, or grown by more than room,
// nothing is added and ok is false.
func (x *Index[T]) Add(filter string, t T, sub Subscription, most, room int) (isNew bool, version uint64, more int, ok bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	before := max(1, x.root.steps)
	group, rest := SplitShared(filter)
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

// Remove removes a subscription, and reports whether there was one.
func (x *Index[T]) Remove(filter string, t T) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.version.Add(1)
	group, filter := SplitShared(filter)
	found := x.root.remove(group, filter, t)
	if found {
		x.n--
	}
	return found
}

// Len returns the number of subscriptions.
func (x *Index[T]) Len() int {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.n
}

// Version returns the number of the latest change. A Topic of that version or a later one has the subscriptions that were
// there before the call.
func (x *Index[T]) Version() uint64 { return x.version.Load() }

// match returns the subscribers of topic, each once, and the version of the index that it searched. The
// result is never nil.
func (x *Index[T]) match(topic string) ([]Match[T], uint64) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	f := x.find(topic)
	if f.places > 1 {
		f.found = merge(f.found)
	}
	return f.found, x.version.Load()
}

// find is called with mu held.
func (x *Index[T]) find(topic string) finder[T] {
	f := finder[T]{found: []Match[T]{}}
	// A wildcard at the first level does not match a topic of the server's own [MQTT-4.7.2-1].
	f.walk(&x.root, topic, strings.HasPrefix(topic, "$"))
	return f
}

// SplitShared takes the group's name off the filter of a shared subscription; other filters have none.
func SplitShared(filter string) (group, rest string) {
	if !strings.HasPrefix(filter, broker.SharedPrefix) {
		return "", filter
	}
	group, rest, _ = strings.Cut(filter[len(broker.SharedPrefix):], "/")
	return group, rest
}
