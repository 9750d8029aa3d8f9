package server

import (
	"errors"
	"hash/maphash"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"holdfast/broker"
	"holdfast/broker/journal"
	"holdfast/broker/server/limits"
)

// retained is a retained message and when it was published.
type retained struct {
	message *broker.Message
	at      journal.Time
	version uint64          // of the index: subscribers of that version got the message when it was published
	matched uint64          // of the index: a route of that version or an earlier one is owed the message
	own     bool            // published by this process
	from    *journal.Reader // the reader of the route that it came from; nil for none
	before  bool            // stored before the start: its origin is unknown
}

// retainedReserve is the part of the limits of retained messages that is reserved for this process: one in
// eight. Whatever clients retain, the states of sensors and outputs have room.
const retainedReserve = 8

// retainedStore holds the retained message of each topic. The journal has them on disk.
type retainedStore struct {
	mu       sync.RWMutex
	messages map[string]retained
	all      load             // of all messages but those of $SYS
	clients  load             // of those that this process has not published
	promised load             // of clients' messages that fit and are not stored yet
	taken    uint64           // retained publishes appended to the journal
	turns    map[string]*turn // topics with retained publishes on their way to disk

	// lanes make retained publishes of a topic reach the store and the journal in the same order, so that
	// a restart restores the store. Locked before mu and the journal's locks; the completer takes none of them.
	lanes [retainedLanes]sync.Mutex
	seed  maphash.Seed
}

const retainedLanes = 64

// turn records, while a topic has retained publishes on their way to disk, which one was stored last: one that began
// earlier and is on disk only now must not replace it.
type turn struct {
	onTheirWay int
	last       uint64
}

func (s *retainedStore) lane(topic string) *sync.Mutex {
	return &s.lanes[maphash.String(s.seed, topic)%retainedLanes]
}

// begin returns the number for a retained publish that is about to be appended. Called with the topic's lane held.
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

// end notes that a publish that began is committed or has failed.
func (s *retainedStore) end(topic string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.turns[topic]
	if t.onTheirWay--; t.onTheirWay == 0 {
		delete(s.turns, topic)
	}
}

// passed reports whether a publish that began after n is stored already; if not it notes n. Called with mu held.
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

func (l load) plus(o load) load { return load{l.messages + o.messages, l.bytes + o.bytes} }

func (l load) within(most load) bool { return l.messages <= most.messages && l.bytes <= most.bytes }

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

// fits reports whether the limits leave room for p's message, and whether its topic has one already. A client's message
// does not fit into the reserve, and has its room from now on until it is stored or p is released. One of this process
// fits into the reserve whatever clients have.
func (s *retainedStore) fits(p *publication, most load) (fits, had bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m, all, clients := p.message, s.all, s.clients
	old, had := s.messages[m.Topic]
	if had {
		all.add(old.message, -1)
		if !old.own {
			clients.add(old.message, -1)
		}
	}
	all.add(m, 1)
	reserve := load{most.messages / retainedReserve, most.bytes / retainedReserve}
	if p.own {
		own := load{all.messages - clients.messages, all.bytes - clients.bytes}
		return all.within(most) || own.within(reserve), had
	}
	clients.add(m, 1)
	clients = clients.plus(s.promised)
	if !all.plus(s.promised).within(most) || !clients.within(load{most.messages - reserve.messages, most.bytes - reserve.bytes}) {
		return false, had
	}
	p.retention.promised.add(m, 1)
	s.promised = s.promised.plus(p.retention.promised)
	return true, had
}

// keepPromise ends that p has room of its own. Called with mu held.
func (s *retainedStore) keepPromise(p *publication) {
	s.promised = s.promised.plus(load{-p.retention.promised.messages, -p.retention.promised.bytes})
	p.retention.promised = load{}
}

func weight(m *broker.Message) int { return len(m.Topic) + len(m.Payload) + len(m.Properties) }

// retain stores the message of p, and adds the clients that subscribed while it was on its way to disk to its
// subscribers. A later subscriber finds it stored: each subscription gets it either live or as retained, once.
func (s *Server) retain(p *publication) {
	at := s.journal.Now()
	at.Boot -= time.Since(p.at) // since it came
	s.retained.mu.Lock()
	t := s.index.Named(p.audience.topic.Name)
	s.retained.keepPromise(p)
	passed := s.retained.passed(t.Name, p.retention.taken)
	if !passed {
		s.retained.set(retained{message: p.message, at: at, version: t.Version, matched: p.audience.topic.Version, own: p.own, from: p.opts.From})
	}
	s.retained.mu.Unlock()
	if !passed && t.Version != p.audience.topic.Version && !p.silent {
		p.audience.addLate(t)
	}
}

