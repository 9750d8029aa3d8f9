package bridge

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"holdfast/broker"
	"holdfast/broker/journal"
	"holdfast/broker/wire"
)

// forward sends a message of the journal, or settles it if it cannot be sent.
func (s *session) forward(d journal.Delivery) {
	b, m := s.b, d.Message
	now := time.Now()
	left, alive := remaining(&d, now)
	if !alive {
		s.counts.Expired++
		s.drop(d, journal.ReasonExpired)
		return
	}
	if b.suspect.guilty(d.Seq) {
		s.refuse(d, fmt.Sprintf("the upstream has closed the connection %d times at this message", b.suspect.count))
		b.suspect, s.alone = suspect{}, false
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
		s.replayed(&p, &d, now)
	}
	if reason := s.tooLarge(&p); reason != "" {
		s.refuse(d, reason)
		return
	}
	s.alias(&p)
	out := sent{d: d, size: sizeOf(&d)}
	if p.QoS > 0 {
		p.ID = s.nextID()
		out.id = p.ID
	}
	out.end = s.l.publish(&p)
	if len(s.flight) == 0 {
		s.since = now
	}
	if s.sample == 0 && p.QoS > 0 {
		s.sample, s.sampleAt, s.full = p.ID, now, false
	}
	s.flight = append(s.flight, out)
	s.bytes += out.size
	s.proved = false
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
	if s.l.version == wire.V5 {
		p.Forward, p.Expires, p.Expiry = m.Properties, m.Expires, m.Expiry
	}
	switch reason := s.tooLarge(&p); {
	case reason != "":
		s.b.refused(m.Topic, reason)
	case s.l.waiting() >= liveBytes: // they would be old when they arrive
		s.counts.QoS0Dropped++
	default:
		s.alias(&p)
		s.l.publish(&p)
		s.b.feed.rate.take(len(m.Topic) + len(m.Payload) + len(m.Properties))
		s.counts.QoS0Sent++
	}
}

const (
	// waited is after how long a message counts as replayed: longer than anything takes that is sent as it
	// comes.
	waited = 5 * time.Second

	replayedProperty = "holdfast-replayed"
	takenProperty    = "holdfast-taken"
)

