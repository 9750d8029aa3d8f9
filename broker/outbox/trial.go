package outbox

import (
	"slices"
	"time"

	"holdfast/broker/journal"
)

// trial is a message that is tried alone.
type trial struct {
	kind  kind
	topic string // upstream
	size  int
	seq   uint64 // 0 of a message that the journal does not have
	ref   uint64 // 0 if no answer follows: it is taken when a probe behind it is answered
	end   uint64 // position up to which has to leave for it to have left
}

// loose is a kind without an answer of which the upstream has shown nothing yet.
type loose struct {
	kind kind
	end  uint64
}

// maxLoose bounds them: further ones do not become candidates if the upstream closes the connection.
const maxLoose = 64

// evidence is what a connection has shown of which messages the other side takes: see poison.
type evidence struct {
	trial     *trial  // in flight; nil for none
	loose     []loose // without an answer, and not known to be taken
	offered   kind    // by the sink last
	confirmed bool    // the other side has answered since the last trial was sent
	probing   bool    // an answer has been asked for
	probed    bool    // that was answered, by this connection
	answers   int     // of the other side by this connection
}

// sentLoose notes a message that no acknowledgement follows.
func (e *evidence) sentLoose(k kind, end uint64) {
	for i := range e.loose {
		if e.loose[i].kind == k {
			e.loose[i].end = end
			return
		}
	}
	if len(e.loose) < maxLoose {
		e.loose = append(e.loose, loose{k, end})
	}
}

// onTrial reports whether a message of the journal is the one on trial.
func (e *evidence) onTrial(seq uint64) bool { return e.trial != nil && e.trial.seq == seq }

// answered records that the other side has answered something that was written up to end, so that it has taken all before
// it: poison learns the kinds.
func (e *evidence) answered(end uint64, p *poison, now time.Time) {
	e.confirmed = true
	e.answers++
	if t := e.trial; t != nil && t.ref == 0 && t.end < end {
		e.trial = nil
		p.acknowledged(t.kind, t.seq, now)
	}
	e.loose = slices.DeleteFunc(e.loose, func(l loose) bool {
		if l.end < end {
			p.acknowledged(l.kind, 0, now)
		}
		return l.end < end
	})
}

// mayTry reports whether a message may be tried alone now, or returns when. It sends a probe if only that is missing.
func (f *Flow) mayTry(k kind, now time.Time) (ok bool, at time.Time) {
	if f.evidence.trial != nil {
		return false, at
	}
	if u := f.o.poison.candidates[k]; u != nil && u.strikes > 0 {
		if at := f.settledAt(u); now.Before(at) {
			if !f.evidence.probing && f.evidence.answers < wantAnswers && f.o.poison.broken < 0.5 {
				f.probe()
			}
			return false, at
		}
		if !f.evidence.probed {
			f.evidence.confirmed = false
		}
	}
	if !f.evidence.confirmed && !f.evidence.probing {
		f.probe()
	}
	return f.evidence.confirmed, at
}

// othersFirst reports whether messages that need no trial go before those that do. Where the link is known to break, a
// trial does not wait until the connection is confirmed, and may end one connection after the other at its beginning
// without being blamed: then nothing else would ever pass.
func (f *Flow) othersFirst(now time.Time) bool {
	return f.o.poison.broken >= 0.5 && now.Sub(f.began) < settleTime
}

// settledAt returns when a connection has lasted long enough for another trial: one that ends after a fixed time, or at
// any packet, ends before that. Where the link is known to break it does not wait: needed accounts for that.
func (f *Flow) settledAt(u *candidate) time.Time {
	if f.o.poison.broken >= 0.5 {
		if len(f.flight.sent) > 0 {
			return f.began.Add(settleTime) // others first
		}
		return f.began
	}
	outlives := f.began.Add(min(u.age+u.age/8, settleTime))
	if f.evidence.answers >= wantAnswers {
		return outlives
	}
	at := f.began.Add(settleTime)
	if second := u.first.Add(secondSettle); u.strikes == 1 && second.After(at) {
		at = second
	}
	return at
}

// held is a message that has to be tried alone, or is behind one on the same topic.
type held struct {
	d    journal.Delivery
	kind kind
	size int
}

// heldBack are messages that are not sent now.
type heldBack struct {
	messages []held // oldest first
	bytes    int
}

