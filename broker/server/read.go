package server

import (
	"fmt"
	"strings"

	"holdfast/broker"
	"holdfast/broker/journal"
	"holdfast/broker/wire"
)

// handle acts on one packet after CONNECT. An error ends the connection.
func (c *conn) handle(p wire.Packet) error {
	switch p := p.(type) {
	case *wire.Publish:
		return c.publish(p)
	case *wire.Ack:
		if p.Type == wire.PUBREL {
			return c.pubrel(p)
		}
		return c.answered(p)
	case *wire.Subscribe:
		return c.subscribe(p)
	case *wire.Unsubscribe:
		return c.unsubscribe(p)
	case *wire.Ping:
		if p.Type == wire.PINGREQ {
			c.send(&wire.Ping{Type: wire.PINGRESP}) // [MQTT-3.12.4-1]
			return nil
		}
	case *wire.Disconnect:
		return c.goodbye(p)
	case *wire.Auth:
		return &wire.Error{Code: wire.ProtocolError, Text: "AUTH without an authentication method"} // [MQTT-4.12.0-1]
	}
	return &wire.Error{Code: wire.ProtocolError, Text: fmt.Sprintf("unexpected %T", p)}
}

// publish takes a message of the client.
func (c *conn) publish(p *wire.Publish) error {
	c.s.counts.received.Add(1)
	if err := c.topic(p); err != nil {
		return err
	}
	m := &broker.Message{
		Topic: p.Topic, Payload: p.Payload, Properties: p.Forward,
		QoS: p.QoS, Retain: p.Retain, Expires: p.Expires, Expiry: p.Expiry,
	}
	pub := newPublication(c.s, m)
	pub.conn, pub.id, pub.qos = c, p.ID, p.QoS
	if p.QoS > 0 {
		repeated, err := c.receive(pub)
		if err != nil {
			pub.release()
			return err
		}
		if repeated {
			return c.s.confirm(pub)
		}
	}
	return c.s.publish(pub)
}

