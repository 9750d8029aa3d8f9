package server

import (
	"fmt"
	"strings"

	"holdfast/broker"
	"holdfast/broker/journal"
	"holdfast/broker/server/filters"
	"holdfast/broker/server/limits"
	"holdfast/broker/wire"
)

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
		group, _ := filters.SplitShared(want.Filter)
		if group != "" && want.NoLocal {
			x.mu.Unlock()
			return &wire.Error{Code: wire.ProtocolError, Text: "No Local with a shared subscription"} // [MQTT-3.8.3-4]
		}
		code := x.mayHave(want.Filter)
		if code < 0x80 && !c.peer.grant.MaySubscribe(want.Filter) {
			code = wire.NotAuthorized
		}
		sub := filters.Subscription{QoS: want.QoS, NoLocal: want.NoLocal, RetainAsPublished: want.RetainAsPublished}
		if c.peer.bridge { // what it has sent does not come back, and RETAIN stays, as a bridge of 5.0 would ask for
			sub.NoLocal, sub.RetainAsPublished = group == "", true
		}
		if id := p.Properties.SubscriptionID; id != nil {
			sub.ID = *id
		}
		var isNew bool
		var version uint64
		if code < 0x80 {
			var refused limits.Name
			if isNew, version, refused = x.subscribe(want.Filter, sub); refused != "" {
				code = wire.QuotaExceeded
				c.later(func() {
					c.s.limits.Reached(refused, "subscription refused", "client", x.id, "user", c.user(), "filter", want.Filter)
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
			changes = append(changes, journal.Change{Key: x.subKey(want.Filter), Value: encodeSubscription(sub)})
		} else if answer.Properties.ReasonString == nil {
			answer.Properties = c.peer.because(fmt.Sprintf("%.200q: %v", want.Filter, code))
		}
		c.s.counts.refusals.count(wire.SUBACK, code)
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
	answer.Properties = c.peer.because(err.Error())
	c.send(d, answer)
	return nil
}

// checkFilter returns the error that ends a connection that sends a malformed filter: 0x8F is for a filter that is
// correctly formed (5.0 section 2.4). In 3.1.1, which has no shared subscriptions, a malformed one is not the
// client's mistake: mayHave refuses it.
func (c *conn) checkFilter(filter string) error {
	err := broker.CheckFilter(filter)
	if err == nil || c.peer.version != wire.V5 && isShared(filter) && broker.CheckFilter(filter[1:]) == nil {
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

func (r subscribed) Committed(_ *journal.Entry, _ uint64, err error) { r.queue(err, r.want) }

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
