package server

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

// topic is a topic name with its subscribers. It does not change.
type topic struct {
	name    string
	err     error // why it cannot be published to
	version uint64
	matches []match // of that version of the index; shared
	groups  bool    // whether there are shared subscriptions among them
}

// topicCache remembers topics, so that a publisher that names one again costs neither a string nor a
// walk through the index. Its size is fixed: a slot keeps the last topic that fell into it.
type topicCache struct {
	levels int // most levels of a topic
	seed   maphash.Seed
	slots  [topicSlots]atomic.Pointer[topic]
}

func (c *topicCache) slot(name string) *atomic.Pointer[topic] {
	return &c.slots[maphash.String(c.seed, name)%topicSlots]
}

// get returns the topic of that name.
func (c *topicCache) get(name []byte) *topic {
	if len(name) > longestTopic {
		return c.check(string(name))
	}
	slot := &c.slots[maphash.Bytes(c.seed, name)%topicSlots]
	if t := slot.Load(); t != nil && t.name == string(name) {
		return t
	}
	t := c.check(string(name))
	slot.Store(t)
	return t
}

func (c *topicCache) check(name string) *topic {
	return &topic{name: name, err: checkTopic(name, c.levels)}
}

// checkTopic returns why a topic with at most that many levels cannot be published to.
func checkTopic(name string, levels int) error {
	if err := broker.CheckTopic(name); err != nil {
		return err
	}
	if strings.Count(name, "/") >= levels {
		return fmt.Errorf("topic of more than %d levels", levels)
	}
	return nil
}

func (s *Server) checkTopic(name string) error { return checkTopic(name, s.topics.levels) }

// resolve returns the topic with its current subscribers.
func (s *Server) resolve(t *topic) *topic {
	if t.matches != nil && t.version == s.index.version.Load() {
		return t
	}
	r := &topic{name: t.name, err: t.err}
	r.matches, r.version = s.index.match(t.name)
	for i := range r.matches {
		r.groups = r.groups || r.matches[i].group != nil
	}
	if len(t.name) <= longestTopic && len(r.matches) <= mostMatches {
		s.topics.slot(t.name).Store(r)
	}
	return r
}

// named is resolve for a name that is known to be well-formed.
func (s *Server) named(name string) *topic {
	if len(name) <= longestTopic {
		if t := s.topics.slot(name).Load(); t != nil && t.name == name {
			return s.resolve(t)
		}
	}
	return s.resolve(&topic{name: name})
}
