package server

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"slices"

	"holdfast/broker/journal"
	"holdfast/broker/wire"
)

// flight is a QoS 1 or 2 delivery from when it gets its packet identifier until the client settles it.
type flight struct {
	outgoing        // message is nil where the journal can give it again
	seq      uint64 // of the journal's message; 0 for one that was only in memory
	id       uint16 // packet identifier
	n        uint64 // order of sending
	dup      bool   // may have been sent before
	held     int    // bytes of the message, which is kept in memory, that count in session.held
	charged  bool   // counts in the client's receive maximum on this connection, until PUBACK or PUBCOMP
	stored   bool   // QoS 2 of the journal: the packet identifier is on disk
	released bool   // QoS 2: PUBREC has come, what is left is PUBREL and PUBCOMP
}

// stowed is a flight of a session whose client is away, and whose message the journal can give again or the client
// has: a seventh of the size.
type stowed struct {
	seq, n        uint64
	id            uint16
	qos           byte
	dup, released bool
}

// flightBytes is the memory of a flight without its message.
const flightBytes = 160

// stow puts the flights away while the client is. Those whose messages only memory has stay as they are, where there
// is memory for it: a quarter of that of all clients, so that absent ones do not take it from those who are
// here. It returns how many were given up. Called with mu held.
func (x *session) stow() (lost int) {
	flights := slices.SortedFunc(maps.Values(x.flights), func(a, b *flight) int { return cmp.Compare(a.n, b.n) })
	for _, f := range flights {
		switch {
		case f.message == nil && (f.released || f.seq != 0 && (f.qos == 1 || f.stored)):
			x.stowed = append(x.stowed, stowed{f.seq, f.n, f.id, f.qos, f.dup, f.released})
			delete(x.flights, f.id)
			delete(x.bySeq, f.seq)
		case f.seq == 0 && !f.released && x.s.memory.waiting.Load() > x.s.opts.MaxQueuedTotal/4:
			x.drop(f)
			lost++
		}
	}
	x.stowed = slices.Clip(x.stowed)
	if len(x.flights) == 0 {
		x.flights, x.bySeq = nil, nil
	}
	x.again, x.ready = nil, nil
	return lost
}

// unstow reverses stow. Called with mu held.
func (x *session) unstow() {
	n := x.n
	for _, s := range x.stowed {
		f := &flight{outgoing: outgoing{qos: s.qos}, seq: s.seq, id: s.id, dup: s.dup, stored: s.qos == 2, released: s.released}
		x.add(f)
		f.n = s.n
	}
	x.n = n
	x.stowed = nil
}

// inFlight returns the number of flights. Called with mu held.
func (x *session) inFlight() int { return len(x.flights) + len(x.stowed) }

// errNoIdentifier ends a connection whose session has no packet identifier left for another delivery.
var errNoIdentifier = &wire.Error{Code: wire.QuotaExceeded, Text: "too many deliveries that the client has not completed"}

// mayFly reports whether another delivery may be on its way to the client: its receive maximum and the
// bound on flights of a session leave room. Called with mu held.
func (x *session) mayFly() bool {
	if x.quota <= 0 {
		return false
	}
	if len(x.flights) >= x.maxFlights() {
		x.dropLost()
	}
	return len(x.flights) < x.maxFlights()
}

// maxFlights bounds the flights of a session. Those that are charged are at most the receive maximum; as many
// again may wait to be sent again on a new connection, where they come before everything new.
func (x *session) maxFlights() int { return min(2*x.s.opts.MaxInflight, math.MaxUint16) }

// newFlight takes the next free packet identifier [MQTT-2.2.1-3]. Called with mu held, after mayFly: at most
// maxFlights identifiers are taken, so that one is free.
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

// dropLost forgets flights of messages that the journal gave up at a limit and that were not sent on this
// connection: they are not handed out again. Called with mu held.
func (x *session) dropLost() {
	for _, f := range x.flights {
		if f.seq != 0 && !f.charged && !f.released && !x.reader.Waits(f.seq) {
			x.settle(f)
		}
	}
}

func (x *session) add(f *flight) {
	if x.flights == nil {
		x.flights = map[uint16]*flight{}
	}
	x.n++
	f.n = x.n
	x.flights[f.id] = f
	if f.seq != 0 {
		if x.bySeq == nil {
			x.bySeq = map[uint64]*flight{}
		}
		x.bySeq[f.seq] = f
	}
}

func (x *session) charge(f *flight) {
	x.quota--
	f.charged = true
}

// hold keeps the message of a flight in memory. Called with mu held.
func (x *session) hold(f *flight) {
	f.held = flightBytes + f.cost()
	x.held += f.held
	x.s.memory.waiting.Add(int64(f.held))
}

// release drops the message of a flight from memory. Called with mu held.
func (x *session) release(f *flight) {
	x.held -= f.held
	x.s.memory.waiting.Add(-int64(f.held))
	f.held, f.message = 0, nil
}

// dropReady lets go of what was about to be sent: the journal hands it out again. Called with mu held.
func (x *session) dropReady() {
	for _, f := range x.ready {
		x.release(f)
	}
	x.ready = nil
}

// drop forgets a flight without settling its message. Called with mu held.
func (x *session) drop(f *flight) {
	x.release(f)
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

// restore adds a QoS 2 delivery of an earlier process.
func (x *session) restore(f *flight) {
	x.add(f)
	x.nextID = max(x.nextID, f.id)
}

// orderFlights gives flights that were restored the order of their messages, in which their PUBRELs are sent
// again [MQTT-4.6.0-4].
func (x *session) orderFlights() {
	flights := slices.SortedFunc(maps.Values(x.flights), func(a, b *flight) int { return cmp.Compare(a.seq, b.seq) })
	for i, f := range flights {
		f.n = uint64(i) + 1
	}
	x.n = uint64(len(flights))
}

// answered handles PUBACK, PUBREC and PUBCOMP, which end or continue a delivery.
func (c *conn) answered(p *wire.Ack, d *scratch) error {
	x := c.session
	x.mu.Lock()
	defer x.mu.Unlock()
	f := x.flights[p.ID]
	switch {
	case f == nil && p.Type == wire.PUBREC && p.Code < 0x80: // after a failure no PUBREL follows (5.0 section 4.3.3)
		c.send(d, &wire.Ack{Type: wire.PUBREL, ID: p.ID, Code: wire.PacketIDNotFound})
	case f == nil: // of an earlier life
	case (p.Type == wire.PUBACK) != (f.qos == 1), p.Type == wire.PUBCOMP && !f.released:
		return &wire.Error{Code: wire.ProtocolError, Text: fmt.Sprintf("%v for packet %d of QoS %d", p.Type, p.ID, f.qos)}
	case p.Type != wire.PUBREC, p.Code >= 0x80:
		x.settle(f)
		if x.reader != nil || x.waits() {
			c.wake()
		}
	case f.seq == 0 || f.released:
		f.released = true
		x.release(f)
		c.send(d, &wire.Ack{Type: wire.PUBREL, ID: p.ID})
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
	if err == nil {
		d.c.session.reader.Ack(d.f.seq)
	}
	reply{d.c, &wire.Ack{Type: wire.PUBREL, ID: d.f.id}}.Committed(nil, 0, err)
}
