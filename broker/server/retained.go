package server

import (
	"errors"
	"hash/maphash"
	"slices"
	"strings"
	"sync"
	"time"

	"holdfast/broker"
	"holdfast/broker/journal"
)

// retained is a retained message and when it came.
type retained struct {
	message *broker.Message
	at      journal.Time
	version uint64          // of the index: who had subscribed by then was given the message as it came
	matched uint64          // of the index: a route of that version or an earlier one is owed the message
	own     bool            // published by this process
	from    *journal.Reader // the route that it came by; nil for none
	before  bool            // it is from before the start: where it came from is not known
}

// retainedReserve is which part of the limits of retained messages is kept for those of this process: one in
// eight. Whatever clients retain, the states of sensors and outputs have room.
const retainedReserve = 8

// retainedStore has the retained message of each topic. The journal has them on disk.
type retainedStore struct {
	mu       sync.RWMutex
	messages map[string]retained
	all      load             // of what counts: $SYS does not
	clients  load             // of that, what this process has not published
	taken    uint64           // retained publishes that the journal was given
	turns    map[string]*turn // topics with some on their way to disk

	// lanes keep the order in which retained publishes of a topic are taken and given to the journal the same, so that
	// after a restart the store is what it was. Before mu and the journal's locks; the completer takes none of them.
	lanes [retainedLanes]sync.Mutex
	seed  maphash.Seed
}

const retainedLanes = 64

// turn tells, while a topic has retained publishes on their way to disk, which one was stored last: one that was taken
// earlier and is on disk only now must not replace it.
type turn struct {
	onTheirWay int
	last       uint64
}

func (s *retainedStore) lane(topic string) *sync.Mutex {
	return &s.lanes[maphash.String(s.seed, topic)%retainedLanes]
}

// begin returns the number of a retained publish that the journal is about to get. Called with the topic's lane held.
func (s *retainedStore) begin(topic string) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.turns == nil {
		s.turns = map[string]*turn{}
	}
	t := s.turns[topic]
	if t == nil {
		t = &turn{}
		s.turns[topic] = t
	}
	t.onTheirWay++
	s.taken++
	return s.taken
}

// end notes that a publish that began is on its way no more, whatever became of it.
func (s *retainedStore) end(topic string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.turns[topic]
	if t.onTheirWay--; t.onTheirWay == 0 {
		delete(s.turns, topic)
	}
}

// passed reports whether a publish was stored that was taken after n, and notes n otherwise. Called with mu held.
func (s *retainedStore) passed(topic string, n uint64) bool {
	t := s.turns[topic]
	if t == nil {
		return false
	}
	if n < t.last {
		return true
	}
	t.last = n
	return false
}

// load is how much is retained.
type load struct {
	messages int
	bytes    int // of topics, payloads and properties
}

func (l *load) add(m *broker.Message, n int) {
	l.messages += n
	l.bytes += n * weight(m)
}

// set is called with mu held.
func (s *retainedStore) set(k retained) {
	m := k.message
	if old, ok := s.messages[m.Topic]; ok {
		s.count(old, -1)
	}
	if len(m.Payload) == 0 {
		delete(s.messages, m.Topic) // [MQTT-3.3.1-6]
	} else {
		s.messages[m.Topic] = k
		s.count(k, 1)
	}
}

func (s *retainedStore) count(k retained, n int) {
	if isSys(k.message.Topic) {
		return
	}
	s.all.add(k.message, n)
	if !k.own {
		s.clients.add(k.message, n)
	}
}

// fits reports whether the limits leave room for a message, and whether there is one of its topic. That is never
// true of a client's where only the reserve is left.
func (s *retainedStore) fits(m *broker.Message, own bool, most load) (fits, had bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	all, clients := s.all, s.clients
	old, had := s.messages[m.Topic]
	if had {
		all.add(old.message, -1)
		if !old.own {
			clients.add(old.message, -1)
		}
	}
	all.add(m, 1)
	clients.add(m, 1)
	fits = all.messages <= most.messages && all.bytes <= most.bytes
	if !own {
		fits = fits && clients.messages <= most.messages-most.messages/retainedReserve && clients.bytes <= most.bytes-most.bytes/retainedReserve
	}
	return fits, had
}

