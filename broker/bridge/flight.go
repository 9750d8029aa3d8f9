package bridge

import (
	"fmt"
	"slices"
	"time"

	"holdfast/broker/journal"
	"holdfast/broker/wire"
)

const (
	flightBytes = 1 << 20 // of messages in flight, beside the window; one message may exceed it
	maxTries    = 5       // of a message for which the upstream gives no reason that says more
	turn        = 256     // messages that are sent before the upstream is listened to again
)

// sent is a message in flight.
type sent struct {
	d    journal.Delivery
	size int
	end  uint64 // bytes that have to be written for it to be
	id   uint16 // 0 at QoS 0
	done bool
	ack  ack
	kind kind
}

// stop is why nothing more is sent now, and so what has to happen first.
type stop int

const (
	itsTurnIsOver stop = iota
	windowIsFull       // an acknowledgement, or the answer to a ping
	linkIsFull         // the link takes what waits
	nothingWaits       // a message comes, or a time that is known
)

// fill sends as much as there is room for. Why it stops is seen once: whoever looked again might see no reason,
// and would wait for nothing. at is when to try again though nothing comes; zero if that is of no use.
func (s *session) fill() (why stop, at time.Time) {
	for range turn {
		if !s.room() {
			s.full = true
			return windowIsFull, at
		}
		if s.l.waiting() >= unsent {
			return linkIsFull, at
		}
		if s.pause.After(time.Now()) {
			return nothingWaits, s.pause
		}
		d, how, ok, at := s.next()
		if !ok {
			return nothingWaits, at
		}
		s.forward(d, how)
	}
	return itsTurnIsOver, at
}

func (s *session) room() bool {
	if s.presence.id != 0 {
		return false
	}
	return len(s.flight) < s.window() && s.bytes < flightBytes
}

func (s *session) window() int { return s.b.window.now(s.l.limits.receive) }

// how a message is sent.
type how int

const (
	fresh    how = iota // if it need not be held
	released            // it was held, and need not be any more
	alone               // as a trial
)

// next returns the next message of the journal, or when there may be one.
func (s *session) next() (d journal.Delivery, h how, ok bool, at time.Time) {
	now := time.Now()
	if len(s.again) > 0 {
		if len(s.flight) > 0 {
			return d, h, false, at // so that they keep their order
		}
		d, s.again = s.again[0], s.again[1:]
		return d, fresh, true, at
	}
	if len(s.held) > 0 {
		full := len(s.held) >= s.b.opts.Window || s.heldBytes >= flightBytes
		if !full && s.othersFirst(now) {
			if d, ok, _ := s.read(now); ok {
				return d, fresh, true, at
			}
		}
		d, single, ok, at := s.fromHeld(now)
		switch {
		case ok && single:
			return d, alone, true, at
		case ok:
			return d, released, true, at
		case full:
			return d, h, false, at
		}
		d, ok, next := s.read(now)
		if at.IsZero() || !next.IsZero() && next.Before(at) {
			at = next
		}
		return d, fresh, ok, at
	}
	d, ok, at = s.read(now)
	return d, fresh, ok, at
}

// read returns what the journal has next.
func (s *session) read(now time.Time) (d journal.Delivery, ok bool, at time.Time) {
	if s.unreadable && now.Before(s.readAt) {
		return d, false, s.readAt
	}
	d, ok, wait, err := s.b.feed.next(s.window(), flightBytes)
	if err != nil {
		if !s.unreadable {
			s.b.log.Error("journal cannot be read; trying again", "every", s.b.opts.BackoffMin, "error", err)
		}
		s.unreadable, s.readAt = true, time.Now().Add(s.b.opts.BackoffMin)
		return d, false, s.readAt
	}
	if s.unreadable {
		s.b.log.Info("journal can be read again")
		s.unreadable = false
	}
	if wait > 0 {
		at = time.Now().Add(wait)
	}
	return d, ok, at
}

// acked notes PUBACKs.
func (s *session) acked(acks []ack) {
	for _, a := range acks {
		if a.id == s.presence.id {
			s.presence.heard(a)
			continue
		}
		if a.id == s.sample {
			s.b.window.sample(time.Since(s.sampleAt), s.full, s.l.lossy)
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

// overdue returns how long the acknowledgement of what was sent at since, and ends at end, may still take.
// Time until it was written does not count: the writer has its own deadline.
func (s *session) overdue(since *time.Time, end uint64, now time.Time) time.Duration {
	if wrote := s.l.wroteAt(); s.l.written.Load() < end && wrote.After(*since) {
		*since = wrote
	}
	return since.Add(s.b.opts.AckTimeout).Sub(now)
}

// settle acknowledges to the journal what the upstream has acknowledged, from the oldest on.
func (s *session) settle() {
	first := 0
	if len(s.flight) > 0 && s.trial != nil && s.trial.seq == s.flight[0].d.Seq && !s.flight[0].done {
		first = 1 // others do not wait for what may never come
	}
	n := first
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
	switch {
	case n == first:
	case first == 0:
		clear(s.flight[:n])
		s.flight = s.flight[n:]
		s.since = time.Now()
	default:
		s.flight = slices.Delete(s.flight, first, n)
	}
}

// answered deals with the upstream's answer to a message.
func (s *session) answered(m *sent) {
	s.bytes -= m.size
	if m.id != 0 {
		now := time.Now()
		if s.trial != nil && s.trial.seq == m.d.Seq {
			s.trial = nil
		}
		s.acknowledged = true
		s.alive(m.end, now)
		s.b.poison.acknowledged(m.kind, m.d.Seq, now)
		s.b.ids.done(m.d.Seq, m.id)
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
		if len(s.b.tries) > s.b.opts.Window { // some that the journal has dropped, and will not hand out again
			clear(s.b.tries)
		}
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
	delete(s.b.tries, d.Seq)
	delete(s.b.condemned, d.Seq)
	s.b.ids.forget(d.Seq)
	d.Reader.Drop(&d, reason)
	s.b.feed.leave(&d)
}
