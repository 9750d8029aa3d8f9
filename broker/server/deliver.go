package server

import (
	"encoding/binary"
	"fmt"
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
	at      time.Time // when the server took it
}

// cost is what a waiting message counts, in bytes.
func (o *outgoing) cost() int { return 64 + len(o.message.Topic) + len(o.message.Payload) }

// flight is a QoS 1 or 2 delivery from when it gets its packet identifier until the client settles it.
type flight struct {
	outgoing        // message is nil where the journal can give it again
	seq      uint64 // of the journal's message; 0 for one that was only in memory
	id       uint16 // packet identifier
	n        uint64 // order of sending
	dup      bool   // may have been sent before
	charged  bool   // counts in the client's receive maximum on this connection
	stored   bool   // QoS 2 of the journal: the packet identifier is on disk
	released bool   // QoS 2: PUBREC has come, what is left is PUBREL and PUBCOMP
}

// outbox is what a session has to send. The client's receive maximum bounds flights, the server's
// limits the rest; the backlog of a durable session stays in the journal. Guarded by session.mu.
type outbox struct {
	quota   int // how many more may be sent before the client answers
	flights map[uint16]*flight
	bySeq   map[uint64]*flight
	nextID  uint16
	n       uint64

	again   []*flight  // to be sent again on this connection
	ready   []*flight  // QoS 2, whose packet identifier has come to disk
	replays []replay   // subscriptions whose retained messages are to be sent
	replay  []outgoing // of the first of them
	queue   []outgoing // live messages of a session that ends with its connection
	queued  int        // bytes in queue
}

// replay is a subscription whose retained messages are to be sent.
type replay struct {
	filter string
	subscription
}

// arrivals has a value when the journal may have messages for the session.
func (x *session) arrivals() <-chan struct{} {
	if x.reader == nil {
		return nil
	}
	return x.reader.Ready()
}

// offer gives a session what it does not read from the journal. It does not block.
func (x *session) offer(o outgoing) {
	c := x.conn.Load()
	if c == nil {
		return
	}
	if o.qos > 0 {
		x.mu.Lock()
		fits := len(x.queue) == 0 || x.queued+o.cost() <= x.s.opts.MaxQueued
		if fits {
			x.queue = append(x.queue, o)
			x.queued += o.cost()
		}
		x.mu.Unlock()
		if !fits {
			x.s.counts.droppedQueue.Add(1)
			return
		}
	} else if !c.put(&o, 0, false) {
		return
	}
	c.poke()
}

