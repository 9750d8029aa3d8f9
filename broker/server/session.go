package server

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"holdfast/broker/auth"
	"holdfast/broker/journal"
	"holdfast/broker/wire"
)

// Prefixes of the journal's keys of sessions. A client identifier has no NUL, so each key can be
// split again.
const (
	sessionKey   = "session/"   // + client id: expiry and owner; also the name of the session's reader
	subKey       = "sub/"       // + client id + NUL + filter: subscription
	receivedKey  = "received/"  // + number + / + packet id: a QoS 2 publish that was not released; value: epoch, a varint
	deliveredKey = "delivered/" // + number + / + packet id: sequence number and state of a QoS 2 delivery
)

// Keys of earlier versions, with the client identifier, NUL and the packet identifier in two bytes. They are
// read and replaced at the start.
const (
	oldReceivedKey  = "in/"
	oldDeliveredKey = "out/"
)

// session is the server's state of a client, connected or not (MQTT 5.0 section 4.1).
type session struct {
	s      *Server
	id     string
	user   string                  // whose share of the limits it has; see conn.user
	target *target                 // in the index
	reader *journal.Reader         // nil if the session ends with its connection
	conn   atomic.Pointer[conn]    // nil while the client is away
	subs   map[string]subscription // guarded by mu
	weight int                     // of the filters in subs; guarded by mu
	steps  int                     // by which they have made searches of the index longer; guarded by mu

	subscribed atomic.Int32 // len(subs), readable without mu

	grant atomic.Pointer[auth.Grant] // the owner's rights, connected or not; nil while the owner is unknown

	// Guarded by Server.mu.
	owner     auth.Owner
	owned     bool   // false for a session of a version without owners, until a client takes it
	expiry    uint32 // seconds, or forever
	timer     *time.Timer
	will      *will // waits for its delay
	willTimer *time.Timer
	left      time.Time // when its connection ended; zero if that was in an earlier process

	inbox inbox

	leaf     sync.Mutex          // held for moves of pointers only
	received map[uint16]struct{} // QoS 2 publishes that the client has not released; guarded by leaf

	mu       sync.Mutex // before conn.mu and leaf
	numbered bool       // whether a subscription has an identifier
	over     bool       // it gets no more messages
	outbox
}

func (s *Server) newSession(id, user string, durable bool) (*session, error) {
	x := &session{s: s, id: id, user: user, target: &target{}}
	x.target.session = x
	if durable {
		r, err := s.journal.OpenReader(sessionKey + id)
		if err != nil {
			return nil, err
		}
		x.reader, x.target.reader = r, r
		x.id = r.Name()[len(sessionKey):] // in memory once, and not as the packet's: it may have 1,024 bytes
		r.Notify(x.notify)
		r.SetLimit(s.opts.MaxBacklog)
	}
	s.sessions[x.id] = x
	s.tally.add(x, 1)
	return x, nil
}

// attach binds a connection that may send quota messages before the client answers one. QoS 2 deliveries that the
// client has received but not completed count from the beginning, until PUBCOMP. So a client that
// never completes gets no more than its receive maximum, however often it reconnects.
func (x *session) attach(c *conn, quota int) {
	x.mu.Lock()
	x.unstow()
	x.quota = quota
	x.again = x.again[:0]
	x.dropReady()
	for _, f := range x.flights {
		f.charged = false
		if f.seq == 0 || f.released {
			x.again = append(x.again, f)
		}
		if f.released {
			x.charge(f)
		}
	}
	x.dropLost()
	slices.SortFunc(x.again, func(a, b *flight) int { return cmp.Compare(a.n, b.n) })
	x.mu.Unlock()
	if x.reader != nil {
		x.reader.Attach() // hands the others out again [MQTT-4.4.0-1]
	}
	x.conn.Store(c)
}

// detach unbinds the connection, whose goroutines have ended. It returns how many deliveries it dropped for lack of
// memory.
func (x *session) detach() (lost int) {
	x.conn.Store(nil)
	x.mu.Lock()
	x.dropReady()
	if x.reader == nil { // the queue in memory ends with the session
		x.over = true
		x.s.waiting.Add(-int64(x.queued))
		x.queue, x.queued = nil, 0
	}
	if x.reader != nil {
		lost = x.stow()
	}
	x.mu.Unlock()
	x.s.counts.droppedQueue.Add(uint64(lost))
	if x.reader != nil {
		x.reader.Detach()
	}
	return lost
}

