package server

// offer delivers the message to its subscriber, unless that reads it from the journal. late matches do not: the journal entry does not
// owe them the message.
func (p *publication) offer(m *match, late bool, d *scratch) {
	t, qos := m.Target, min(m.QoS, p.view.QoS)
	switch {
	case p.skips(m), qos > 0 && t.reader != nil && !late:
	case late && t.reader != nil && t.session == nil: // a route is sent what was retained before it by SendRetained
	case t.deliver != nil:
		t.deliver(p.keep())
	case t.session != nil: // not so for a bridge's reader at QoS 0 without Deliver
		c := t.session.conn.Load()
		if c == nil && (qos == 0 || t.reader == nil) || c != nil && c.peer.bridge && p.noBridges {
			return
		}
		retain := p.view.Retain && m.RetainAsPublished
		if qos == 0 {
			if c.offer(p, retain, m.IDs, d != nil) {
				d.markDirty(c)
			}
			return
		}
		t.session.offer(c, p, outgoing{message: p.keep(), qos: qos, retain: retain, ids: m.IDs, at: p.at}, d != nil)
		if c == nil {
			t.session.notify()
			return
		}
		d.markDirty(c)
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
			c.s.counts.dropped.queue.Add(1)
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
			x.s.counts.dropped.queue.Add(1)
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
	if c != nil && !x.waits() && (c.out.buf == nil || len(c.out.buf.b)+cost <= writeChunk) && !x.s.memory.full(c.out.len(), cost) && x.mayFly() {
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
	if len(x.queue) > 0 && x.queued+cost > x.s.opts.MaxQueued || x.s.memory.full(x.queued, cost) {
		x.s.counts.dropped.queue.Add(1)
		return
	}
	x.queue = append(x.queue, o)
	x.queued += cost
	x.s.memory.waiting.Add(int64(cost))
}