// put queues a PUBLISH and says whether it did: not if the message is expired, if it is larger than
// the client takes, or, at QoS 0, if too much waits for the client already.
func (c *conn) put(o *outgoing, id uint16, dup bool) bool {
	m := o.message
	left, ok := remaining(m, o.at)
	if !ok {
		c.s.counts.droppedExpired.Add(1) // [MQTT-3.3.2-5]
		return false
	}
	p := wire.Publish{
		Topic: m.Topic, Payload: m.Payload, ID: id, QoS: o.qos, Dup: dup, Retain: o.retain,
		Forward: m.Properties, Expires: m.Expires, Expiry: left, SubscriptionIDs: o.ids,
	}
	size := p.Size(c.version)
	if c.maxPacket > 0 && size > c.maxPacket {
		c.s.counts.droppedSize.Add(1) // [MQTT-3.1.2-24]
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if o.qos == 0 && len(c.out) > 0 && len(c.out)+size > c.s.opts.MaxQueued {
		c.s.counts.droppedQueue.Add(1)
		return false
	}
	if !c.closing {
		c.out = wire.AppendPublish(c.out, c.version, &p)
		c.s.counts.sent.Add(1)
	}
	return true
}

// fill moves waiting messages into the buffer, as far as the client's receive maximum and one write
// go. Only the writing goroutine calls it.
func (c *conn) fill() error {
	x := c.session
	for {
		c.mu.Lock()
		full := c.closing || len(c.out) >= writeChunk
		c.mu.Unlock()
		if full {
			return nil
		}
		sent, quota := x.sendWaiting(c)
		if sent {
			continue
		}
		if quota == 0 || x.reader == nil {
			return nil
		}
		d, ok, err := x.reader.TryNext()
		if !ok || err != nil {
			return err
		}
		if err := x.sendStored(c, d); err != nil {
			return err
		}
	}
}

// sendWaiting sends one of what waits in memory, the oldest kind first, and says whether there was
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
			c.send(&wire.Ack{Type: wire.PUBREL, ID: f.id})
		case x.quota == 0:
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
		if o.qos > 0 && x.quota == 0 {
			return false, 0
		}
		x.replay = x.replay[1:]
		x.sendNew(c, o)
	case len(x.replays) > 0:
		r := x.replays[0]
		x.replays = x.replays[1:]
		for _, k := range x.s.kept.matching(r.filter) {
			x.replay = append(x.replay, outgoing{
				message: k.message, qos: min(r.qos, k.message.QoS), retain: true, ids: appendID(nil, r.id), at: k.at,
			})
		}
	case len(x.queue) > 0 && x.quota > 0:
		o := x.queue[0]
		x.queue[0] = outgoing{}
		x.queue = x.queue[1:]
		x.queued -= o.cost()
		x.sendNew(c, o)
	default:
		return false, x.quota
	}
	return true, x.quota
}

// sendNew sends a message that only memory has. Called with mu held, and quota left if QoS > 0.
func (x *session) sendNew(c *conn, o outgoing) {
	if o.qos == 0 {
		c.put(&o, 0, false)
		return
	}
	f := x.newFlight(0)
	f.outgoing = o
	x.charge(f)
	x.launch(c, f, false)
}

// sendStored sends a message of the journal. A QoS 2 delivery waits until its packet identifier is on
// disk, so that after a crash it goes on under the same one and is not taken for a new message.
func (x *session) sendStored(c *conn, d journal.Delivery) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	f := x.bySeq[d.Seq]
	if f != nil && f.released {
		x.reader.Ack(d.Seq)
		return nil
	}
	dup := f != nil || d.Resend
	isNew := f == nil
	if isNew {
		f = x.newFlight(d.Seq)
	}
	at := time.Now()
	if d.Time.Synced { // else nobody knows how long the message has waited
		at = d.Time.Wall
	}
	f.outgoing = outgoing{d.Message, min(d.QoS, d.Message.QoS), d.Retain, x.identifiers(d.Message.Topic), at}
	f.dup = dup
	x.charge(f)
	if f.qos == 2 && !f.stored {
		if !isNew {
			return nil // on its way
		}
		return x.s.journal.Append(journal.Entry{Changes: []journal.Change{x.flightChange(f)}, Done: stored{x, f}})
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
	d.x.mu.Lock()
	if err != nil {
		d.x.drop(d.f) // handed out again on the next connection
	} else {
		d.f.stored = true
		if d.f.charged {
			d.x.ready = append(d.x.ready, d.f)
		}
	}
	d.x.mu.Unlock()
	if c := d.x.conn.Load(); c != nil {
		if err != nil {
			c.fail(err)
		}
		c.poke()
	}
}

// launch queues a flight's PUBLISH. What cannot be sent is settled. Called with mu held.
func (x *session) launch(c *conn, f *flight, dup bool) {
	if !c.put(&f.outgoing, f.id, dup) {
		x.settle(f)
	} else if f.seq != 0 {
		f.outgoing = outgoing{qos: f.qos} // the journal has the message
	}
}

// newFlight takes the next free packet identifier [MQTT-2.2.1-3]. Called with mu held.
func (x *session) newFlight(seq uint64) *flight {
	for {
		x.nextID++
		if _, taken := x.flights[x.nextID]; !taken && x.nextID != 0 {
			break
		}
	}
	f := &flight{seq: seq, id: x.nextID}
	x.add(f)
	return f
}

