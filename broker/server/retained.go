package server

import (
	"slices"
	"strings"
	"sync"
	"time"

	"holdfast/broker"
)

// kept is a retained message and when it came.
type kept struct {
	message *broker.Message
	at      time.Time
	version uint64 // of the index: who had subscribed by then was given the message as it came
}

// retainedStore has the retained message of each topic. The journal has them on disk.
type retainedStore struct {
	mu       sync.RWMutex
	messages map[string]kept
	bytes    int // of topics, payloads and properties
}

// set is called with mu held.
func (s *retainedStore) set(m *broker.Message, at time.Time, version uint64) {
	if old, ok := s.messages[m.Topic]; ok {
		s.bytes -= weight(old.message)
	}
	if len(m.Payload) == 0 {
		delete(s.messages, m.Topic) // [MQTT-3.3.1-6]
	} else {
		s.messages[m.Topic] = kept{m, at, version}
		s.bytes += weight(m)
	}
}

func weight(m *broker.Message) int { return len(m.Topic) + len(m.Payload) + len(m.Properties) }

// retain stores the message of p, and adds to its subscribers those who came while it was on its way to
// disk. Whoever subscribes later finds it stored: nobody misses it, and nobody gets it as both.
func (s *Server) retain(p *publication) {
	s.kept.mu.Lock()
	t := s.named(p.topic.name)
	s.kept.set(p.message, p.at, t.version)
	s.kept.mu.Unlock()
	if t.version != p.topic.version {
		p.addLate(t.matches)
	}
}

// mayRetain says whether the limits leave room for a retained message. Beyond them it is delivered all
// the same.
func (s *Server) mayRetain(m *broker.Message) bool {
	if len(m.Payload) == 0 {
		return true
	}
	s.kept.mu.RLock()
	n, size := len(s.kept.messages)+1, s.kept.bytes+weight(m)
	if old, ok := s.kept.messages[m.Topic]; ok {
		n, size = n-1, size-weight(old.message)
	}
	s.kept.mu.RUnlock()
	if n <= s.opts.MaxRetained && size <= s.opts.MaxRetainedBytes {
		return true
	}
	if s.counts.notRetained.Add(1) == 1 {
		s.log.Warn("a message is not retained: a limit is reached", "topic", m.Topic, "messages", n-1, "bytes", size)
	}
	return false
}

// matching returns the messages whose topics filter matches, by topic, for a subscription of that version
// of the index.
func (s *retainedStore) matching(filter string, version uint64) []kept {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if !strings.ContainsAny(filter, "+#") {
		if k, ok := s.messages[filter]; ok && k.version < version {
			return []kept{k}
		}
		return nil
	}
	var found []kept
	for topic, k := range s.messages {
		if k.version < version && broker.Match(filter, topic) {
			found = append(found, k)
		}
	}
	slices.SortFunc(found, func(a, b kept) int { return strings.Compare(a.message.Topic, b.message.Topic) })
	return found
}

// has says whether m is still the retained message of its topic.
func (s *retainedStore) has(m *broker.Message) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.messages[m.Topic].message == m
}

func (s *retainedStore) size() int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.bytes
}

func (s *retainedStore) len() int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return len(s.messages)
}

// remaining is what is left of a lifetime in seconds, and false if it is over. The time waited is taken
// off what the publisher allowed [MQTT-3.3.2-6].
func remaining(expiry uint32, at time.Time) (seconds uint32, ok bool) {
	waited := max(0, time.Since(at))
	if waited >= time.Duration(expiry)*time.Second {
		return 0, false
	}
	return expiry - uint32(waited/time.Second), true
}
