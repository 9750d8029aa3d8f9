// Package retained holds the retained message of each topic in memory.
//
// It keeps three promises. A publish that begins later is stored over one that began earlier, however they come to
// disk (Begin, Put, End). What clients retain leaves a reserve to this process, and a message that fits has its room from
// then on, so that many on their way to disk do not exceed the limits together (Fits). A subscription of one version of the
// index of filters finds just the messages that were not delivered to it live (Put, Matching).
//
// It writes nothing to disk: the journal has the messages, and Lane keeps the order of a topic's publishes in both the same.
// It decides neither who may retain nor what becomes of a message that does not fit.
package retained

import (
	"hash/maphash"
	"slices"
	"strings"
	"sync"

	"holdfast/broker"
	"holdfast/broker/journal"
)

// Entry is a retained message and what is known of its publish.
type Entry struct {
	Message *broker.Message // shared, not to be changed; nil for none
	At      journal.Time    // when it was published
	Version uint64          // of the index: subscribers of that version got the message when it was published
	Matched uint64          // of the index: a route of that version or an earlier one is owed the message
	Own     bool            // published by this process
	From    *journal.Reader // the reader of the route that it came from; nil for none
	Before  bool            // stored before the start: its origin is unknown
}

// Load is how much is retained.
type Load struct {
	Messages int
	Bytes    int // of topics, payloads and properties: see Weight
}

// Weight returns the bytes that a message counts in a Load.
func Weight(m *broker.Message) int { return len(m.Topic) + len(m.Payload) + len(m.Properties) }

func (l *Load) add(m *broker.Message, n int) {
	l.Messages += n
	l.Bytes += n * Weight(m)
}

func (l Load) plus(o Load) Load { return Load{l.Messages + o.Messages, l.Bytes + o.Bytes} }

func (l Load) within(most Load) bool { return l.Messages <= most.Messages && l.Bytes <= most.Bytes }

// reserve is the part of the limits that is reserved for this process: one in eight. Whatever clients retain, the states of
// sensors and outputs have room.
const reserve = 8

const lanes = 64

// Store holds the retained message of each topic. It is safe for concurrent use.
type Store struct {
	most Load
	free func(topic string) bool // topics whose messages do not count

	mu       sync.RWMutex // guards what follows; see Put
	messages map[string]Entry
	all      Load             // of all messages that count
	clients  Load             // of those that this process has not published
	promised Load             // of clients' messages that fit and are not stored yet
	taken    uint64           // publishes that have begun
	turns    map[string]*turn // topics with publishes on their way to disk

	lanes [lanes]sync.Mutex // locked before mu and the journal's locks
	seed  maphash.Seed
}

// turn records, while a topic has publishes on their way to disk, which one was stored last: one that began
// earlier and is on disk only now must not replace it.
type turn struct {
	onTheirWay int
	last       uint64
}

// New returns an empty store with limits. Messages of topics for which free returns true do not count in them.
func New(most Load, free func(topic string) bool) *Store {
	return &Store{most: most, free: free, messages: map[string]Entry{}, turns: map[string]*turn{}, seed: maphash.MakeSeed()}
}

// Lane returns the lock that makes publishes of a topic reach the store and the journal in the same order, so that a restart
// restores the store. Other topics may share it.
func (s *Store) Lane(topic string) *sync.Mutex {
	return &s.lanes[maphash.String(s.seed, topic)%lanes]
}

// Begin returns the number for a publish that is about to be appended to the journal; End ends it. Called with the topic's
// lane held.
func (s *Store) Begin(topic string) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.turns[topic]
	if t == nil {
		t = &turn{}
		s.turns[topic] = t
	}
	t.onTheirWay++
	s.taken++
	return s.taken
}

// End notes that a publish that began is committed or has failed.
func (s *Store) End(topic string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.turns[topic]
	if t.onTheirWay--; t.onTheirWay == 0 {
		delete(s.turns, topic)
	}
}

// passed reports whether a publish that began after n is stored already; if not it notes n. Called with mu held.
func (s *Store) passed(topic string, n uint64) bool {
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

// Put stores the message of a publish with the number n of Begin, and ends that it has room of its own, promised by Fits. It
// returns false if a publish of the topic that began later is stored already. Otherwise it stores what entry returns, which
// it calls with the store locked: an entry with the Version that the index has then is found by each later subscription, and
// by no earlier one. Without a payload it removes the topic's message [MQTT-3.3.1-6].
func (s *Store) Put(topic string, n uint64, promised Load, entry func() Entry) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.release(promised)
	if s.passed(topic, n) {
		return false
	}
	s.set(entry())
	return true
}

