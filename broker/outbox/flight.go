package outbox

import (
	"time"

	"holdfast/broker/journal"
)

// fill sends as much as there is room for, and returns why it stopped. It looks for the reason once: a second look might
// find none, and then nothing would end the wait. at is when to try again without an event; zero if that is of no use.
func (f *Flow) fill() (why stop, at time.Time) {
	for range turn {
		messages, full := f.conn.Room()
		if window := f.o.window.now(messages); len(f.flight.sent) >= window || f.flight.bytes >= flightBytes {
			f.roundTrip.full = true
			return windowIsFull, at
		}
		if full {
			return connIsFull, at
		}
		if !f.retry.pause.IsZero() && f.retry.pause.After(time.Now()) {
			return nothingPending, f.retry.pause
		}
		d, how, ok, at := f.next(f.o.window.now(messages))
		if !ok {
			return nothingPending, at
		}
		f.forward(d, how)
	}
	return turnIsOver, at
}

// how a message is sent.
type how int

const (
	fresh    how = iota // if it need not be held
	released            // it was held, and need not be any more
	alone               // as a trial
)

// next returns the next message of the journal, or when there may be one.
func (f *Flow) next(window int) (d journal.Delivery, h how, ok bool, at time.Time) {
	now := time.Now()
	if len(f.retry.messages) > 0 {
		if len(f.flight.sent) > 0 {
			return d, h, false, at // so that they keep their order
		}
		return f.retry.next(), fresh, true, at
	}
	if len(f.held.messages) > 0 {
		full := f.held.full(f.o.opts.Window)
		if !full && f.othersFirst(now) {
			if d, ok, _ := f.read(now, window); ok {
				return d, fresh, true, at
			}
		}
		d, single, ok, at := f.fromHeld(now)
		switch {
		case ok && single:
			return d, alone, true, at
		case ok:
			return d, released, true, at
		case full:
			return d, h, false, at
		}
		d, ok, next := f.read(now, window)
		if at.IsZero() || !next.IsZero() && next.Before(at) {
			at = next
		}
		return d, fresh, ok, at
	}
	d, ok, at = f.read(now, window)
	return d, fresh, ok, at
}

// read returns the next message of the journal.
func (f *Flow) read(now time.Time, window int) (d journal.Delivery, ok bool, at time.Time) {
	if f.reading.failed && now.Before(f.reading.again) {
		return d, false, f.reading.again
	}
	d, ok, wait, err := f.o.scheduler.next(window, flightBytes)
	if err != nil {
		if !f.reading.failed {
			f.o.log.Error("journal cannot be read; trying again", "every", f.o.opts.BackoffMin, "error", err)
		}
		f.reading.failed, f.reading.again = true, time.Now().Add(f.o.opts.BackoffMin)
		return d, false, f.reading.again
	}
	if f.reading.failed {
		f.o.log.Info("journal can be read again")
		f.reading.failed = false
	}
	if wait > 0 {
		at = time.Now().Add(wait)
	}
	return d, ok, at
}

// forward sends a message of the journal, or settles it if it cannot be sent, or holds it.
func (f *Flow) forward(d journal.Delivery, h how) {
	o, m := f.o, &f.message
	now := time.Now()
	*m = Message{Delivery: d, Age: d.Reader.Waited(d.Time)}
	if d.Message.Expires {
		alive := true
		if m.Expiry, alive = journal.Remaining(d.Message.Expiry, m.Age); !alive {
			f.counts.Expired++
			f.drop(d, journal.ReasonExpired)
			return
		}
	}
	if why := o.toRefuse[d.Seq]; why != "" {
		f.refuse(d, why)
		return
	}
	m.Late = o.scheduler.isLate(&d)
	p, err := f.conn.Prepare(m)
	if err != nil {
		f.refuse(d, err.Error())
		return
	}
	out := sent{d: d, size: sizeOf(&d), kind: o.poison.kindOf(&p)}
	if o.poison.poisonOf(out.kind, now) != nil {
		f.refusePoison(d, out.kind)
		return
	}
	if h == fresh && (o.poison.careful(out.kind, now) || f.held.has(out.kind)) {
		f.held.add(d, out.kind)
		return
	}
	out.ref, out.end = f.conn.Send()
	if out.ref == 0 {
		f.evidence.sentLoose(out.kind, out.end)
	}
	if h == alone {
		f.evidence.trial = &trial{kind: out.kind, topic: p.Topic, size: p.Size, seq: d.Seq, ref: out.ref, end: out.end}
		f.evidence.confirmed = false
		if out.ref == 0 {
			f.probe()
		}
	}
	if f.roundTrip.ref == 0 && out.ref != 0 {
		f.roundTrip = roundTrip{ref: out.ref, at: now}
	}
	f.flight.add(out, now)
	f.counts.Sent++
	if d.Resend {
		f.counts.Resent++
	}
}

