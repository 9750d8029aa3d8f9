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

// newPresenceTopic fits the status to the upstream, as any message.
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

// will is what an upstream is to publish when the connection ends without a word. It is not delayed: over
// 3.1.1 it cannot be, nor where the session ends with the connection.
func (b *Bridge) will(u *url.URL) *wire.Will {
	b.mu.Lock()
	defer b.mu.Unlock()
	if until, ok := b.willDisabledUntil[u.Host]; b.presenceTopic.topic == "" || ok && time.Now().Before(until) {
		return nil
	}
	return &wire.Will{Topic: b.presenceTopic.topic, Payload: []byte(Offline), QoS: 1, Retain: b.presenceTopic.retain}
}

// silence disables presence at an upstream for as long as it may take until it is allowed there.
func (b *Bridge) silence(u *url.URL, reason string) {
	b.mu.Lock()
	b.willDisabledUntil[u.Host] = time.Now().Add(negativeTTL)
	b.mu.Unlock()
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

// presence is what a session says of the gateway itself. It is no message of the journal: only the newest
// counts, and a write to the disk for each connection would be for nothing.
type presence struct {
	id      uint16 // of what was said last; 0 if it is acknowledged
	end     uint64 // bytes that have to be written for it to be
	since   time.Time
	again   time.Time // when online is said once more; zero if it has been
	left    bool      // offline has been said
	refused string    // why the upstream does not take it, if it says so
}

// greet publishes that the gateway is online. The backlog follows when the upstream has acknowledged
// that, so that an upstream which ends connections for it is not thought to do so for a message.
func (s *connection) greet(now time.Time) {
	s.say(Online, now)
	s.presence.again = now.Add(2 * max(s.l.limits.keepAlive, s.b.opts.KeepAlive))
}

// repeat publishes online once more when an upstream, or the one behind it, must have noticed by its keep alive
// that an earlier connection is dead, and has published its will: that would have the last word. It returns
// how long that is to come.
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
		s.say(Online, now)
	}
	return outbox.Forever
}

func (s *connection) say(payload string, now time.Time) {
	p := &wire.Publish{
		Topic: s.b.presenceTopic.topic, Payload: []byte(payload), QoS: min(1, s.l.limits.qos), Retain: s.b.presenceTopic.retain && s.l.limits.retain,
	}
	if p.QoS > 0 {
		p.ID = s.nextID()
	}
	s.presence.id, s.presence.since = p.ID, now
	s.presence.end = s.l.publish(p)
}

// heard takes the upstream's answer.
func (p *presence) heard(a ack) {
	p.id = 0
	switch a.code {
	case wire.NotAuthorized, wire.TopicNameInvalid, wire.PayloadFormatInvalid, wire.PacketTooLarge:
		p.refused = a.code.String()
	}
}

// leave says offline once everything else is acknowledged, and whether that is as well.
func (s *connection) leave(now time.Time) (done bool) {
	p := &s.presence
	if s.l.willed && !p.left && p.id == 0 {
		p.left = true
		s.say(Offline, now)
		s.l.flush()
	}
	return p.id == 0
}

// farewell is the DISCONNECT that a connection ends with, and nil for none, so that the will is published if
// the upstream has not been told.
func (s *connection) farewell() wire.Packet {
	switch {
	case !s.l.willed || s.presence.left:
		return &wire.Disconnect{}
	case s.l.version == wire.V5:
		return &wire.Disconnect{Code: wire.DisconnectWithWill}
	}
	return nil
}

// notePresence looks at how a connection has ended: some upstreams end it for a topic that they do not allow.
func (b *Bridge) notePresence(s *connection, u *url.URL, err error) {
	p := &s.presence
	switch {
	case !s.l.willed:
	case p.refused != "":
		b.silence(u, p.refused)
	case p.id == 0 || p.left:
		b.presenceFailures = 0
	case closed(err):
		if b.presenceFailures++; b.presenceFailures > presenceDisconnects {
			b.silence(u, "it has ended the connection at it several times")
			b.presenceFailures = 0
		}
	}
}
