package server

import (
	"cmp"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"

	"holdfast/broker/journal"
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
	user   string               // whose share of the limits it has, see conn.user; guarded by Server.mu and mu: either to read, both to change
	target *target              // in the index
	reader *journal.Reader      // nil if the session ends with its connection
	conn   atomic.Pointer[conn] // nil while the client is away

	owner    ownership   // guarded by Server.mu, but for its grant
	away     away        // guarded by Server.mu
	received receivedIDs // has its own lock
	inbox    inbox       // has its own lock

	mu   sync.Mutex    // guards what follows; the order of locks is in lock.go
	subs subscriptions // what it asked for
	over bool          // it gets no more messages
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
	s.sessions.add(x)
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
		x.s.memory.waiting.Add(-int64(x.queued))
		x.queue, x.queued = nil, 0
	}
	if x.reader != nil {
		lost = x.stow()
	}
	x.mu.Unlock()
	x.s.counts.dropped.queue.Add(uint64(lost))
	if x.reader != nil {
		x.reader.Detach()
	}
	return lost
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
	s.sessions.remove(x)
	x.mu.Lock()
	defer x.mu.Unlock()
	x.over = true
	for filter := range x.subs.byFilter {
		s.index.Remove(filter, x.target)
	}
	s.filters.weights.Give(x.user, int64(x.subs.weight))
	s.filters.steps.Give(x.user, int64(x.subs.steps))
	if x.reader == nil {
		return
	}
	x.s.memory.waiting.Add(-int64(x.queued + x.held))
	x.queue, x.queued, x.held = nil, 0, 0
	changes := []journal.Change{{Key: x.reader.Name()}}
	for filter := range x.subs.byFilter {
		changes = append(changes, journal.Change{Key: x.subKey(filter)})
	}
	for _, id := range x.received.all() {
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