// setExpiry is called with Server.mu held.
func (x *session) setExpiry(seconds uint32) error {
	x.expiry = seconds
	if x.reader == nil {
		return nil
	}
	return x.s.journal.Append(journal.Entry{
		Limited: true,
		Changes: []journal.Change{{Key: x.reader.Name(), Value: x.encode()}}, Lazy: true,
	})
}

// scheduleExpiry starts the session's expiry timer. After a restart it starts again, because no clock can
// be trusted to know how long the power was off: a session lives at least as long as it was promised.
// Called with Server.mu held.
func (x *session) scheduleExpiry() {
	if x.expiry == forever {
		return
	}
	var t *time.Timer
	t = time.AfterFunc(time.Duration(x.expiry)*time.Second, func() {
		x.s.mu.Lock()
		if x.timer != t {
			x.s.mu.Unlock()
			return
		}
		will := x.stopTimers()
		x.s.discard(x, reasonSessionExpired)
		x.s.mu.Unlock()
		x.s.counts.expired.Add(1)
		x.s.log.Info("session expired", "client", x.id)
		x.s.publishWill(will)
	})
	x.timer = t
}

// delayWill is called with Server.mu held.
func (x *session) delayWill(w *will) {
	var t *time.Timer
	t = time.AfterFunc(time.Duration(w.Delay)*time.Second, func() {
		x.s.mu.Lock()
		due := x.willTimer == t
		if due {
			x.will, x.willTimer = nil, nil
		}
		x.s.mu.Unlock()
		if due {
			x.s.publishWill(w)
		}
	})
	x.will, x.willTimer = w, t
}

// stopTimers stops the timers and returns the delayed will. Called with Server.mu held.
func (x *session) stopTimers() *will {
	for _, t := range []*time.Timer{x.timer, x.willTimer} {
		if t != nil {
			t.Stop()
		}
	}
	w := x.will
	x.timer, x.willTimer, x.will = nil, nil, nil
	return w
}

// Reasons in the journal's losses for the messages of a discarded session.
const (
	reasonCleanStart     = "clean_start"     // its owner began a new one
	reasonSessionExpired = "session_expired" // it was away for longer than it had asked for
	reasonEvicted        = "session_evicted" // another session needed its place
	reasonEnded          = "session_ended"   // it was to end with the connection
)

// discard deletes a session that has no connection. The journal records its messages as lost, with reason.
// Called with mu held.
func (s *Server) discard(x *session, reason string) {
	delete(s.sessions, x.id)
	s.tally.add(x, -1)
	x.mu.Lock()
	defer x.mu.Unlock()
	x.over = true
	for filter := range x.subs {
		s.index.remove(filter, x.target)
	}
	s.filters.give(x.user, int64(x.weight))
	s.steps.give(x.user, int64(x.steps))
	if x.reader == nil {
		return
	}
	x.s.waiting.Add(-int64(x.queued + x.held))
	x.queue, x.queued, x.held = nil, 0, 0
	changes := []journal.Change{{Key: x.reader.Name()}}
	for filter := range x.subs {
		changes = append(changes, journal.Change{Key: x.subKey(filter)})
	}
	x.leaf.Lock()
	defer x.leaf.Unlock()
	for id := range x.received {
		changes = append(changes, journal.Change{Key: x.packetKey(receivedKey, id)})
	}
	x.unstow()
	for id, f := range x.flights {
		if f.qos == 2 {
			changes = append(changes, journal.Change{Key: x.packetKey(deliveredKey, id)})
		}
	}
	err := s.journal.Append(journal.Entry{Changes: changes, Lazy: true})
	if err == nil {
		err = s.journal.DiscardReader(x.reader.Name(), reason)
	}
	if err != nil {
		s.log.Error("could not delete a session", "client", x.id, "error", err)
	}
}

func (x *session) subKey(filter string) string { return subKey + x.id + "\x00" + filter }

// packetKey is short whatever the client identifier: the number is that of the session's reader, which no other has had.
func (x *session) packetKey(prefix string, id uint16) string {
	b := make([]byte, 0, len(prefix)+16)
	b = append(strconv.AppendUint(append(b, prefix...), x.reader.ID(), 10), '/')
	return string(strconv.AppendUint(b, uint64(id), 10))
}

