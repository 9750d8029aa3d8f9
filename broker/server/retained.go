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
}

// retainedStore has the retained message of each topic. The journal has them on disk.
type retainedStore struct {
	mu       sync.RWMutex
	messages map[string]kept
}

func (s *retainedStore) set(m *broker.Message, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(m.Payload) == 0 {
		delete(s.messages, m.Topic) // [MQTT-3.3.1-6]
	} else {
		s.messages[m.Topic] = kept{m, at}
	}
}

// matching returns the messages whose topics filter matches, by topic.
func (s *retainedStore) matching(filter string) []kept {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if !strings.ContainsAny(filter, "+#") {
		if k, ok := s.messages[filter]; ok {
			return []kept{k}
		}
		return nil
	}
	var found []kept
	for topic, k := range s.messages {
		if broker.Match(filter, topic) {
			found = append(found, k)
		}
	}
	slices.SortFunc(found, func(a, b kept) int { return strings.Compare(a.message.Topic, b.message.Topic) })
	return found
}

func (s *retainedStore) len() int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return len(s.messages)
}

// remaining is what is left of a message's lifetime, and false if it is over. The time waited is
// taken off what the publisher allowed [MQTT-3.3.2-6].
func remaining(m *broker.Message, at time.Time) (seconds uint32, ok bool) {
	if !m.Expires {
		return 0, true
	}
	waited := max(0, time.Since(at))
	if waited >= time.Duration(m.Expiry)*time.Second {
		return 0, false
	}
	return m.Expiry - uint32(waited/time.Second), true
}
