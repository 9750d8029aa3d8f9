package server

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"sync"
	"sync/atomic"

	"holdfast/broker"
	"holdfast/broker/journal"
	"holdfast/broker/server/limits"
	"holdfast/broker/wire"
)

// receivedIDs are the packet identifiers of QoS 2 publishes that the client has not released, also on earlier
// connections.
type receivedIDs struct {
	mu  sync.Mutex // a leaf, held for moves of pointers only
	ids map[uint16]struct{}
}

// add adds an identifier, and reports whether it was there already. full reports that it was not, and that most others
// are: then it is not added.
func (r *receivedIDs) add(id uint16, most int) (repeated, full bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, repeated = r.ids[id]; repeated {
		return true, false
	}
	if len(r.ids) >= most {
		return false, true
	}
	r.put(id)
	return false, false
}

// restore adds an identifier of an earlier process.
func (r *receivedIDs) restore(id uint16) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.put(id)
}

func (r *receivedIDs) put(id uint16) {
	if r.ids == nil {
		r.ids = map[uint16]struct{}{}
	}
	r.ids[id] = struct{}{}
}

// remove removes an identifier and reports whether it was there.
func (r *receivedIDs) remove(id uint16) (known bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, known = r.ids[id]
	delete(r.ids, id)
	return known
}

// all returns the identifiers, in no order.
func (r *receivedIDs) all() []uint16 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Collect(maps.Keys(r.ids))
}

// publish handles a PUBLISH of the client.
func (c *conn) publish(v *wire.Publish, d *scratch) error {
	t, err := c.topic(v, d)
	if err != nil {
		return err
	}
	if isSys(t.Name) && t.Name == stateTopic(c.session.id) {
		return c.announce(v, d)
	}
	if isSys(t.Name) || !c.mayPublish(t.Name) {
		return c.deny(v, d)
	}
	t = c.s.index.Resolve(t)
	if v.QoS == 0 && !v.Retain {
		p := &d.pub
		p.server, p.view, p.at, p.client.conn, p.message = c.s, *v, d.now, c, nil
		p.audience.find(t)
		p.settle(nil, d)
		p.frames.reset()
		return nil
	}
	p := newPublication(c.s, newMessage(v), d.now)
	p.client.conn, p.client.id, p.client.qos = c, v.ID, v.QoS
	if v.QoS > 0 {
		repeated, err := c.receive(p)
		if err != nil {
			p.release()
			return err
		}
		if repeated {
			return c.s.confirm(p, d)
		}
	}
	return c.s.publish(p, t, d)
}

// errDenied is the answer to a publish that the client may not make. 3.1.1 has no answer that refuses, and the client
// would only send it again: there it is acknowledged and dropped (3.1.1 section 3.3.5).
var errDenied = errors.New("not authorized")

// deny drops a publish and answers it in the order of the client's others.
func (c *conn) deny(v *wire.Publish, d *scratch) error {
	c.s.counts.dropped.denied.Add(1)
	if v.QoS == 0 {
		return nil
	}
	p := newPublication(c.s, &broker.Message{}, d.now)
	p.client.conn, p.client.id, p.client.qos, p.client.denied = c, v.ID, v.QoS, true
	if _, err := c.receive(p); err != nil {
		p.release()
		return err
	}
	return c.s.confirm(p, d)
}

// receive counts a QoS 1 or 2 publish and reports whether the client has sent it before and
// not released it: it must not be published again [MQTT-4.3.3-10].
func (c *conn) receive(pub *publication) (repeated bool, err error) {
	x := c.session
	id, qos := pub.client.id, pub.client.qos
	if qos == 2 {
		most := c.maxUnreleased()
		var full bool
		if repeated, full = x.received.add(id, most); full {
			c.s.limits.Reached(limits.Inflight, "client has too many QoS 2 publishes without PUBREL: its connection is closed", "client", x.id, "remote", c.remote(), "most", most)
			return false, &wire.Error{
				Code: wire.ReceiveMaximumExceeded, Text: fmt.Sprintf("more than %d QoS 2 publishes without PUBREL", most),
			} // [MQTT-3.3.4-7]
		}
		if x.reader != nil && !repeated && !pub.client.denied {
			pub.opts.Changes = []journal.Change{{Key: x.packetKey(receivedKey, id), Value: c.s.epoch}}
		}
	}
	v5 := c.peer.version == wire.V5
	c.mu.Lock()
	open := c.window.begin(id, qos, v5)
	c.mu.Unlock()
	if v5 && open > c.s.opts.MaxInflight {
		return false, &wire.Error{
			Code: wire.ReceiveMaximumExceeded, Text: fmt.Sprintf("more than %d publishes in flight", c.s.opts.MaxInflight),
		} // [MQTT-3.3.4-7]
	}
	return repeated, nil
}