// receive counts a QoS 1 or 2 publish and says whether it is one that the client has sent before and
// not released, which must not be published again [MQTT-4.3.3-10].
func (c *conn) receive(pub *publication) (repeated bool, err error) {
	if pub.qos == 2 {
		x := c.session
		x.mu.Lock()
		_, repeated = x.received[pub.id]
		x.received[pub.id] = struct{}{}
		x.mu.Unlock()
		if x.reader != nil && !repeated {
			pub.changes = []journal.Change{{Key: x.packetKey(receivedKey, pub.id), Value: []byte{}}}
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if pub.qos == 2 {
		c.open[pub.id] = struct{}{}
	} else {
		c.unacked++
	}
	if c.version == wire.V5 && c.unacked+len(c.open) > c.s.opts.MaxInflight {
		return false, &wire.Error{
			Code: wire.ReceiveMaximumExceeded, Text: fmt.Sprintf("more than %d publishes in flight", c.s.opts.MaxInflight),
		} // [MQTT-3.3.4-7]
	}
	return repeated, nil
}

// acknowledge answers a publish of the client when it is settled.
func (c *conn) acknowledge(id uint16, qos byte, code wire.Code) {
	t := wire.PUBACK
	if qos == 2 {
		t = wire.PUBREC
	}
	if code >= 0x80 && qos == 2 {
		c.session.mu.Lock()
		delete(c.session.received, id)
		c.session.mu.Unlock()
	}
	c.mu.Lock()
	if qos == 1 {
		c.unacked--
	} else if code >= 0x80 {
		delete(c.open, id)
	}
	c.mu.Unlock()
	if code >= 0x80 && c.version != wire.V5 {
		// 3.1.1 has no way to refuse: what is not acknowledged is sent again on a new connection.
		c.fail(fmt.Errorf("a publish cannot be kept: %v", code))
		return
	}
	c.send(&wire.Ack{Type: t, ID: id, Code: code})
}

// pubrel ends a QoS 2 publish of the client. The identifier is free for another message when its end
// is on disk: a crash must not make that other message look like a repetition.
func (c *conn) pubrel(p *wire.Ack) error {
	x := c.session
	x.mu.Lock()
	_, known := x.received[p.ID]
	delete(x.received, p.ID)
	x.mu.Unlock()
	c.mu.Lock()
	delete(c.open, p.ID)
	c.mu.Unlock()
	answer := &wire.Ack{Type: wire.PUBCOMP, ID: p.ID}
	switch {
	case !known:
		answer.Code = wire.PacketIDNotFound
	case x.reader != nil:
		return c.commit(reply{c, answer}, journal.Change{Key: x.packetKey(receivedKey, p.ID)})
	}
	c.send(answer)
	return nil
}

// topic resolves the topic alias and checks the name.
func (c *conn) topic(p *wire.Publish) error {
	if p.TopicAlias != 0 {
		if p.TopicAlias > maxAliases {
			return &wire.Error{Code: wire.TopicAliasInvalid, Text: fmt.Sprintf("topic alias %d, want at most %d", p.TopicAlias, maxAliases)} // [MQTT-3.3.2-9]
		}
		if p.Topic == "" {
			p.Topic = c.aliases[p.TopicAlias]
			if p.Topic == "" {
				return &wire.Error{Code: wire.ProtocolError, Text: fmt.Sprintf("topic alias %d is not set", p.TopicAlias)}
			}
			return nil
		}
	}
	if p.Topic != c.checked {
		if err := broker.CheckTopic(p.Topic); err != nil {
			return &wire.Error{Code: wire.TopicNameInvalid, Text: err.Error()}
		}
		c.checked = p.Topic
	}
	if p.TopicAlias != 0 {
		if c.aliases == nil {
			c.aliases = map[uint16]string{}
		}
		c.aliases[p.TopicAlias] = p.Topic
	}
	return nil
}

// subscribe answers when the subscriptions of a durable session are on disk.
func (c *conn) subscribe(p *wire.Subscribe) error {
	x := c.session
	answer := &wire.Suback{Type: wire.SUBACK, ID: p.ID}
	var changes []journal.Change
	var replays []replay
	x.mu.Lock()
	for _, want := range p.Subscriptions {
		code := x.mayHave(want.Filter, len(x.subs))
		if code < 0x80 {
			code = wire.Code(want.QoS)
			sub := subscription{want.QoS, want.NoLocal, want.RetainAsPublished, 0}
			if id := p.Properties.SubscriptionID; id != nil {
				sub.id = *id
			}
			isNew := x.subscribe(want.Filter, sub)
			if want.RetainHandling == 0 || want.RetainHandling == 1 && isNew {
				replays = append(replays, replay{want.Filter, sub})
			}
			changes = append(changes, journal.Change{Key: x.subKey(want.Filter), Value: sub.encode()})
		}
		answer.Codes = append(answer.Codes, code)
	}
	x.mu.Unlock()
	done := subscribed{reply{c, answer}, replays}
	if x.reader == nil || len(changes) == 0 {
		done.send()
		return nil
	}
	return c.commit(done, changes...)
}

// subscribed is a reply that retained messages follow.
type subscribed struct {
	reply
	replays []replay
}

func (r subscribed) Committed(_ *journal.Entry, _ uint64, err error) {
	r.c.settled()
	if err != nil {
		r.c.fail(err)
		return
	}
	r.send()
}

func (r subscribed) send() {
	r.c.send(r.p)
	x := r.c.session
	x.mu.Lock()
	for _, p := range r.replays {
		x.wantReplay(p)
	}
	x.mu.Unlock()
	r.c.poke()
}

// mayHave is the reason code for a filter, with n subscriptions already there. Called with mu held.
func (x *session) mayHave(filter string, n int) wire.Code {
	_, had := x.subs[filter]
	switch {
	case broker.CheckFilter(filter) != nil:
		return wire.TopicFilterInvalid
	case strings.HasPrefix(filter, broker.SharedPrefix):
		return wire.SharedSubscriptionsDisabled
	case !had && n >= x.s.opts.MaxSubscriptions:
		return wire.QuotaExceeded
	}
	return wire.Success
}

// wantReplay has the retained messages of a subscription sent, once. Called with mu held.
func (x *session) wantReplay(r replay) {
	for i := range x.replays {
		if x.replays[i].filter == r.filter {
			x.replays[i] = r
			return
		}
	}
	x.replays = append(x.replays, r)
}

func (c *conn) unsubscribe(p *wire.Unsubscribe) error {
	x := c.session
	answer := &wire.Suback{Type: wire.UNSUBACK, ID: p.ID}
	var changes []journal.Change
	x.mu.Lock()
	for _, filter := range p.Filters {
		code := wire.NoSubscriptionExisted
		if _, had := x.subs[filter]; had {
			code = wire.Success
			delete(x.subs, filter)
			x.s.index.remove(filter, x.target)
			changes = append(changes, journal.Change{Key: x.subKey(filter)})
		}
		answer.Codes = append(answer.Codes, code)
	}
	x.mu.Unlock()
	if x.reader == nil || len(changes) == 0 {
		c.send(answer)
		return nil
	}
	return c.commit(reply{c, answer}, changes...)
}

// goodbye ends the connection on the client's wish.
func (c *conn) goodbye(p *wire.Disconnect) error {
	if v := p.Properties.SessionExpiry; v != nil {
		c.s.mu.Lock()
		defer c.s.mu.Unlock()
		if c.session.expiry == 0 && *v > 0 {
			return &wire.Error{Code: wire.ProtocolError, Text: "a session that ends with the connection cannot be prolonged"} // [MQTT-3.14.2-2]
		}
		if err := c.session.setExpiry(*v); err != nil {
			return err
		}
	}
	if p.Code != wire.DisconnectWithWill {
		c.will = nil // [MQTT-3.14.4-3]
	}
	return errDisconnect
}

// commit stores changes of the session, in the order of the client's packets.
func (c *conn) commit(done journal.Completer, changes ...journal.Change) error {
	c.pending.Add(1)
	err := c.s.journal.Append(journal.Entry{Changes: changes, Done: done})
	if err != nil {
		c.pending.Add(-1)
	}
	return err
}

// reply sends a packet when what it promises is on disk.
type reply struct {
	c *conn
	p wire.Packet
}

func (r reply) Committed(_ *journal.Entry, _ uint64, err error) {
	r.c.settled()
	if err != nil {
		r.c.fail(err)
		return
	}
	r.c.send(r.p)
}
