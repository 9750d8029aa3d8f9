package server

import (
	"encoding/binary"
	"time"

	"holdfast/broker"
	"holdfast/broker/journal"
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
	subscription
}

// notify wakes the connection's writer: the journal may have messages for the session.
func (x *session) notify() {
	if c := x.conn.Load(); c != nil {
		c.wake()
	}
}

// offer queues a QoS 0 message and reports whether it did. Unless it may wait, it leaves the message to the
// inbox where others hold the connection's lock.
func (c *conn) offer(p *publication, retain bool, ids []uint32, mayWait bool) bool {
	x := c.session
	if x.inbox.busy.Load() || !mayWait && !lockNow(&c.mu) {
		o := outgoing{message: p.keep(), retain: retain, ids: ids, at: p.at}
		if !x.later(c, o.cost(), func() {
			if p, ok := o.publish(c.s, 0, false); ok {
				c.put(&p)
			}
		}) {
			c.s.counts.droppedQueue.Add(1)
		}
		return false
	}
	if mayWait {
		c.mu.Lock()
	}
	defer c.mu.Unlock()
	return c.putShared(p, 0, retain, ids, 0)
}

// offer gives a session a QoS 1 or 2 message that it does not get from the journal. c is nil if it has
// no connection. Unless it may wait, it leaves the message to the inbox where others hold the session's locks.
func (x *session) offer(c *conn, p *publication, o outgoing, mayWait bool) {
	switch {
	case mayWait && !x.inbox.busy.Load():
		x.mu.Lock()
		if c != nil {
			c.mu.Lock()
		}
	case !x.enter(c):
		if !x.later(c, o.cost(), func() { x.accept(c, nil, o) }) {
			x.s.counts.droppedQueue.Add(1)
		}
		return
	}
	x.accept(c, p, o)
	x.exit(c)
}

// accept sends or keeps a message that was offered. p shares its encodings, and is nil if they are gone. Called
// with mu held, and with that of c if it is not nil.
func (x *session) accept(c *conn, p *publication, o outgoing) {
	if x.over {
		return
	}
	cost := o.cost()
	if c != nil && !x.waits() && (c.out == nil || len(c.out.b)+cost <= writeChunk) && !x.s.full(c.queued(), cost) && x.mayFly() {
		f := x.newFlight(0)
		f.outgoing = o
		x.charge(f)
		sent := false
		if p != nil {
			sent = c.putShared(p, o.qos, o.retain, o.ids, f.id)
		} else if v, ok := o.publish(x.s, f.id, false); ok {
			sent = c.put(&v)
		}
		switch {
		case !sent:
			x.settle(f)
		case x.reader == nil: // what is sent is never sent again
			f.message = nil
		default:
			x.hold(f)
		}
		return
	}
	if len(x.queue) > 0 && x.queued+cost > x.s.opts.MaxQueued || x.s.full(x.queued, cost) {
		x.s.counts.droppedQueue.Add(1)
		return
	}
	x.queue = append(x.queue, o)
	x.queued += cost
	x.s.waiting.Add(int64(cost))
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
			s.counts.droppedExpired.Add(1) // [MQTT-3.3.2-5]
			return p, false
		}
	}
	return p, true
}

// put queues a PUBLISH and reports whether it did: not if the client may not read it, if it is larger than
// the client accepts, or, at QoS 0, if the client's queue is full. It may change p. Called
// with c.mu held.
func (c *conn) put(p *wire.Publish) bool {
	named, topic := false, p.Topic
	if !c.mayReceive(topic) {
		return false
	}
	if c.aliasMax > 0 && len(topic) <= longestTopic {
		if a, ok := c.given[topic]; ok {
			p.Topic, p.TopicAlias = "", a
		} else if len(c.given) < int(c.aliasMax) {
			p.TopicAlias, named = uint16(len(c.given)+1), true
			if c.maxPacket > 0 && p.Size(c.version) > c.maxPacket {
				p.TopicAlias, named = 0, false
			}
		}
	}
	size := p.Size(c.version)
	if !c.takes(size, p.QoS) {
		return false
	}
	if c.closing {
		return true
	}
	if named {
		if c.given == nil {
			c.given = map[string]uint16{}
		}
		c.given[topic] = p.TopicAlias
	}
	b := c.buffer()
	b.b = wire.AppendPublish(b.b, c.version, p)
	c.published(b, size)
	return true
}

// putShared is put for a message whose encoding other subscribers share. Called with c.mu held.
func (c *conn) putShared(p *publication, qos byte, retain bool, ids []uint32, id uint16) bool {
	if c.aliasMax > 0 || len(ids) > 0 && c.version == wire.V5 {
		v := p.view
		v.QoS, v.Retain, v.ID, v.Dup, v.TopicAlias, v.SubscriptionIDs = qos, retain, id, false, 0, ids
		return c.put(&v)
	}
	if !c.mayReceive(p.view.Topic) {
		return false
	}
	frame, at := p.frame(c.version, qos, retain)
	if !c.takes(len(frame), qos) {
		return false
	}
	if c.closing {
		return true
	}
	b := c.buffer()
	n := len(b.b)
	b.b = append(b.b, frame...)
	if qos > 0 {
		binary.BigEndian.PutUint16(b.b[n+at:], id)
	}
	c.published(b, len(frame))
	return true
}

// takes reports whether a PUBLISH may be queued. Called with mu held.
func (c *conn) takes(size int, qos byte) bool {
	if c.maxPacket > 0 && size > c.maxPacket {
		c.s.counts.droppedSize.Add(1) // [MQTT-3.1.2-24]
		return false
	}
	if qos > 0 {
		return true
	}
	if n := c.queued(); n > 0 && n+size > c.s.opts.MaxQueued || c.s.full(n, size) {
		c.s.counts.droppedQueue.Add(1)
		return false
	}
	return true
}

// queued returns how many bytes are queued. Called with mu held.
func (c *conn) queued() int {
	if c.out == nil {
		return 0
	}
	return len(c.out.b)
}

// published notes that a PUBLISH was added to b. Called with mu held.
func (c *conn) published(b *buffer, size int) {
	c.publishes++
	c.publishBytes += uint64(size)
	c.appended(b)
}

// fill moves queued messages into the buffer, up to the client's receive maximum and the size of one
// write. Only the writing goroutine calls it.
func (c *conn) fill() error {
	x := c.session
	if x.reader != nil {
		if !c.s.beginTurn(c) {
			return nil
		}
		defer c.s.endTurn()
		defer x.reader.Rest()
	}
	for {
		c.mu.Lock()
		full := c.closing || c.queued() >= writeChunk
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
		if !x.s.retained.has(o.message) { // a newer one has come since, and went out by itself
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
		if r.id != 0 {
			ids = []uint32{r.id}
		}
		for _, k := range x.s.retained.matching(r.filter, r.version) {
			x.replay = append(x.replay, outgoing{
				message: k.message, qos: min(r.qos, k.message.QoS), retain: true, ids: ids, at: time.Now().Add(-x.s.journal.Waited(k.at)),
			})
		}
	case len(x.queue) > 0 && x.mayFly() && !x.full():
		o := x.queue[0]
		x.queue[0] = outgoing{}
		x.queue = x.queue[1:]
		x.queued -= o.cost()
		x.s.waiting.Add(-int64(o.cost()))
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
		if !c.loggedDeniedRead {
			c.loggedDeniedRead = true
			c.logger().Warn("queued messages are dropped: the client may not read them any more; further ones of this connection are only counted", "topic", denied[i].Message.Topic)
		}
	}
}