// unreleased311 is the factor by which a 3.1.1 client may have more QoS 2 publishes without PUBREL than a 5.0 client. It
// knows no receive maximum: some libraries send all they have and only then read the answers, so that a server that
// stops reading until a PUBREL would wait for ever. Beyond it the connection is closed; the client sends
// its PUBRELs first when it is back.
const unreleased311 = 10

// maxUnreleased returns how many QoS 2 publishes the session may have without PUBREL, also of earlier connections.
func (c *conn) maxUnreleased() int {
	if c.peer.version == wire.V5 {
		return c.s.opts.MaxInflight
	}
	return min(unreleased311*c.s.opts.MaxInflight, math.MaxUint16)
}

// acknowledge answers a publish of the client when it is settled. Without a scratch it does not wait.
func (c *conn) acknowledge(id uint16, qos byte, err error, d *scratch) {
	x := c.session
	if x.inbox.busy.Load() || d == nil && !lockNow(&c.mu) {
		x.later(c, 0, func() { c.answer(id, qos, err) })
		return
	}
	if d != nil {
		c.mu.Lock()
	}
	c.answer(id, qos, err)
	c.mu.Unlock()
	d.markDirty(c)
}

// answer queues the answer to a publish. Called with mu held.
func (c *conn) answer(id uint16, qos byte, err error) {
	code, why := wire.Success, ""
	if err != nil && (c.peer.version == wire.V5 || err != errDenied) {
		code, why = refusal(err), err.Error()
	}
	t := wire.PUBACK
	if qos == 2 {
		t = wire.PUBREC
	}
	if code >= 0x80 && qos == 2 {
		c.session.received.remove(id)
	}
	c.window.answered(id, qos, code >= 0x80)
	if code >= 0x80 && c.peer.version != wire.V5 {
		// 3.1.1 has no way to refuse: the client sends an unacknowledged publish again on a new connection.
		c.failed(fmt.Errorf("storing a publish: %w", err))
		return
	}
	switch {
	case code >= 0x80:
		c.s.counts.refusals.count(t, code)
		c.queue(&wire.Ack{Type: t, ID: id, Code: code, Properties: c.peer.because(why)})
	case !c.phase.closing:
		b := c.out.buffer()
		b.b = wire.AppendAck(b.b, c.peer.version, t, id, code)
		c.out.added(c.s)
	}
}

// pubrel ends a QoS 2 publish of the client. The identifier is free for another message when its end
// is on disk: a crash must not make that other message look like a repetition.
func (c *conn) pubrel(p *wire.Ack, d *scratch) error {
	x := c.session
	known := x.received.remove(p.ID)
	c.mu.Lock()
	c.window.released(p.ID)
	c.mu.Unlock()
	answer := &wire.Ack{Type: wire.PUBCOMP, ID: p.ID}
	switch {
	case !known:
		answer.Code = wire.PacketIDNotFound
	case x.reader != nil:
		return c.commit(reply{c, answer}, journal.Change{Key: x.packetKey(receivedKey, p.ID)})
	}
	c.send(d, answer)
	return nil
}

// window holds the client's packets that are to be answered. Guarded by conn.mu, but for pending and changed.
type window struct {
	pending atomic.Int64        // entries appended to the journal and not committed
	changed bool                // changes were appended since the journal's room was last looked at; for the reading goroutine
	unacked int                 // QoS 1 publishes that were not answered
	open    map[uint16]struct{} // QoS 2 publishes of a 5.0 client that were not completed
}

// begin adds a publish and returns how many count in the receive maximum of a 5.0 client.
func (w *window) begin(id uint16, qos byte, v5 bool) int {
	switch {
	case qos == 1:
		w.unacked++
	case v5:
		if w.open == nil {
			w.open = map[uint16]struct{}{}
		}
		w.open[id] = struct{}{}
	}
	return w.unacked + len(w.open)
}

// answered notes the answer to a publish. One of QoS 2 that is not refused stays open until PUBREL.
func (w *window) answered(id uint16, qos byte, refused bool) {
	if qos == 1 {
		w.unacked--
	} else if refused {
		w.released(id)
	}
}

// released ends a QoS 2 publish.
func (w *window) released(id uint16) { delete(w.open, id) }
