package server

import (
	"time"

	"holdfast/broker"
	"holdfast/broker/journal"
	"holdfast/broker/server/filters"
	"holdfast/broker/wire"
)

// outgoing is a message on its way to one client.
type outgoing struct {
	message *broker.Message
	qos     byte
	retain  bool
	ids     []uint32
	at      time.Time // when the server received it
}

// cost returns what a queued message counts, in bytes.
func (o *outgoing) cost() int { return 64 + len(o.message.Topic) + len(o.message.Payload) }

// outbox holds what a session has to send. The client's receive maximum bounds flights, the server's
// limits the rest; the backlog of a durable session stays in the journal. Guarded by session.mu.
type outbox struct {
	quota   int // how many more may be sent before the client answers
	flights map[uint16]*flight
	bySeq   map[uint64]*flight
	stowed  []stowed // while the client is away, in order
	nextID  uint16
	n       uint64

	again   []*flight  // to be sent again on this connection
	ready   []*flight  // QoS 2, whose packet identifier is on disk
	replays []replay   // subscriptions whose retained messages are to be sent
	replay  []outgoing // of the first of them
	queue   []outgoing // live messages of a session that ends with its connection
	queued  int        // bytes in queue
	held    int        // bytes of messages of flights that are kept in memory

	deniedReads []journal.Delivery // that the client may not read any more, for fill to drop
}

// replay is a subscription whose retained messages are to be sent.
type replay struct {
	filter  string
	version uint64 // of the index with the subscription
	filters.Subscription
}

// notify wakes the connection's writer: the journal may have messages for the session.
func (x *session) notify() {
	if c := x.conn.Load(); c != nil {
		c.wake()
	}
}

// waits reports whether messages in memory are to be sent before those of the journal. Called with mu held.
func (x *session) waits() bool {
	return len(x.again)+len(x.ready)+len(x.replay)+len(x.replays)+len(x.queue) > 0
}

// publish returns the packet for a message; ok is false if the message has expired.
func (o *outgoing) publish(s *Server, id uint16, dup bool) (p wire.Publish, ok bool) {
	m := o.message
	p = wire.Publish{
		Topic: m.Topic, Payload: m.Payload, ID: id, QoS: o.qos, Dup: dup, Retain: o.retain,
		Forward: m.Properties, Expires: m.Expires, SubscriptionIDs: o.ids,
	}
	if m.Expires {
		if p.Expiry, ok = journal.Remaining(m.Expiry, time.Since(o.at)); !ok {
			s.counts.dropped.expired.Add(1) // [MQTT-3.3.2-5]
			return p, false
		}
	}
	return p, true
}

// fill moves queued messages into the buffer, up to the client's receive maximum and the size of one
// write. Only the writing goroutine calls it.
func (c *conn) fill() error {
	x := c.session
	if x.reader != nil {
		if !c.s.memory.beginTurn(c) {
			return nil
		}
		defer c.s.memory.endTurn()
		defer x.reader.Rest()
	}
	for {
		c.mu.Lock()
		full := c.phase.closing || c.out.len() >= writeChunk
		c.mu.Unlock()
		if full {
			return nil
		}
		sent, quota := x.sendWaiting(c)
		x.dropDenied(c)
		if sent {
			continue
		}
		if quota <= 0 || x.reader == nil {
			return nil
		}
		d, ok, err := x.reader.TryNext()
		if !ok || err != nil {
			return err
		}
		if err := x.sendStored(c, d); err != nil {
			return err
		}
		x.dropDenied(c)
	}
}

// sendWaiting sends one message of those in memory, the oldest kind first, and reports whether there was
// one that may be sent.
func (x *session) sendWaiting(c *conn) (sent bool, quota int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	switch {
	case len(x.again) > 0:
		f := x.again[0]
		switch {
		case x.flights[f.id] != f: // settled meanwhile
		case f.released:
			c.mu.Lock()
			c.queue(&wire.Ack{Type: wire.PUBREL, ID: f.id})
			c.mu.Unlock()
		case x.quota <= 0:
			return false, 0
		default:
			x.charge(f)
			x.launch(c, f, true)
		}
		x.again = x.again[1:]
	case len(x.ready) > 0:
		f := x.ready[0]
		x.ready = x.ready[1:]
		x.launch(c, f, f.dup)
	case len(x.replay) > 0:
		o := x.replay[0]
		if !x.s.retained.Has(o.message) { // a newer one has come since, and went out by itself
			x.replay = x.replay[1:]
			break
		}
		if o.qos > 0 && (!x.mayFly() || x.full()) {
			return false, 0
		}
		x.replay = x.replay[1:]
		x.sendNew(c, o)
	case len(x.replays) > 0:
		r := x.replays[0]
		x.replays = x.replays[1:]
		var ids []uint32
		if r.ID != 0 {
			ids = []uint32{r.ID}
		}
		for _, k := range x.s.retained.Matching(r.filter, r.version) {
			x.replay = append(x.replay, outgoing{
				message: k.Message, qos: min(r.QoS, k.Message.QoS), retain: true, ids: ids, at: time.Now().Add(-x.s.journal.Waited(k.At)),
			})
		}
	case len(x.queue) > 0 && x.mayFly() && !x.full():
		o := x.queue[0]
		x.queue[0] = outgoing{}
		x.queue = x.queue[1:]
		x.queued -= o.cost()
		x.s.memory.waiting.Add(-int64(o.cost()))
		x.sendNew(c, o)
	case x.full(): // until the client answers, or what is on its way to disk is there
		return false, 0
	default:
		return false, x.quota
	}
	return true, x.quota
}

