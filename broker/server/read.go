package server

import (
	"fmt"

	"holdfast/broker/journal"
	"holdfast/broker/wire"
)

// handle handles one packet after CONNECT. An error ends the connection.
func (c *conn) handle(raw wire.Raw, d *scratch) error {
	switch raw.Type() {
	case wire.PUBLISH:
		if err := raw.Publish(c.peer.version, &d.in, d.name); err != nil {
			return err
		}
		d.publishes++
		d.publishBytes += uint64(len(raw.Body))
		return c.publish(&d.in, d)
	case wire.PUBACK, wire.PUBREC, wire.PUBCOMP:
		if err := raw.Ack(c.peer.version, &d.ack); err != nil {
			return err
		}
		return c.answered(&d.ack, d)
	case wire.PUBREL:
		if err := raw.Ack(c.peer.version, &d.ack); err != nil {
			return err
		}
		return c.pubrel(&d.ack, d)
	}
	p, err := raw.Packet(c.peer.version)
	if err != nil {
		return err
	}
	switch p := p.(type) {
	case *wire.Subscribe:
		return c.subscribe(p, d)
	case *wire.Unsubscribe:
		return c.unsubscribe(p, d)
	case *wire.Ping:
		if p.Type == wire.PINGREQ {
			c.send(d, &wire.Ping{Type: wire.PINGRESP}) // [MQTT-3.12.4-1]
			return nil
		}
	case *wire.Disconnect:
		return c.goodbye(p)
	case *wire.Auth:
		return &wire.Error{Code: wire.ProtocolError, Text: "AUTH without an authentication method"} // [MQTT-4.12.0-1]
	}
	return &wire.Error{Code: wire.ProtocolError, Text: fmt.Sprintf("unexpected %v", raw.Type())}
}

// goodbye handles a DISCONNECT: it ends the connection.
func (c *conn) goodbye(p *wire.Disconnect) error {
	if v := p.Properties.SessionExpiry; v != nil {
		c.s.mu.Lock()
		defer c.s.mu.Unlock()
		if c.session.away.expiry == 0 && *v > 0 {
			return &wire.Error{Code: wire.ProtocolError, Text: "a session that ends with the connection cannot be prolonged"} // [MQTT-3.14.2-2]
		}
		if err := c.session.setExpiry(c.s.capExpiry(*v)); err != nil {
			return err
		}
	}
	if p.Code != wire.DisconnectWithWill {
		c.s.forgetWill(c.will)
		c.will = nil // [MQTT-3.14.4-3]
	}
	return errDisconnect
}

// commit stores changes of the session, in the order of the client's packets.
func (c *conn) commit(done journal.Completer, changes ...journal.Change) error {
	c.window.pending.Add(1)
	c.window.changed = true
	err := c.s.journal.Append(journal.Entry{Changes: changes, Done: done, Limited: true})
	if err != nil {
		c.window.pending.Add(-1)
	}
	return err
}

// reply sends a packet when what it promises is on disk.
type reply struct {
	c *conn
	p wire.Packet
}

func (r reply) Committed(_ *journal.Entry, _ uint64, err error) { r.queue(err, nil) }

// queue queues the packet and calls then, or ends the connection with err.
func (r reply) queue(err error, then func()) {
	c := r.c
	c.session.whenFree(c, func() {
		if err != nil {
			c.failed(err)
			return
		}
		c.queue(r.p)
		if then != nil {
			then()
		}
	})
	c.settled()
	c.wake()
}
