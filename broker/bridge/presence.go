package bridge

import (
	"errors"
	"net/url"
	"time"

	"holdfast/broker"
	"holdfast/broker/dial"
	"holdfast/broker/outbox"
	"holdfast/broker/wire"
)

// The payloads on Options.Status.
const (
	Online  = "online"
	Offline = "offline"
)

const presenceDisconnects = 2 // connections in a row that may end before the status is acknowledged, until it is left away

// presenceTopic is what Options.Status becomes for this upstream. Without a will nothing is published there: it could not be
// corrected when the gateway is gone.
type presenceTopic struct {
	topic  string // empty for none
	retain bool
}

// newPresenceTopic adapts the status topic to the upstream, as for any message.
func newPresenceTopic(o *Options) (presenceTopic, error) {
	if o.Status == "" {
		return presenceTopic{}, nil
	}
	s, err := presenceTopic{o.Status, true}, error(nil)
	if o.Adapt != nil {
		m := &broker.Message{Topic: o.Status, Payload: []byte(Offline), QoS: 1, Retain: true}
		s.topic, s.retain, err = o.Adapt(o.Status, m, true)
	}
	if err == nil {
		err = broker.CheckTopic(s.topic)
	}
	return s, err
}

// will returns the message that the upstream publishes when the connection ends without a DISCONNECT. It has no delay:
// 3.1.1 knows none, and it has no effect where the session ends with the connection.
func (b *Bridge) will(u *url.URL) *wire.Will {
	if b.presenceTopic.topic == "" || b.willDisabledUntil.has(u) {
		return nil
	}
	return &wire.Will{Topic: b.presenceTopic.topic, Payload: []byte(Offline), QoS: 1, Retain: b.presenceTopic.retain}
}

// disablePresence disables presence at an upstream for as long as it may take until it is allowed there.
func (b *Bridge) disablePresence(u *url.URL, reason string) {
	b.willDisabledUntil.note(u)
	b.log.Warn("the upstream does not let the gateway say there whether it is online: allow the topic, name another one in `status`, or `status: off`; tried again later",
		"upstream", dial.Redact(u.String()), "topic", b.presenceTopic.topic, "in", negativeTTL, "reason", reason)
}

// refusesWill reports whether an upstream may have refused a connection for its will.
func refusesWill(err error) bool {
	var said *reasonError
	if !errors.As(err, &said) {
		return false
	}
	switch said.code {
	case wire.NotAuthorized, wire.TopicNameInvalid, wire.RetainNotSupported, wire.QoSNotSupported:
		return true
	}
	return false
}

// presence is the state of the gateway's presence topic on one connection. Presence messages do not go through the
// journal: only the newest counts, and a write to the disk for each connection would be useless.
type presence struct {
	id      uint16 // of the last message; 0 if it is acknowledged
	end     uint64 // bytes that have to be written for it to be
	since   time.Time
	again   time.Time // when online is published once more; zero if it has been
	left    bool      // offline has been published
	refused string    // why the upstream does not take it, if it gives a reason
}

// greet publishes that the gateway is online. The backlog follows when the upstream has acknowledged
// that, so that no message is blamed if the upstream ends connections because of it.
func (s *connection) greet(now time.Time) {
	s.publishPresence(Online, now)
	s.presence.again = now.Add(2 * max(s.l.limits.keepAlive, s.b.opts.KeepAlive))
}

// repeat publishes online once more, two keep alives after the start: by then the upstream, or the one behind it, has
// noticed that an earlier connection is dead and has published its will, which would be the last message. It returns
// the time until then.
func (s *connection) repeat(now time.Time) (wait time.Duration) {
	p := &s.presence
	if p.again.IsZero() {
		return outbox.Forever
	}
	if wait := p.again.Sub(now); wait > 0 {
		return wait
	}
	if p.id == 0 && s.f.InFlight() < s.l.limits.receive { // else an acknowledgement is to come
		p.again = time.Time{}
		s.publishPresence(Online, now)
	}
	return outbox.Forever
}

func (s *connection) publishPresence(payload string, now time.Time) {
	p := &wire.Publish{
		Topic: s.b.presenceTopic.topic, Payload: []byte(payload), QoS: min(1, s.l.limits.qos), Retain: s.b.presenceTopic.retain && s.l.limits.retain,
	}
	if p.QoS > 0 {
		p.ID = s.nextID()
	}
	s.presence.id, s.presence.since = p.ID, now
	s.presence.end = s.l.publish(p)
}

// heard handles the upstream's acknowledgement.
func (p *presence) heard(a ack) {
	p.id = 0
	switch a.code {
	case wire.NotAuthorized, wire.TopicNameInvalid, wire.PayloadFormatInvalid, wire.PacketTooLarge:
		p.refused = a.code.String()
	}
}

// leave publishes offline once, and reports whether it is acknowledged. It is called when everything else is.
func (s *connection) leave(now time.Time) (done bool) {
	p := &s.presence
	if s.l.willed && !p.left && p.id == 0 {
		p.left = true
		s.publishPresence(Offline, now)
		s.l.flush()
	}
	return p.id == 0
}

// farewell returns the DISCONNECT that a connection ends with, or nil for none, so that the upstream publishes the will
// unless offline was published.
func (s *connection) farewell() wire.Packet {
	switch {
	case !s.l.willed || s.presence.left:
		return &wire.Disconnect{}
	case s.l.version == wire.V5:
		return &wire.Disconnect{Code: wire.DisconnectWithWill}
	}
	return nil
}

// notePresence evaluates the end of a connection: some upstreams end it because of a topic that they do not allow.
func (b *Bridge) notePresence(s *connection, u *url.URL, err error) {
	p := &s.presence
	switch {
	case !s.l.willed:
	case p.refused != "":
		b.disablePresence(u, p.refused)
	case p.id == 0 || p.left:
		b.presenceFailures = 0
	case closed(err):
		if b.presenceFailures++; b.presenceFailures > presenceDisconnects {
			b.disablePresence(u, "it has ended the connection at it several times")
			b.presenceFailures = 0
		}
	}
}