// subscribe adds a subscription, and returns whether it is new and the first version of the index that has it.
// If a limit refuses it, nothing is added. Called with mu held.
func (x *session) subscribe(filter string, sub subscription) (isNew bool, version uint64, refused limit) {
	s := x.s
	old, had := x.subs[filter]
	weight := x.filterWeight(filter)
	if !had {
		if x.weight+weight > s.opts.MaxSubscriptions {
			return false, 0, limitSubscriptions
		}
		if refused := s.filters.take(x.user, int64(weight), int64(s.opts.MaxFilters), s.opts.UserShare, limitFilters); refused != "" {
			return false, 0, refused
		}
	}
	share := s.share(int64(s.opts.MaxMatching), s.steps.others(x.user))
	room := min(share-s.steps.of(x.user), max(1, share/2)-int64(x.steps))
	isNew, version, more, ok := s.index.add(filter, x.target, sub, s.opts.MaxMatching, int(max(0, room)))
	if !ok {
		s.filters.give(x.user, int64(weight))
		return false, 0, limitMatching
	}
	sub.steps = old.steps + max(0, more)
	x.note(filter, sub, weight, max(0, more), had)
	return isNew, version, ""
}

// restoreSubscription adds a subscription that an earlier process has granted, whatever the limits are now. Called
// with mu held.
func (x *session) restoreSubscription(filter string, sub subscription) {
	if _, had := x.subs[filter]; had {
		return
	}
	weight := x.filterWeight(filter)
	x.s.filters.give(x.user, -int64(weight))
	_, _, sub.steps, _ = x.s.index.add(filter, x.target, sub, noLimit, noLimit)
	x.note(filter, sub, weight, sub.steps, false)
}

// note remembers a subscription that is in the index. Called with mu held.
func (x *session) note(filter string, sub subscription, weight, more int, had bool) {
	if x.subs == nil {
		x.subs = map[string]subscription{}
	}
	x.subs[filter] = sub
	x.subscribed.Store(int32(len(x.subs)))
	x.numbered = x.numbered || sub.id != 0
	x.steps += more
	x.s.steps.give(x.user, -int64(more))
	if !had {
		x.weight += weight
	}
}

// unsubscribe removes a subscription and reports whether there was one. Its retained messages not yet sent
// are dropped; queued live messages are still delivered. Called with mu held.
func (x *session) unsubscribe(filter string) bool {
	sub, had := x.subs[filter]
	if !had {
		return false
	}
	delete(x.subs, filter)
	x.subscribed.Store(int32(len(x.subs)))
	weight := x.filterWeight(filter)
	x.weight -= weight
	x.steps -= sub.steps
	x.s.filters.give(x.user, int64(weight))
	x.s.steps.give(x.user, int64(sub.steps))
	x.replays = slices.DeleteFunc(x.replays, func(r replay) bool { return r.filter == filter })
	return x.s.index.remove(filter, x.target)
}

// belong moves the session into the share of a user. Called with Server.mu held.
func (x *session) belong(user string) {
	if x.user == user {
		return
	}
	s := x.s
	x.mu.Lock()
	defer x.mu.Unlock()
	s.tally.add(x, -1)
	for a, n := range map[*account]int{&s.filters: x.weight, &s.steps: x.steps} {
		a.give(x.user, int64(n))
		a.give(user, -int64(n))
	}
	x.user = user
	s.tally.add(x, 1)
}

// identifiers returns the identifiers of the subscriptions that match topic. Those of shared subscriptions count only
// if no other matches: then the message comes from one of them. Called with mu held.
func (x *session) identifiers(topic string) (shared []uint32) {
	if !x.numbered {
		return nil
	}
	for _, m := range x.s.named(topic).matches {
		switch {
		case m.group != nil:
			shared = append(shared, m.group.identifiers(x.target)...)
		case m.target == x.target:
			return m.ids
		}
	}
	return shared
}

// The value of a subscription: a byte of options as in a SUBSCRIBE packet, and the identifier.
func (s subscription) encode() []byte {
	o := s.qos
	if s.noLocal {
		o |= 1 << 2
	}
	if s.retainAsPublished {
		o |= 1 << 3
	}
	return binary.AppendUvarint([]byte{o}, uint64(s.id))
}

func decodeSubscription(b []byte) (subscription, error) {
	if len(b) < 2 || b[0]&3 > 2 {
		return subscription{}, fmt.Errorf("subscription %x: want options and an identifier", b)
	}
	id, n := binary.Uvarint(b[1:])
	if n <= 0 || id > wire.MaxSize {
		return subscription{}, fmt.Errorf("subscription %x: bad identifier", b)
	}
	return subscription{qos: b[0] & 3, noLocal: b[0]&4 != 0, retainAsPublished: b[0]&8 != 0, id: uint32(id)}, nil
}