// Set stores an entry whatever is on its way to disk. Without a payload it removes the topic's message.
func (s *Store) Set(e Entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.set(e)
}

// set is called with mu held.
func (s *Store) set(e Entry) {
	m := e.Message
	if old, ok := s.messages[m.Topic]; ok {
		s.count(old, -1)
	}
	if len(m.Payload) == 0 {
		delete(s.messages, m.Topic)
	} else {
		s.messages[m.Topic] = e
		s.count(e, 1)
	}
}

func (s *Store) count(e Entry, n int) {
	if s.free(e.Message.Topic) {
		return
	}
	s.all.add(e.Message, n)
	if !e.Own {
		s.clients.add(e.Message, n)
	}
}

// Fits reports whether the limits leave room for a message, and whether its topic has one already. A client's message
// does not fit into the reserve, and has its room, promised, from now on until Put or Release. One of this process, own, fits
// into the reserve whatever clients have.
func (s *Store) Fits(m *broker.Message, own bool) (fits, had bool, promised Load) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all, clients := s.all, s.clients
	old, had := s.messages[m.Topic]
	if had {
		all.add(old.Message, -1)
		if !old.Own {
			clients.add(old.Message, -1)
		}
	}
	all.add(m, 1)
	kept := Load{s.most.Messages / reserve, s.most.Bytes / reserve}
	if own {
		of := Load{all.Messages - clients.Messages, all.Bytes - clients.Bytes}
		return all.within(s.most) || of.within(kept), had, Load{}
	}
	clients.add(m, 1)
	clients = clients.plus(s.promised)
	if !all.plus(s.promised).within(s.most) || !clients.within(Load{s.most.Messages - kept.Messages, s.most.Bytes - kept.Bytes}) {
		return false, had, Load{}
	}
	promised.add(m, 1)
	s.promised = s.promised.plus(promised)
	return true, had, promised
}

// Release gives back the room of a message that is not stored.
func (s *Store) Release(promised Load) {
	if promised == (Load{}) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.release(promised)
}

// release is called with mu held.
func (s *Store) release(promised Load) {
	s.promised = s.promised.plus(Load{-promised.Messages, -promised.Bytes})
}

// Forget removes the message of a topic that does not count.
func (s *Store) Forget(topic string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.messages, topic)
}

// Latest returns the stored message of a topic, and whether publishes of it are on their way to disk.
func (s *Store) Latest(topic string) (e Entry, onTheirWay bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.messages[topic], s.turns[topic] != nil
}

// Has reports whether m is still the retained message of its topic.
func (s *Store) Has(m *broker.Message) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.messages[m.Topic].Message == m
}

// Matching returns the messages whose topics filter matches, by topic, for a subscription of that version
// of the index.
func (s *Store) Matching(filter string, version uint64) []Entry {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if !strings.ContainsAny(filter, "+#") {
		if e, ok := s.messages[filter]; ok && e.Version < version {
			return []Entry{e}
		}
		return nil
	}
	var found []Entry
	for topic, e := range s.messages {
		if e.Version < version && broker.Match(filter, topic) {
			found = append(found, e)
		}
	}
	slices.SortFunc(found, func(a, b Entry) int { return strings.Compare(a.Message.Topic, b.Message.Topic) })
	return found
}

// Topics returns, in order, the topics after one that have a message or one on its way to disk, and count. wants selects
// among them; it must not call the store.
func (s *Store) Topics(wants func(topic string) bool, after string) (found []string) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for topic := range s.messages {
		if topic > after && !s.free(topic) && wants(topic) {
			found = append(found, topic)
		}
	}
	for topic := range s.turns {
		if topic > after && !s.free(topic) && wants(topic) {
			found = append(found, topic)
		}
	}
	slices.Sort(found)
	return slices.Compact(found)
}

// Bytes returns the weight of all messages that count.
func (s *Store) Bytes() int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.all.Bytes
}

// Len returns the number of messages, also of those that do not count.
func (s *Store) Len() int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return len(s.messages)
}
