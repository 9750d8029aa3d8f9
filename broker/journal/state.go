package journal

import (
	"slices"
	"strings"

	"holdfast/broker"
)

// keyWeight is the bytes of memory that a key costs beside itself and its value.
const keyWeight = 64

// state is what the journal keeps for its users beside messages that readers are owed. It is as on disk: changes come
// when they are durable. Guarded by Journal.mu.
type state struct {
	keys     map[string][]byte
	size     int64               // bytes of memory that keys takes
	coming   int64               // the same of entries that are not on disk yet
	retained map[string]retained // by topic
}

// retained is the retained message of a topic.
type retained struct {
	message *broker.Message
	time    Time
	seg     *segment // for its time, while opening
}

func newState() state { return state{keys: map[string][]byte{}, retained: map[string]retained{}} }

func stateWeight(key string, value []byte) int64 { return keyWeight + int64(len(key)+len(value)) }

// stateSize is what the entry's changes add to the state, in bytes of memory, if all keys are new.
func (e *Entry) stateSize() (n int64) {
	for _, c := range e.Changes {
		if c.Value != nil && !strings.HasPrefix(c.Key, readerPrefix) {
			n += stateWeight(c.Key, c.Value)
		}
	}
	return n
}

// grows reports whether changes add keys beyond most bytes of state. Replacing or deleting a key is always possible.
func (s *state) grows(changes []Change, most int64) bool {
	var added int64
	for _, c := range changes {
		if _, known := s.keys[c.Key]; !known && c.Value != nil {
			added += stateWeight(c.Key, c.Value)
		}
	}
	return added > 0 && s.size+s.coming+added > most
}

// arrived takes what b adds off coming: the batch is on disk, or has failed.
func (s *state) arrived(b *batch) {
	for i := range b.items {
		if e := &b.items[i].entry; len(e.Changes) > 0 {
			s.coming -= e.stateSize()
		}
	}
}

// set sets a key, or deletes it if value is nil.
func (s *state) set(key string, value []byte) {
	if old, ok := s.keys[key]; ok {
		s.size -= stateWeight(key, old)
	}
	if value == nil {
		delete(s.keys, key)
		return
	}
	s.keys[key] = value
	s.size += stateWeight(key, value)
}

// retain makes m the retained message of its topic; one without a payload removes it. in is its segment, while opening.
func (s *state) retain(m *broker.Message, t Time, in *segment) {
	if len(m.Payload) == 0 {
		delete(s.retained, m.Topic)
	} else {
		s.retained[m.Topic] = retained{m, t, in}
	}
}

// Get returns the value of a key, and whether there is one. The value is shared and must not be changed.
// Changes of entries that are not yet durable are not seen.
func (j *Journal) Get(key string) ([]byte, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	value, ok := j.state.keys[key]
	return value, ok
}

// rangeStep is how many keys Range looks at before it lets others have the journal.
const rangeStep = 1000

// Range calls f for each key that has the prefix, in order, until f returns false. Values are shared
// and must not be changed. Changes of entries that are not yet durable are not seen, and those that become durable
// while Range looks for keys are seen or not. The journal is not locked while f runs, and appends wait for no
// more than a part of the search.
func (j *Journal) Range(prefix string, f func(key string, value []byte) bool) {
	type entry struct {
		key   string
		value []byte
	}
	var found []entry
	seen := 0
	j.mu.Lock()
	for key, value := range j.state.keys { // a map may change between two steps of its iteration
		if strings.HasPrefix(key, prefix) {
			found = append(found, entry{key, value})
		}
		if seen++; seen%rangeStep == 0 {
			j.mu.Unlock()
			j.mu.Lock()
		}
	}
	j.mu.Unlock()
	slices.SortFunc(found, func(a, b entry) int { return strings.Compare(a.key, b.key) })
	for _, e := range found {
		if !f(e.key, e.value) {
			return
		}
	}
}

// RangeRetained calls f for each retained message, in no order, until f returns false. Messages are
// shared and must not be changed.
func (j *Journal) RangeRetained(f func(m *broker.Message, t Time) bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, r := range j.state.retained {
		if !f(r.message, r.time) {
			return
		}
	}
}