// full reports whether flights keep as much in memory as they may. Called with mu held.
func (x *session) full() bool { return x.held >= x.s.opts.MaxQueued }

// sendNew sends a message that is only in memory. Called with mu held, and if QoS > 0 after mayFly.
func (x *session) sendNew(c *conn, o outgoing) {
	if o.qos == 0 {
		if p, ok := o.publish(x.s, 0, false); ok {
			c.mu.Lock()
			c.put(&p)
			c.mu.Unlock()
		}
		return
	}
	f := x.newFlight(0)
	f.outgoing = o
	x.charge(f)
	x.launch(c, f, false)
}

// sendStored sends a message of the journal. A QoS 2 delivery waits until its packet identifier is on
// disk, so that after a crash it continues under the same one and is not mistaken for a new message.
func (x *session) sendStored(c *conn, d journal.Delivery) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	f := x.bySeq[d.Seq]
	if f != nil && f.released {
		x.reader.Ack(d.Seq)
		return nil
	}
	if !c.mayReceive(d.Message.Topic) {
		x.deny(f, d)
		return nil
	}
	dup := f != nil || d.Resend
	isNew := f == nil
	if isNew {
		if !x.mayFly() {
			return errNoIdentifier // the message stays, and is handed out on the next connection
		}
		f = x.newFlight(d.Seq)
	}
	at := time.Now().Add(-x.s.journal.Waited(d.Time)) // with the monotonic clock: no step of the wall clock counts
	f.outgoing = outgoing{d.Message, min(d.QoS, d.Message.QoS), d.Retain, x.identifiers(d.Message.Topic), at}
	f.dup = dup
	if !f.charged {
		x.charge(f)
	}
	if f.qos == 2 && !f.stored {
		if !isNew {
			return nil // on its way
		}
		err := x.s.journal.Append(journal.Entry{Changes: []journal.Change{x.flightChange(f)}, Done: stored{x, f}, Limited: true})
		if err != nil {
			x.drop(f)
		} else {
			x.hold(f)
		}
		if x.s.stateRefused(err, x.id, "QoS 2 delivery is not begun: its connection is closed") {
			return &wire.Error{Code: wire.QuotaExceeded, Text: err.Error()}
		}
		return err
	}
	if len(x.ready) > 0 { // an earlier one has just come to disk
		x.ready = append(x.ready, f)
		return nil
	}
	x.launch(c, f, dup)
	return nil
}

// stored sends a QoS 2 delivery when its packet identifier is on disk.
type stored struct {
	x *session
	f *flight
}

func (d stored) Committed(_ *journal.Entry, _ uint64, err error) {
	x, f := d.x, d.f
	x.whenFree(nil, func() {
		if err != nil {
			x.drop(f) // handed out again on the next connection
			if c := x.conn.Load(); c != nil {
				x.later(c, 0, func() { c.failed(err) })
			}
			return
		}
		f.stored = true
		if f.charged {
			x.ready = append(x.ready, f)
		} else {
			x.release(f) // handed out again
		}
		x.notify() // after it is ready: where the inbox has this, that is later
	})
}

// launch queues a flight's PUBLISH. It settles a flight that cannot be sent. Called with mu held.
func (x *session) launch(c *conn, f *flight, dup bool) {
	if f.seq != 0 && !c.mayReceive(f.message.Topic) {
		x.deny(f, journal.Delivery{Seq: f.seq, Message: f.message})
		return
	}
	p, ok := f.publish(x.s, f.id, dup)
	if ok {
		c.mu.Lock()
		ok = c.put(&p)
		c.mu.Unlock()
	}
	if !ok {
		x.settle(f)
		return
	}
	switch {
	case f.seq != 0 || x.reader == nil: // the journal has the message, or it is not sent again
		x.release(f)
		f.outgoing = outgoing{qos: f.qos}
	case f.held == 0:
		x.hold(f)
	}
}

// deny collects a message of the journal that the client may not read any more, for fill to drop, and forgets its
// flight, which may be nil. Called with mu held.
func (x *session) deny(f *flight, d journal.Delivery) {
	if f != nil {
		x.drop(f)
		if f.qos == 2 {
			x.s.journal.Append(journal.Entry{Changes: []journal.Change{{Key: x.packetKey(deliveredKey, f.id)}}, Lazy: true})
		}
	}
	x.deniedReads = append(x.deniedReads, d)
}

// dropDenied records the messages that deny has collected in the journal's losses. It may wait for the disk: only the
// writing goroutine calls it, without a lock.
func (x *session) dropDenied(c *conn) {
	x.mu.Lock()
	denied := x.deniedReads
	x.deniedReads = nil
	x.mu.Unlock()
	for i := range denied {
		x.reader.Drop(&denied[i], journal.ReasonDenied)
		if !c.writer.loggedDenied {
			c.writer.loggedDenied = true
			c.logger().Warn("queued messages are dropped: the client may not read them any more; further ones of this connection are only counted", "topic", denied[i].Message.Topic)
		}
	}
}
