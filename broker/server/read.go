package server

import (
	"errors"
	"fmt"
	"math"
	"strings"

	"holdfast/broker"
	"holdfast/broker/journal"
	"holdfast/broker/wire"
)

// handle handles one packet after CONNECT. An error ends the connection.
func (c *conn) handle(raw wire.Raw, d *scratch) error {
	switch raw.Type() {
	case wire.PUBLISH:
		if err := raw.Publish(c.version, &d.in, d.name); err != nil {
			return err
		}
		d.publishes++
		d.publishBytes += uint64(len(raw.Body))
		return c.publish(&d.in, d)
	case wire.PUBACK, wire.PUBREC, wire.PUBCOMP:
		if err := raw.Ack(c.version, &d.ack); err != nil {
			return err
		}
		return c.answered(&d.ack, d)
	case wire.PUBREL:
		if err := raw.Ack(c.version, &d.ack); err != nil {
			return err
		}
		return c.pubrel(&d.ack, d)
	}
	p, err := raw.Packet(c.version)
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

// publish handles a PUBLISH of the client.
func (c *conn) publish(v *wire.Publish, d *scratch) error {
	t, err := c.topic(v, d)
	if err != nil {
		return err
	}
	if isSys(t.name) && t.name == stateTopic(c.session.id) {
		return c.announce(v, d)
	}
	if isSys(t.name) || !c.mayPublish(t.name) {
		return c.deny(v, d)
	}
	t = c.s.resolve(t)
	if v.QoS == 0 && !v.Retain {
		p := &d.pub
		p.server, p.view, p.at, p.conn, p.message = c.s, *v, d.now, c, nil
		p.find(t)
		p.settle(nil, d)
		p.frames.reset()
		return nil
	}
	p := newPublication(c.s, newMessage(v), d.now)
	p.conn, p.id, p.qos = c, v.ID, v.QoS
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
	c.s.counts.deniedPublishes.Add(1)
	if v.QoS == 0 {
		return nil
	}
	p := newPublication(c.s, &broker.Message{}, d.now)
	p.conn, p.id, p.qos, p.denied = c, v.ID, v.QoS, true
	if _, err := c.receive(p); err != nil {
		p.release()
		return err
	}
	return c.s.confirm(p, d)
}

// receive counts a QoS 1 or 2 publish and reports whether the client has sent it before and
// not released it: it must not be published again [MQTT-4.3.3-10].
func (c *conn) receive(pub *publication) (repeated bool, err error) {
	if pub.qos == 2 {
		x := c.session
		x.leaf.Lock()
		_, repeated = x.received[pub.id]
		most := c.maxUnreleased()
		if full := !repeated && len(x.received) >= most; full {
			x.leaf.Unlock()
			c.s.reached(limitInflight, "client has too many QoS 2 publishes without PUBREL: its connection is closed", "client", x.id, "remote", c.remote(), "most", most)
			return false, &wire.Error{
				Code: wire.ReceiveMaximumExceeded, Text: fmt.Sprintf("more than %d QoS 2 publishes without PUBREL", most),
			} // [MQTT-3.3.4-7]
		}
		if x.received == nil {
			x.received = map[uint16]struct{}{}
		}
		x.received[pub.id] = struct{}{}
		x.leaf.Unlock()
		if x.reader != nil && !repeated && !pub.denied {
			pub.changes = []journal.Change{{Key: x.packetKey(receivedKey, pub.id), Value: c.s.epoch}}
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case pub.qos == 1:
		c.unacked++
	case c.version == wire.V5:
		if c.open == nil {
			c.open = map[uint16]struct{}{}
		}
		c.open[pub.id] = struct{}{}
	}
	if c.version == wire.V5 && c.unacked+len(c.open) > c.s.opts.MaxInflight {
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
	if c.version == wire.V5 {
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
	if err != nil && (c.version == wire.V5 || err != errDenied) {
		code, why = refusal(err), err.Error()
	}
	t := wire.PUBACK
	if qos == 2 {
		t = wire.PUBREC
	}
	if code >= 0x80 && qos == 2 {
		c.session.leaf.Lock()
		delete(c.session.received, id)
		c.session.leaf.Unlock()
	}
	if qos == 1 {
		c.unacked--
	} else if code >= 0x80 {
		delete(c.open, id)
	}
	if code >= 0x80 && c.version != wire.V5 {
		// 3.1.1 has no way to refuse: the client sends an unacknowledged publish again on a new connection.
		c.failed(fmt.Errorf("storing a publish: %w", err))
		return
	}
	switch {
	case code >= 0x80:
		c.s.refusals.count(t, code)
		c.queue(&wire.Ack{Type: t, ID: id, Code: code, Properties: c.because(why)})
	case !c.closing:
		b := c.buffer()
		b.b = wire.AppendAck(b.b, c.version, t, id, code)
		c.appended(b)
	}
}

// pubrel ends a QoS 2 publish of the client. The identifier is free for another message when its end
// is on disk: a crash must not make that other message look like a repetition.
func (c *conn) pubrel(p *wire.Ack, d *scratch) error {
	x := c.session
	x.leaf.Lock()
	_, known := x.received[p.ID]
	delete(x.received, p.ID)
	x.leaf.Unlock()
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
	c.send(d, answer)
	return nil
}

// topic resolves the topic alias and checks the name.
func (c *conn) topic(p *wire.Publish, d *scratch) (*topic, error) {
	if len(p.SubscriptionIDs) > 0 {
		return nil, &wire.Error{Code: wire.ProtocolError, Text: "subscription identifier in a client's PUBLISH"} // [MQTT-3.3.4-6]
	}
	if p.TopicAlias > maxAliases {
		return nil, &wire.Error{Code: wire.TopicAliasInvalid, Text: fmt.Sprintf("topic alias %d, want at most %d", p.TopicAlias, maxAliases)} // [MQTT-3.3.2-9]
	}
	if p.Topic == "" {
		t := c.aliases[p.TopicAlias]
		if t == nil {
			return nil, &wire.Error{Code: wire.ProtocolError, Text: fmt.Sprintf("topic alias %d is not set", p.TopicAlias)}
		}
		p.Topic = t.name
		return t, nil
	}
	t := d.topic
	if t.err != nil {
		return nil, &wire.Error{Code: wire.TopicNameInvalid, Text: t.err.Error()}
	}
	if p.TopicAlias != 0 {
		return t, c.setAlias(p.TopicAlias, t)
	}
	return t, nil
}

// setAlias sets the topic of an alias. The topics of all the client's aliases have maxAliasBytes at most.
func (c *conn) setAlias(alias uint16, t *topic) error {
	if old := c.aliases[alias]; old != nil {
		c.aliasBytes -= len(old.name)
	}
	if c.aliasBytes += len(t.name); c.aliasBytes > maxAliasBytes {
		c.s.reached(limitTopicAliases, "connection closed: the topics of its aliases are too long together", "client", c.session.id, "remote", c.remote())
		return &wire.Error{Code: wire.QuotaExceeded, Text: fmt.Sprintf("topics with an alias have %d bytes, want at most %d", c.aliasBytes, maxAliasBytes)}
	}
	if c.aliases == nil {
		c.aliases = map[uint16]*topic{}
	}
	c.aliases[alias] = t
	return nil
}

// subscribe answers when the subscriptions of a durable session are on disk.
func (c *conn) subscribe(p *wire.Subscribe, d *scratch) error {
	for i := range p.Subscriptions {
		if err := c.checkFilter(p.Subscriptions[i].Filter); err != nil {
			return err
		}
	}
	x := c.session
	answer := &wire.Suback{Type: wire.SUBACK, ID: p.ID}
	var changes []journal.Change
	var replays []replay
	var added []string
	x.mu.Lock()
	for _, want := range p.Subscriptions {
		group, _ := splitShared(want.Filter)
		if group != "" && want.NoLocal {
			x.mu.Unlock()
			return &wire.Error{Code: wire.ProtocolError, Text: "No Local with a shared subscription"} // [MQTT-3.8.3-4]
		}
		code := x.mayHave(want.Filter)
		if code < 0x80 && !c.grant.MaySubscribe(want.Filter) {
			code = wire.NotAuthorized
		}
		sub := subscription{qos: want.QoS, noLocal: want.NoLocal, retainAsPublished: want.RetainAsPublished}
		if c.bridge { // what it has sent does not come back, and RETAIN stays, as a bridge of 5.0 would ask for
			sub.noLocal, sub.retainAsPublished = group == "", true
		}
		if id := p.Properties.SubscriptionID; id != nil {
			sub.id = *id
		}
		var isNew bool
		var version uint64
		if code < 0x80 {
			var refused limit
			if isNew, version, refused = x.subscribe(want.Filter, sub); refused != "" {
				code = wire.QuotaExceeded
				c.later(func() {
					c.s.reached(refused, "subscription refused", "client", x.id, "user", c.user(), "filter", want.Filter)
				})
			}
		}
		if code < 0x80 {
			code = wire.Code(want.QoS)
			if isNew {
				added = append(added, want.Filter)
			}
			if group == "" && (want.RetainHandling == 0 || want.RetainHandling == 1 && isNew) {
				replays = append(replays, replay{want.Filter, version, sub})
			}
			changes = append(changes, journal.Change{Key: x.subKey(want.Filter), Value: sub.encode()})
		} else if answer.Properties.ReasonString == nil {
			answer.Properties = c.because(fmt.Sprintf("%.200q: %v", want.Filter, code))
		}
		c.s.refusals.count(wire.SUBACK, code)
		answer.Codes = append(answer.Codes, code)
	}
	x.mu.Unlock()
	c.catchUp()
	done := subscribed{reply{c, answer}, replays}
	if x.reader == nil || len(changes) == 0 {
		done.send(d)
		return nil
	}
	err := c.commit(done, changes...)
	if !c.s.stateRefused(err, x.id, "subscriptions are refused") {
		return err
	}
	x.mu.Lock()
	for _, filter := range added {
		x.unsubscribe(filter)
	}
	x.mu.Unlock()
	for i, code := range answer.Codes {
		if code < 0x80 {
			answer.Codes[i] = wire.QuotaExceeded
		}
	}
	answer.Properties = c.because(err.Error())
	c.send(d, answer)
	return nil
}

// stateRefused reports whether err is the journal's refusal of more state, which it counts and logs.
func (s *Server) stateRefused(err error, client, what string) bool {
	if !errors.Is(err, journal.ErrState) && !errors.Is(err, journal.ErrTooLarge) {
		return false
	}
	s.reached(limitState, what+": the state of clients has its share of the journal; end sessions that are not needed, or raise max_size", "client", client)
	return true
}

// checkFilter returns the error that ends a connection that sends a malformed filter: 0x8F is for a filter that is
// correctly formed (5.0 section 2.4). In 3.1.1, which has no shared subscriptions, a malformed one is not the
// client's mistake: mayHave refuses it.
func (c *conn) checkFilter(filter string) error {
	err := broker.CheckFilter(filter)
	if err == nil || c.version != wire.V5 && isShared(filter) && broker.CheckFilter(filter[1:]) == nil {
		return nil
	}
	return &wire.Error{Code: wire.MalformedPacket, Text: err.Error()} // [MQTT-4.7.1-1, MQTT-4.7.3-1, MQTT-4.8.2-1]
}

func isShared(filter string) bool { return strings.HasPrefix(filter, broker.SharedPrefix) }

// subscribed is a reply that retained messages follow.
type subscribed struct {
	reply
	replays []replay
}

func (r subscribed) Committed(_ *journal.Entry, _ uint64, err error) {
	c := r.c
	c.session.whenFree(c, func() {
		if err != nil {
			c.failed(err)
			return
		}
		c.queue(r.p)
		r.want()
	})
	c.settled()
	c.wake()
}

func (r subscribed) send(d *scratch) {
	r.c.send(d, r.p)
	x := r.c.session
	x.mu.Lock()
	r.want()
	x.mu.Unlock()
	if len(r.replays) > 0 {
		r.c.wake()
	}
}

// want queues the replays of retained messages. Called with the session's mu held.
func (r subscribed) want() {
	for _, p := range r.replays {
		r.c.session.wantReplay(p)
	}
}

// mayHave returns the reason code for a filter that checkFilter has accepted. Called with mu held.
func (x *session) mayHave(filter string) wire.Code {
	if isShared(filter) && broker.CheckFilter(filter) != nil || strings.Count(filter, "/") >= x.s.opts.MaxLevels {
		return wire.TopicFilterInvalid
	}
	return wire.Success
}

// Each weightLevels levels and weightBytes bytes that a filter has begun count as one of Options.MaxSubscriptions
// and MaxFilters: its cost in the index and, with the client identifier, among the journal's keys.
const (
	weightLevels = 8
	weightBytes  = 128
)

func (x *session) filterWeight(filter string) int {
	return 1 + max(strings.Count(filter, "/")/weightLevels, (len(filter)+len(x.id))/weightBytes)
}

// wantReplay queues the retained messages of a subscription, once. Called with mu held.
func (x *session) wantReplay(r replay) {
	for i := range x.replays {
		if x.replays[i].filter == r.filter {
			x.replays[i] = r
			return
		}
	}
	x.replays = append(x.replays, r)
}

func (c *conn) unsubscribe(p *wire.Unsubscribe, d *scratch) error {
	for _, filter := range p.Filters {
		if err := c.checkFilter(filter); err != nil {
			return err
		}
	}
	x := c.session
	answer := &wire.Suback{Type: wire.UNSUBACK, ID: p.ID}
	var changes []journal.Change
	x.mu.Lock()
	for _, filter := range p.Filters {
		code := wire.NoSubscriptionExisted
		if x.unsubscribe(filter) {
			code = wire.Success
			changes = append(changes, journal.Change{Key: x.subKey(filter)})
		}
		answer.Codes = append(answer.Codes, code)
	}
	x.mu.Unlock()
	if x.reader == nil || len(changes) == 0 {
		c.send(d, answer)
		return nil
	}
	return c.commit(reply{c, answer}, changes...)
}

// goodbye handles a DISCONNECT: it ends the connection.
func (c *conn) goodbye(p *wire.Disconnect) error {
	if v := p.Properties.SessionExpiry; v != nil {
		c.s.mu.Lock()
		defer c.s.mu.Unlock()
		if c.session.expiry == 0 && *v > 0 {
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
	c.pending.Add(1)
	c.changed = true
	err := c.s.journal.Append(journal.Entry{Changes: changes, Done: done, Limited: true})
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
	c := r.c
	c.session.whenFree(c, func() {
		if err != nil {
			c.failed(err)
			return
		}
		c.queue(r.p)
	})
	c.settled()
	c.wake()
}