// Answered reports the other side's answer to every message in flight that has the reference ref. reason is for the log
// and the dead letters, if it has not taken them. Answered ignores a second answer, and a reference that no message in
// flight has.
func (f *Flow) Answered(ref uint64, answer Answer, reason string) {
	if ref == 0 {
		return
	}
	if ref == f.roundTrip.ref {
		f.o.window.sample(time.Since(f.roundTrip.at), f.roundTrip.full, f.conn.Lossy)
		f.roundTrip.ref = 0
	}
	f.flight.answer(ref, answer, reason)
}

// Acknowledged reports that the other side has taken what has the reference ref.
func (f *Flow) Acknowledged(ref uint64) { f.Answered(ref, Taken, "") }

// settle acknowledges to the journal what the other side has acknowledged, from the oldest on.
func (f *Flow) settle() {
	if len(f.flight.sent) == 0 {
		return
	}
	first := 0
	if f.evidence.onTrial(f.flight.sent[0].d.Seq) && f.flight.sent[0].answer == None {
		first = 1 // others do not wait for an answer that may never come
	}
	n := first
	for ; n < len(f.flight.sent); n++ {
		m := &f.flight.sent[n]
		if m.ref == 0 && m.answer == None {
			if end, _ := f.conn.Written(); end >= m.end {
				m.answer = Taken
			}
		}
		if m.answer == None {
			break
		}
		f.answered(m)
	}
	if n > first {
		f.flight.remove(first, n)
	}
}

// answered handles the answer to a message.
func (f *Flow) answered(m *sent) {
	o := f.o
	f.flight.bytes -= m.size
	if m.ref != 0 {
		now := time.Now()
		if f.evidence.onTrial(m.d.Seq) {
			f.evidence.trial = nil
		}
		f.acknowledged = true
		f.evidence.answered(m.end, &o.poison, now)
		o.poison.acknowledged(m.kind, m.d.Seq, now)
		o.sink.Release(m.d.Seq)
	}
	switch m.answer {
	case Taken:
		m.d.Reader.Ack(m.d.Seq)
		o.scheduler.leave(&m.d)
		f.counts.Acknowledged++
		if len(o.tries) > 0 {
			delete(o.tries, m.d.Seq)
		}
		f.retry.delay.Reset()
		return
	case Never:
		f.refuse(m.d, m.reason)
		return
	case Doubt:
		if len(o.tries) > o.opts.Window { // some that the journal has dropped, and will not hand out again
			clear(o.tries)
		}
		if o.tries[m.d.Seq]++; o.tries[m.d.Seq] >= MaxTries {
			f.refuse(m.d, m.reason)
			return
		}
	}
	f.retry.add(m.d)
	o.window.shrink(0.1)
	f.counts.LastError = m.reason
}

// refuse settles a message that the other side will never take, once Options.Refused has it.
func (f *Flow) refuse(d journal.Delivery, reason string) {
	o := f.o
	if o.opts.Refused != nil {
		if err := o.opts.Refused(&d, reason); err != nil {
			o.log.Error("a message that the upstream refuses cannot be set aside; it is tried again at the next connection", "topic", d.Message.Topic, "reason", reason, "error", err)
			o.scheduler.leave(&d)
			return
		}
	}
	f.drop(d, journal.ReasonRefused)
	o.NoteRefused(d.Message.Topic, reason)
}

// drop drops a message, which the journal then names in Losses.
func (f *Flow) drop(d journal.Delivery, reason string) {
	delete(f.o.tries, d.Seq)
	delete(f.o.toRefuse, d.Seq)
	f.o.sink.Release(d.Seq)
	d.Reader.Drop(&d, reason)
	f.o.scheduler.leave(&d)
}