// loadPackets calls f for each stored packet identifier of a session, in keys of this or of earlier versions. It
// replaces old keys, and removes those of deleted sessions, so that no later session finds them.
func (s *Server) loadPackets(prefix, old string, f func(x *session, id uint16, value []byte)) {
	byNumber := map[string]*session{}
	for _, x := range s.sessions {
		byNumber[strconv.FormatUint(x.reader.ID(), 10)] = x
	}
	var changes []journal.Change
	s.journal.Range(prefix, func(key string, value []byte) bool {
		number, packet, _ := strings.Cut(key[len(prefix):], "/")
		id, err := strconv.ParseUint(packet, 10, 16)
		if x := byNumber[number]; x != nil && err == nil {
			f(x, uint16(id), value)
		} else {
			changes = append(changes, journal.Change{Key: key})
		}
		return true
	})
	s.journal.Range(old, func(key string, value []byte) bool {
		name, packet, _ := strings.Cut(key[len(old):], "\x00")
		changes = append(changes, journal.Change{Key: key})
		if x := s.sessions[name]; x != nil && len(packet) == 2 {
			id := binary.BigEndian.Uint16([]byte(packet))
			f(x, id, value)
			changes = append(changes, journal.Change{Key: x.packetKey(prefix, id), Value: value})
		}
		return true
	})
	s.changeKeys(changes)
}

// changeKeys appends changes at the start, in parts.
func (s *Server) changeKeys(changes []journal.Change) {
	for part := range slices.Chunk(changes, 256) { // an old key and its successor may stand in two parts: then both are read
		s.journal.WaitForRoom()
		if err := s.journal.Append(journal.Entry{Changes: part}); err != nil {
			s.log.Error("keys of packet identifiers are not replaced; the next start tries again", "error", err)
			return
		}
	}
}

// loadSessions rebuilds the sessions that outlive their connections. It logs and skips a part of a session that
// it cannot decode.
func (s *Server) loadSessions() error {
	state := func(prefix string, f func(id, rest string, value []byte)) {
		type pair struct {
			key   string
			value []byte
		}
		var pairs []pair
		s.journal.Range(prefix, func(key string, value []byte) bool {
			pairs = append(pairs, pair{key[len(prefix):], value})
			return true
		})
		for _, p := range pairs {
			id, rest, _ := strings.Cut(p.key, "\x00")
			f(id, rest, p.value)
		}
	}
	var failed error
	state(sessionKey, func(id, _ string, value []byte) {
		x, err := s.newSession(id, "", true)
		if err != nil {
			failed = err
			return
		}
		x.decode(value)
		x.expiry = s.capExpiry(x.expiry)
	})
	if failed != nil {
		return failed
	}
	damaged := func(id, what string, value []byte) {
		s.log.Error("damaged state of a session is ignored", "client", id, "part", what, "value", fmt.Sprintf("%x", value))
	}
	state(subKey, func(id, filter string, value []byte) {
		x := s.sessions[id]
		if x == nil {
			return // a leftover of a session that was being forgotten
		}
		sub, err := decodeSubscription(value)
		if err != nil {
			damaged(id, "subscription "+filter, value)
			return
		}
		x.restoreSubscription(filter, sub)
	})
	var forgotten []journal.Change
	received := func(x *session, id uint16, value []byte) {
		// Of a journal that lost its memory since, the client may have released it and may use it for a new message.
		if epoch, _ := binary.Uvarint(value); epoch < s.journal.Interruption().Epoch {
			forgotten = append(forgotten, journal.Change{Key: x.packetKey(receivedKey, id)})
			return
		}
		if x.received == nil {
			x.received = map[uint16]struct{}{}
		}
		x.received[id] = struct{}{}
	}
	delivered := func(x *session, id uint16, value []byte) {
		f, err := decodeFlight(id, value)
		if err != nil {
			damaged(x.id, "delivery", value)
			return
		}
		x.restore(f)
	}
	s.loadPackets(receivedKey, oldReceivedKey, received)
	s.changeKeys(forgotten)
	s.loadPackets(deliveredKey, oldDeliveredKey, delivered)
	for _, r := range s.journal.Readers() {
		if id, ok := strings.CutPrefix(r.Name, sessionKey); ok && s.sessions[id] == nil {
			if err := s.journal.DiscardReader(r.Name, reasonEnded); err != nil {
				return err
			}
		}
	}
	for _, x := range s.sessions {
		x.orderFlights()
		x.stow()
		if x.expiry == 0 { // was to end with a connection that did not survive
			s.discard(x, reasonEnded)
		} else {
			x.scheduleExpiry()
		}
	}
	return nil
}
