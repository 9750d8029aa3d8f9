package bridge

import (
	"bytes"
	"fmt"
	"time"

	"holdfast/broker"
	"holdfast/broker/journal"
	"holdfast/broker/wire"
)

const (
	liveBytes  = 256 << 10 // that wait for a slow link; QoS 0 messages beyond are dropped
	maxAliases = 64        // topics that an upstream is told an alias for

	// waited is after how long a message counts as replayed: longer than anything takes that is sent as it
	// comes.
	waited = 5 * time.Second

	replayedProperty = "holdfast-replayed"
	takenProperty    = "holdfast-taken"
)

// forward sends a message of the journal, or settles it if it cannot be sent, or holds it.
func (s *session) forward(d journal.Delivery, h how) {
	b, m := s.b, d.Message
	now := time.Now()
	age, left, alive := d.Reader.Waited(d.Time), uint32(0), true
	if m.Expires {
		left, alive = journal.Remaining(m.Expiry, age)
	}
	if !alive {
		s.counts.Expired++
		s.drop(d, journal.ReasonExpired)
		return
	}
	if why := b.condemned[d.Seq]; why != "" {
		s.refuse(d, why)
		return
	}
	topic, qos, retain, err := b.name(m, d.Retain)
	if err != nil {
		s.refuse(d, err.Error())
		return
	}
	p := wire.Publish{
		Topic: topic, Payload: m.Payload, QoS: min(qos, d.QoS, m.QoS, s.l.limits.qos), Retain: retain && s.l.limits.retain,
	}
	if s.l.version == wire.V5 {
		s.props = b.marker.append(s.props, m.Properties, d.Seq)
		p.Forward, p.Expires, p.Expiry = s.props, m.Expires, left
		s.replayed(&p, &d, age)
	}
	if reason := s.tooLarge(&p); reason != "" {
		s.refuse(d, reason)
		return
	}
	out := sent{d: d, size: sizeOf(&d), kind: b.poison.kindOf(&p)}
	if b.poison.convicted(out.kind, now) != nil {
		s.setAside(d, out.kind)
		return
	}
	if h == fresh && (b.poison.careful(out.kind, now) || s.holds(out.kind)) {
		s.hold(d, out.kind)
		return
	}
	if h == alone {
		s.trial = &trial{kind: out.kind, topic: p.Topic, size: len(p.Payload), seq: d.Seq}
	}
	s.alias(&p)
	if p.QoS > 0 {
		p.ID, p.Dup = b.ids.of(d.Seq)
		out.id = p.ID
	}
	out.end = s.l.publish(&p)
	if p.QoS == 0 {
		s.sentLoose(out.kind, out.end)
	}
	if h == alone {
		s.trial.id, s.trial.end = out.id, out.end
		s.proved = false
		if out.id == 0 {
			s.ping()
		}
	}
	if len(s.flight) == 0 {
		s.since = now
	}
	if s.sample == 0 && p.QoS > 0 {
		s.sample, s.sampleAt, s.full = p.ID, now, false
	}
	s.flight = append(s.flight, out)
	s.bytes += out.size
	s.counts.Sent++
	if d.Resend {
		s.counts.Resent++
	}
}

// sendLive sends a QoS 0 message.
func (s *session) sendLive(m *broker.Message) {
	topic, _, retain, err := s.b.name(m, m.Retain)
	if err != nil {
		s.b.refused(m.Topic, err.Error())
		return
	}
	p := wire.Publish{Topic: topic, Payload: m.Payload, Retain: retain && s.l.limits.retain}
	now := time.Now()
	if s.l.version == wire.V5 {
		s.props = s.b.marker.append(s.props, m.Properties, 0)
		p.Forward, p.Expires, p.Expiry = s.props, m.Expires, m.Expiry
	}
	k := s.b.poison.kindOf(&p)
	switch reason := s.tooLarge(&p); {
	case reason != "":
		s.b.refused(m.Topic, reason)
	case s.l.waiting() >= liveBytes: // they would be old when they arrive
		s.counts.QoS0Dropped++
	case s.b.poison.convicted(k, now) != nil:
		s.b.aside(k)
		s.b.refused(m.Topic, reasonPoison)
	case s.b.poison.careful(k, now) && !s.tryLive(&p, k, now):
		s.counts.QoS0Dropped++
	default:
		try := s.trial
		s.alias(&p)
		end := s.l.publish(&p)
		s.sentLoose(k, end)
		if try != nil && try.end == 0 {
			try.end = end
			s.ping()
		}
		s.b.feed.rate.take(len(m.Topic) + len(m.Payload) + len(m.Properties))
		s.counts.QoS0Sent++
	}
}

// replayed has a message that waited, or passes others, say so, and when the gateway took it; not when, if
// the clock was not known to be right. A message that would become too large by that goes without.
func (s *session) replayed(p *wire.Publish, d *journal.Delivery, age time.Duration) {
	if !s.b.feed.isLate(d) && age < waited {
		return
	}
	more := wire.Forwarded{User: []wire.UserProperty{{Name: replayedProperty, Value: "true"}}}
	if d.Time.Synced {
		more.User = append(more.User, wire.UserProperty{Name: takenProperty, Value: d.Time.Wall.UTC().Format(time.RFC3339)})
	}
	with := *p
	with.Forward = more.Append(bytes.Clone(p.Forward))
	if s.tooLarge(&with) == "" {
		p.Forward = with.Forward
	}
}

// tooLarge says so if the upstream does not take a packet of that size.
func (s *session) tooLarge(p *wire.Publish) string {
	size, most := p.Size(s.l.version), s.b.opts.MaxPacket
	if s.l.limits.aliases > 0 {
		size += 3
	}
	if n := s.l.limits.packet; n > 0 && (most == 0 || n < most) {
		most = n
	}
	if most > 0 && size > most {
		return fmt.Sprintf("packet too large: %d bytes, the upstream takes %d", size, most)
	}
	return ""
}

// alias puts a topic alias in the place of the topic if the upstream knows it, and tells it one if
// there are any left.
func (s *session) alias(p *wire.Publish) {
	if s.l.limits.aliases == 0 {
		return
	}
	if a, ok := s.aliases[p.Topic]; ok {
		p.Topic, p.TopicAlias = "", a
		return
	}
	if len(s.aliases) < min(s.l.limits.aliases, maxAliases) {
		if s.aliases == nil {
			s.aliases = make(map[string]uint16)
		}
		p.TopicAlias = uint16(len(s.aliases) + 1)
		s.aliases[p.Topic] = p.TopicAlias
	}
}