func weight(m *broker.Message) int { return len(m.Topic) + len(m.Payload) + len(m.Properties) }

// retain stores the message of p, and adds to its subscribers those who came while it was on its way to
// disk. Whoever subscribes later finds it stored: nobody misses it, and nobody gets it as both.
func (s *Server) retain(p *publication) {
	at := s.journal.Now()
	at.Boot -= time.Since(p.at) // since it came
	s.retained.mu.Lock()
	t := s.named(p.topic.name)
	passed := s.retained.passed(t.name, p.taken)
	if !passed {
		s.retained.set(retained{message: p.message, at: at, version: t.version, matched: p.topic.version, own: p.own, from: p.from})
	}
	s.retained.mu.Unlock()
	if !passed && t.version != p.topic.version && !p.silent {
		p.addLate(t.matches)
	}
}

// unretain removes what is retained of a topic because the journal did not take a newer message, which nothing could
// serve after a restart: the older one is not true any more. Called with the topic's lane held.
func (s *Server) unretain(topic string) {
	gone := &broker.Message{Topic: topic, Retain: true}
	s.counts.notRetained.Add(1)
	s.retained.mu.Lock()
	s.retained.set(retained{message: gone})
	s.retained.mu.Unlock()
	if err := s.journal.Append(journal.Entry{Message: gone, Retained: true, Lazy: true}); err != nil && !errors.Is(err, journal.ErrClosed) {
		s.log.Error("a retained message that is not true any more is still on disk", "topic", topic, "error", err)
	}
}

// mayRetain reports whether the limits leave room for a retained message. Beyond them it is delivered all the
// same, and what was retained of its topic is deleted: a state that is not true any more is never served.
func (s *Server) mayRetain(p *publication) bool {
	m := p.message
	if len(m.Payload) == 0 {
		return true
	}
	fits, had := s.retained.fits(m, p.own, load{s.opts.MaxRetained, s.opts.MaxRetainedBytes})
	if fits {
		return true
	}
	s.counts.notRetained.Add(1)
	s.reached(limitRetained, "a message is not retained", "topic", m.Topic, "bytes", weight(m), "older_deleted", had)
	if had {
		gone := newPublication(s, &broker.Message{Topic: m.Topic, QoS: m.QoS, Retain: true}, p.at)
		gone.topic, gone.silent, p.behind = s.named(m.Topic), true, m.QoS > 0
		if err := s.append(gone, journal.Entry{Message: gone.message, Retained: true, Lazy: p.lazy, Done: gone}, nil); err != nil {
			s.log.Error("a retained message that is not true any more cannot be deleted", "topic", m.Topic, "error", err)
		}
	}
	return false
}

// matching returns the messages whose topics filter matches, by topic, for a subscription of that version
// of the index.
func (s *retainedStore) matching(filter string, version uint64) []retained {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if !strings.ContainsAny(filter, "+#") {
		if k, ok := s.messages[filter]; ok && k.version < version {
			return []retained{k}
		}
		return nil
	}
	var found []retained
	for topic, k := range s.messages {
		if k.version < version && broker.Match(filter, topic) {
			found = append(found, k)
		}
	}
	slices.SortFunc(found, func(a, b retained) int { return strings.Compare(a.message.Topic, b.message.Topic) })
	return found
}

// Retained returns the retained message of a topic, nil if there is none. The message is shared and must not be changed.
// from reports whether it came from the reader of route. before reports whether it was stored before the start, in which
// case its publisher is unknown.
func (s *Server) Retained(topic string, route *journal.Reader) (m *broker.Message, from, before bool) {
	k, _ := s.retained.latest(topic)
	return k.message, k.from != nil && k.from == route, k.before
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
	return s.all.bytes
}

func (s *retainedStore) len() int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return len(s.messages)
}
