package bridge

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"holdfast/broker"
	"holdfast/broker/outbox"
	"holdfast/broker/wire"
)

const (
	liveBytes  = 256 << 10 // queued for a slow link; QoS 0 messages beyond are dropped
	maxAliases = 64        // topics with an alias at an upstream

	// waited is the age from which on a message counts as replayed: longer than a message takes that is sent as it
	// comes.
	waited = 5 * time.Second
)

// packet is the PUBLISH that is prepared, and what outlives it on the connection.
type packet struct {
	next    wire.Publish
	seq     uint64            // of its message
	props   []byte            // memory for properties
	aliases map[string]uint16 // that the upstream knows
}

// Prepare makes the packet of a message of the journal.
func (s *connection) Prepare(m *outbox.Message) (outbox.Prepared, error) {
	topic, qos, retain, err := s.b.name(m.Message, m.Retain)
	if err != nil {
		return outbox.Prepared{}, err
	}
	p := &s.packet.next
	*p = wire.Publish{
		Topic: topic, Payload: m.Message.Payload, QoS: min(qos, m.QoS, m.Message.QoS, s.l.limits.qos), Retain: retain && s.l.limits.retain,
	}
	if s.l.version == wire.V5 {
		s.packet.props = s.b.marker.append(s.packet.props, m.Message.Properties, m.Seq)
		p.Forward, p.Expires, p.Expiry = s.packet.props, m.Message.Expires, m.Expiry
		s.replayed(p, m)
	}
	if reason := s.tooLarge(p); reason != "" {
		return outbox.Prepared{}, errors.New(reason)
	}
	s.packet.seq = m.Seq
	return prepared(p), nil
}

func prepared(p *wire.Publish) outbox.Prepared {
	return outbox.Prepared{Topic: p.Topic, Size: len(p.Payload), QoS: p.QoS, Retain: p.Retain}
}

// Send queues the packet. Its identifier is the reference, and bytes are positions.
func (s *connection) Send() (ref, end uint64) {
	p := &s.packet.next
	s.packet.alias(p, s.l.limits.aliases)
	if p.QoS > 0 {
		p.ID, p.Dup = s.b.ids.of(s.packet.seq)
	}
	return uint64(p.ID), s.l.publish(p)
}

// sendLive sends a QoS 0 message.
func (s *connection) sendLive(m *broker.Message) {
	topic, _, retain, err := s.b.name(m, m.Retain)
	if err != nil {
		s.b.refused(m.Topic, err.Error())
		return
	}
	p := wire.Publish{Topic: topic, Payload: m.Payload, Retain: retain && s.l.limits.retain}
	if s.l.version == wire.V5 {
		s.packet.props = s.b.marker.append(s.packet.props, m.Properties, 0)
		p.Forward, p.Expires, p.Expiry = s.packet.props, m.Expires, m.Expiry
	}
	if reason := s.tooLarge(&p); reason != "" {
		s.b.refused(m.Topic, reason)
		return
	}
	if s.l.out.unwritten() >= liveBytes { // they would be old when they arrive
		s.counts.QoS0Dropped++
		return
	}
	as := prepared(&p)
	switch s.f.Offer(&as) {
	case outbox.Refuse:
		s.b.refused(m.Topic, outbox.ReasonPoison)
	case outbox.Drop:
		s.counts.QoS0Dropped++
	default:
		s.packet.alias(&p, s.l.limits.aliases)
		s.f.Offered(s.l.publish(&p), len(m.Topic)+len(m.Payload)+len(m.Properties))
		s.counts.QoS0Sent++
	}
}

// replayed marks a message that was queued for long, or passes others, and adds when the gateway took it if the clock
// was right then. A message that would become too large by that goes without.
func (s *connection) replayed(p *wire.Publish, m *outbox.Message) {
	if !m.Late && m.Age < waited {
		return
	}
	more := wire.Forwarded{User: []wire.UserProperty{{Name: replayedProperty, Value: "true"}}}
	if m.Time.Synced {
		more.User = append(more.User, wire.UserProperty{Name: takenProperty, Value: m.Time.Wall.UTC().Format(time.RFC3339)})
	}
	with := *p
	with.Forward = more.Append(bytes.Clone(p.Forward))
	if s.tooLarge(&with) == "" {
		p.Forward = with.Forward
	}
}

// tooLarge returns a reason if the upstream does not take a packet of that size, empty if it does.
func (s *connection) tooLarge(p *wire.Publish) string {
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

// alias replaces the topic by its alias if the upstream knows it, and assigns one if
// there are any left of those that it takes.
func (k *packet) alias(p *wire.Publish, takes int) {
	if takes == 0 {
		return
	}
	if a, ok := k.aliases[p.Topic]; ok {
		p.Topic, p.TopicAlias = "", a
		return
	}
	if len(k.aliases) < min(takes, maxAliases) {
		if k.aliases == nil {
			k.aliases = make(map[string]uint16)
		}
		p.TopicAlias = uint16(len(k.aliases) + 1)
		k.aliases[p.Topic] = p.TopicAlias
	}
}