// appendRetained appends a retained message to the journal. One of QoS 0, for which the publisher gets no answer that
// could wait for the disk, is stored at once: a client that subscribes after the server has received it, as a PINGRESP or
// any other answer shows, finds it, or finds the one gone that it deletes [MQTT-3.3.1-8]. It is also delivered at
// once, unless messages of the same client are on their way to disk, whose order it keeps. So is one with AtOnce.
func (s *Server) appendRetained(p *publication, e journal.Entry) (err error, handOut bool) {
	topic := e.Message.Topic
	lane := s.retained.lane(topic)
	lane.Lock()
	defer lane.Unlock()
	if p.opts.Instead != nil {
		if k, onTheirWay := s.retained.latest(topic); k.message != p.opts.Instead || onTheirWay {
			return ErrReplaced, false
		}
	}
	p.retention.taken = s.retained.begin(topic)
	now := e.Message.QoS == 0 || p.opts.AtOnce
	if now && (p.client.conn == nil || p.client.conn.window.pending.Load() == 1) { // its own
		e.Done, handOut = &storedAtOnce{s, topic, p.client.conn, p.opts.Done}, true
		e.Owed = slices.Clone(e.Owed) // p is released before the journal has written it
	}
	// Before Append, after which p is the completer's. Meanwhile only publishes that have passed can store the topic.
	if now {
		s.retain(p)
		p.retention.stored = true
	}
	if err = s.journal.Append(e); err != nil {
		s.retained.end(topic)
		if now {
			s.unretain(topic)
		}
		return err, false
	}
	if handOut {
		p.opts.Done = nil
	}
	return nil, handOut
}

// storedAtOnce finishes the publish of a retained message of QoS 0 when it is on disk.
type storedAtOnce struct {
	s     *Server
	topic string
	conn  *conn
	done  func(error)
}

func (r *storedAtOnce) Committed(_ *journal.Entry, _ uint64, err error) {
	if err != nil {
		r.s.counts.dropped.refused.Add(1)
	}
	r.s.retained.end(r.topic)
	if r.conn != nil {
		r.conn.settled()
	}
	if r.done != nil {
		r.done(err)
	}
}

// unretain removes the retained message of a topic because the journal refused a newer one: the older is not true any
// more, and the newer would be lost at a restart. Called with the topic's lane held.
func (s *Server) unretain(topic string) {
	gone := &broker.Message{Topic: topic, Retain: true}
	s.counts.dropped.notRetained.Add(1)
	s.retained.mu.Lock()
	s.retained.set(retained{message: gone})
	s.retained.mu.Unlock()
	if err := s.journal.Append(journal.Entry{Message: gone, Retained: true, Lazy: true}); err != nil && !errors.Is(err, journal.ErrClosed) {
		s.log.Error("a retained message that is not true any more is still on disk", "topic", topic, "error", err)
	}
}

// mayRetain reports whether the limits leave room for a retained message. If not, it is still delivered, and
// mayRetain deletes the topic's retained message: a state that is not true any more is never served.
func (s *Server) mayRetain(p *publication) bool {
	m := p.message
	if len(m.Payload) == 0 {
		return true
	}
	fits, had := s.retained.fits(p, load{s.opts.MaxRetained, s.opts.MaxRetainedBytes})
	if fits {
		return true
	}
	s.counts.dropped.notRetained.Add(1)
	s.limits.Reached(limits.Retained, "a message is not retained", "topic", m.Topic, "bytes", weight(m), "older_deleted", had)
	if had {
		gone := newPublication(s, &broker.Message{Topic: m.Topic, QoS: m.QoS, Retain: true}, p.at)
		gone.audience.topic, gone.silent, p.behind = s.index.Named(m.Topic), true, m.QoS > 0
		if err := s.append(gone, journal.Entry{Message: gone.message, Retained: true, Lazy: p.opts.Lazy, Done: gone}, nil); err != nil {
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

// RetainedMessages returns the retained messages whose topics filter matches, by topic. They are shared and must not be
// changed.
func (s *Server) RetainedMessages(filter string) (list []*broker.Message) {
	for _, k := range s.retained.matching(filter, math.MaxUint64) {
		list = append(list, k.message)
	}
	return list
}

// has reports whether m is still the retained message of its topic.
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