func (x *session) add(f *flight) {
	x.n++
	f.n = x.n
	x.flights[f.id] = f
	if f.seq != 0 {
		x.bySeq[f.seq] = f
	}
}

func (x *session) charge(f *flight) {
	x.quota--
	f.charged = true
}

// drop forgets a flight without settling its message. Called with mu held.
func (x *session) drop(f *flight) {
	delete(x.flights, f.id)
	delete(x.bySeq, f.seq)
	if f.charged {
		x.quota++
		f.charged = false
	}
}

// settle ends a flight: the client has the message, or must not have it. Called with mu held.
func (x *session) settle(f *flight) {
	x.drop(f)
	if f.seq == 0 {
		return
	}
	x.reader.Ack(f.seq)
	if f.qos == 2 {
		// Behind the acknowledgement in the log: a delivery without its identifier is a new one.
		x.s.journal.Append(journal.Entry{Changes: []journal.Change{{Key: x.packetKey(deliveredKey, f.id)}}, Lazy: true})
	}
}

// The value of a QoS 2 delivery: whether it was released, and the journal's sequence number.
func (x *session) flightChange(f *flight) journal.Change {
	state := byte(0)
	if f.released {
		state = 1
	}
	return journal.Change{
		Key: x.packetKey(deliveredKey, f.id), Value: binary.AppendUvarint([]byte{state}, f.seq),
	}
}

func decodeFlight(id uint16, b []byte) (*flight, error) {
	if len(b) < 2 || b[0] > 1 {
		return nil, fmt.Errorf("delivery %x: want a state and a sequence number", b)
	}
	seq, n := binary.Uvarint(b[1:])
	if n <= 0 || seq == 0 {
		return nil, fmt.Errorf("delivery %x: bad sequence number", b)
	}
	return &flight{outgoing: outgoing{qos: 2}, seq: seq, id: id, stored: true, released: b[0] == 1}, nil
}

// restore puts a QoS 2 delivery of an earlier process back.
func (x *session) restore(f *flight) {
	x.add(f)
	x.nextID = max(x.nextID, f.id)
}

// answered takes PUBACK, PUBREC and PUBCOMP, which end or go on with a delivery.
func (c *conn) answered(p *wire.Ack) error {
	x := c.session
	x.mu.Lock()
	defer x.mu.Unlock()
	defer c.poke()
	f := x.flights[p.ID]
	switch {
	case f == nil && p.Type == wire.PUBREC:
		c.send(&wire.Ack{Type: wire.PUBREL, ID: p.ID, Code: wire.PacketIDNotFound})
	case f == nil: // of an earlier life
	case (p.Type == wire.PUBACK) != (f.qos == 1), p.Type == wire.PUBCOMP && !f.released:
		return &wire.Error{Code: wire.ProtocolError, Text: fmt.Sprintf("%v for packet %d of QoS %d", p.Type, p.ID, f.qos)}
	case p.Type != wire.PUBREC, p.Code >= 0x80:
		x.settle(f)
	case f.seq == 0 || f.released:
		f.released, f.outgoing.message = true, nil
		c.send(&wire.Ack{Type: wire.PUBREL, ID: p.ID})
	default:
		f.released = true
		return c.commit(released{c, f}, x.flightChange(f))
	}
	return nil
}

// released answers a PUBREC when it is on disk that the client has the message.
type released struct {
	c *conn
	f *flight
}

func (d released) Committed(_ *journal.Entry, _ uint64, err error) {
	d.c.settled()
	if err != nil {
		d.c.fail(err)
		return
	}
	d.c.session.reader.Ack(d.f.seq)
	d.c.send(&wire.Ack{Type: wire.PUBREL, ID: d.f.id})
}