// replayed has a message that waited, or passes others, say so, and when the gateway took it; not when, if
// the clock was not known to be right. A message that would become too large by that goes without.
func (s *session) replayed(p *wire.Publish, d *journal.Delivery, now time.Time) {
	if !s.b.feed.isLate(d) && (!d.Time.Synced || now.Sub(d.Time.Wall) < waited) {
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

// nextID returns a packet identifier that is not in use: the window is smaller than what there are.
// They go on over connections, so that an acknowledgement of an earlier one fits none of this one.
func (s *session) nextID() uint16 {
	if s.b.id++; s.b.id == 0 {
		s.b.id = 1
	}
	return s.b.id
}

// acked notes PUBACKs.
func (s *session) acked(acks []ack) {
	for _, a := range acks {
		if a.id == s.sample {
			s.b.window.sample(time.Since(s.sampleAt), s.full)
			s.sample = 0
		}
		for i := range s.flight { // nearly always the first that is not done
			if m := &s.flight[i]; m.id == a.id && !m.done {
				m.done, m.ack = true, a
				break
			}
		}
	}
}

// settle acknowledges to the journal what the upstream has acknowledged, from the oldest on.
func (s *session) settle() {
	n := 0
	for ; n < len(s.flight); n++ {
		m := &s.flight[n]
		if m.id == 0 && s.l.written.Load() >= m.end {
			m.done = true
		}
		if !m.done {
			break
		}
		s.answered(m)
	}
	if n == 0 {
		return
	}
	clear(s.flight[:n])
	s.flight = s.flight[n:]
	s.since = time.Now()
}

// answered deals with the upstream's answer to a message.
func (s *session) answered(m *sent) {
	s.bytes -= m.size
	if m.id != 0 {
		s.acknowledged, s.alone, s.b.suspect = true, false, suspect{}
	}
	if m.ack.code < wire.Unspecified {
		m.d.Reader.Ack(m.d.Seq)
		s.b.feed.leave(&m.d)
		s.counts.Acknowledged++
		delete(s.b.tries, m.d.Seq)
		s.delay.reset()
		return
	}
	reason := "upstream says: " + m.ack.code.String()
	if m.ack.text != "" {
		reason += fmt.Sprintf(" (%.200q)", m.ack.text)
	}
	switch m.ack.code {
	case wire.NotAuthorized, wire.TopicNameInvalid, wire.PayloadFormatInvalid, wire.PacketTooLarge:
		s.refuse(m.d, reason)
		return
	case wire.QuotaExceeded: // the message is as good as any other
	default:
		if s.b.tries[m.d.Seq]++; s.b.tries[m.d.Seq] >= maxTries {
			s.refuse(m.d, reason)
			return
		}
	}
	s.again = append(s.again, m.d)
	s.b.window.shrink(0.1)
	s.pause = time.Now().Add(s.delay.next())
	s.counts.LastError = reason
}

// refuse settles a message that the upstream will never take, once whoever keeps such messages has it.
func (s *session) refuse(d journal.Delivery, reason string) {
	b := s.b
	delete(b.tries, d.Seq)
	if b.opts.Refused != nil {
		if err := b.opts.Refused(&d, reason); err != nil {
			b.log.Error("a message that the upstream refuses cannot be set aside; it is tried again at the next connection", "topic", d.Message.Topic, "reason", reason, "error", err)
			b.feed.leave(&d)
			return
		}
	}
	s.drop(d, journal.ReasonRefused)
	b.refused(d.Message.Topic, reason)
}

// drop gives up a message, which the journal's ledger names.
func (s *session) drop(d journal.Delivery, reason string) {
	d.Reader.Drop(&d, reason)
	s.b.feed.leave(&d)
}

// finish sends what Deliver has queued and waits for what is in flight.
func (s *session) finish() error {
	ctx, cancel := context.WithTimeout(context.Background(), drain)
	defer cancel()
	for queued := true; queued; {
		select {
		case m := <-s.b.live:
			s.sendLive(m)
		default:
			queued = false
		}
	}
	for {
		s.settle()
		if s.b.in != nil {
			s.stored()
		}
		s.l.flush()
		if len(s.flight) == 0 {
			return nil
		}
		select {
		case batch := <-s.l.arrived:
			s.take(batch)
			s.l.release(batch)
		case <-s.l.drained:
		case <-s.l.ended:
			return s.l.err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// end closes the connection. Acknowledgements that came before it, in whatever order, are kept; the
// rest waits on disk.
func (s *session) end() {
	end := s.l.send(&wire.Disconnect{})
	s.l.flush()
	late := time.After(goodbye)
	for s.l.written.Load() < end {
		select {
		case <-s.l.drained:
			continue
		case <-s.l.ended:
		case <-late:
		}
		break
	}
	s.l.discard(func(b *batch) { s.acked(b.acks) })
	if len(s.flight) > 0 {
		s.oldest = s.flight[0].d.Seq
	}
	for i := range s.flight {
		if m := &s.flight[i]; m.done {
			s.answered(m)
		}
	}
	s.flight = nil
	s.b.feed.detach()
	s.report()
}

// take deals with what has arrived.
func (s *session) take(b *batch) {
	s.acked(b.acks)
	for _, p := range b.packets {
		switch p := p.(type) {
		case *wire.Ping:
			s.pinged, s.proved = false, true
			if s.b.in != nil {
				s.prove(true)
			}
		case *wire.Publish:
			s.receive(p)
		case *wire.Suback:
			s.subscribed(p)
		}
	}
}

// report adds what has happened to the bridge's figures.
func (s *session) report() {
	c := &s.counts
	c.InFlight = len(s.flight)
	s.b.count(func(st *Stats) {
		st.Sent += c.Sent
		st.Resent += c.Resent
		st.Acknowledged += c.Acknowledged
		st.QoS0Sent += c.QoS0Sent
		st.QoS0Dropped += c.QoS0Dropped
		st.Expired += c.Expired
		st.Received += c.Received
		st.Duplicates += c.Duplicates
		st.Looped += c.Looped
		st.InFlight = c.InFlight
		if c.LastError != "" {
			st.LastError = c.LastError
		}
	})
	*c = Stats{}
}

// remaining returns the seconds that are left of a message's lifetime, and whether there are any. For a
// message from before the clock was right, time has stood still.
func remaining(d *journal.Delivery, now time.Time) (left uint32, ok bool) {
	m := d.Message
	if !m.Expires {
		return 0, true
	}
	if !d.Time.Synced {
		return m.Expiry, true
	}
	waited := max(0, now.Sub(d.Time.Wall))
	lifetime := time.Duration(m.Expiry) * time.Second
	if waited > lifetime {
		return 0, false
	}
	return uint32((lifetime - waited + time.Second - 1) / time.Second), true
}