// add keeps a message back. Behind it stay those on the same topic, and no others.
func (h *heldBack) add(d journal.Delivery, k kind) {
	m := held{d, k, sizeOf(&d)}
	h.messages = append(h.messages, m)
	h.bytes += m.size
}

// take takes out a message.
func (h *heldBack) take(i int) journal.Delivery {
	d := h.messages[i].d
	h.bytes -= h.messages[i].size
	h.messages = slices.Delete(h.messages, i, i+1)
	return d
}

// has reports whether a message on the topic of a kind is held.
func (h *heldBack) has(k kind) bool {
	return slices.ContainsFunc(h.messages, func(m held) bool { return m.kind.topic == k.topic })
}

// full reports whether no more may be held, with a window of so many messages.
func (h *heldBack) full(window int) bool { return len(h.messages) >= window || h.bytes >= flightBytes }

// fromHeld returns a held message that may be sent now, and whether it is to be tried alone; or when one may be. The
// message with the fewest strikes is tried first: a probably good one does not wait for a probably bad one.
func (f *Flow) fromHeld(now time.Time) (d journal.Delivery, alone, ok bool, at time.Time) {
	best, strikes := -1, 0
	p := &f.o.poison
	for i := range f.held.messages {
		h := &f.held.messages[i]
		if slices.ContainsFunc(f.held.messages[:i], func(o held) bool { return o.kind.topic == h.kind.topic }) {
			continue
		}
		if f.o.toRefuse[h.d.Seq] != "" || p.poisonOf(h.kind, now) != nil || !p.careful(h.kind, now) {
			return f.held.take(i), false, true, at
		}
		n := 0
		if u := p.candidates[h.kind]; u != nil {
			n = u.strikes
			u.seen = now
		}
		if best < 0 || n < strikes {
			best, strikes = i, n
		}
	}
	if best < 0 {
		return d, false, false, at
	}
	if ok, at = f.mayTry(f.held.messages[best].kind, now); ok {
		return f.held.take(best), true, true, at
	}
	return d, false, false, at
}

// ReasonPoison is the reason of a message that is set aside without a trial of its own.
const ReasonPoison = "the upstream closes the connection at messages of this kind (topic, size, QoS, RETAIN)"

// refusePoison refuses a message of a kind that is poison.
func (f *Flow) refusePoison(d journal.Delivery, k kind) {
	f.o.countPoison(k)
	f.refuse(d, ReasonPoison)
}

// countPoison counts a message that is set aside.
func (o *Outbox) countPoison(k kind) {
	if c := o.poison.kinds[k]; c != nil {
		c.count++
	}
	o.notePoison(time.Now())
}

// Verdict is the decision on a message that is not in the journal.
type Verdict int

const (
	Send   Verdict = iota
	Drop           // it cannot be sent now
	Refuse         // it is poison: see ReasonPoison
)

// Offer returns the verdict on a message that the sink sends beside the journal's, without an answer. After Send
// the sink has to send it at once, and call Offered.
func (f *Flow) Offer(p *Prepared) Verdict {
	now := time.Now()
	k := f.o.poison.kindOf(p)
	f.evidence.offered = k
	if f.o.poison.poisonOf(k, now) != nil {
		f.o.countPoison(k)
		return Refuse
	}
	if !f.o.poison.careful(k, now) {
		return Send
	}
	if ok, _ := f.mayTry(k, now); !ok || f.held.has(k) {
		return Drop
	}
	f.evidence.trial = &trial{kind: k, topic: p.Topic, size: p.Size}
	f.evidence.confirmed = false
	return Send
}

// Offered notes that the message of the last Offer was handed over: end is as of Conn.Send, and size what it counts in bytes
// against the rate.
func (f *Flow) Offered(end uint64, size int) {
	f.evidence.sentLoose(f.evidence.offered, end)
	if t := f.evidence.trial; t != nil && t.seq == 0 && t.end == 0 {
		t.end = end
		f.probe()
	}
	f.o.scheduler.rate.take(size)
}

// Probed reports that the other side has answered a probe, or anything as good, that was sent up to end.
func (f *Flow) Probed(end uint64) {
	f.evidence.probing, f.evidence.probed = false, true
	f.evidence.answered(end, &f.o.poison, time.Now())
}

func (f *Flow) probe() {
	f.evidence.probing = true
	f.conn.Probe()
}

func (o *Outbox) notePoison(now time.Time) {
	text, until := o.poison.problem(now)
	o.Problem("poison", text, until)
}
