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

// sentLoose notes a message that no acknowledgement follows.
func (f *Flow) sentLoose(k kind, end uint64) {
	for i := range f.loose {
		if f.loose[i].kind == k {
			f.loose[i].end = end
			return
		}
	}
	if len(f.loose) < maxLoose {
		f.loose = append(f.loose, loose{k, end})
	}
}

// alive records that the upstream has answered something that was written up to end, so that it has taken all before it.
func (f *Flow) alive(end uint64, now time.Time) {
	f.confirmed = true
	f.answers++
	if t := f.trial; t != nil && t.ref == 0 && t.end < end {
		f.trial = nil
		f.o.poison.acknowledged(t.kind, t.seq, now)
	}
	f.loose = slices.DeleteFunc(f.loose, func(l loose) bool {
		if l.end < end {
			f.o.poison.acknowledged(l.kind, 0, now)
		}
		return l.end < end
	})
}

// mayTry reports whether a message may be tried alone now, or returns when. It sends a probe if only that is missing.
func (f *Flow) mayTry(k kind, now time.Time) (ok bool, at time.Time) {
	if f.trial != nil {
		return false, at
	}
	if u := f.o.poison.candidates[k]; u != nil && u.strikes > 0 {
		if at := f.settledAt(u); now.Before(at) {
			if !f.probing && f.answers < wantAnswers && f.o.poison.broken < 0.5 {
				f.probe()
			}
			return false, at
		}
		if !f.probed {
			f.confirmed = false
		}
	}
	if !f.confirmed && !f.probing {
		f.probe()
	}
	return f.confirmed, at
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
		if len(f.flight) > 0 {
			return f.began.Add(settleTime) // others first
		}
		return f.began
	}
	outlives := f.began.Add(min(u.age+u.age/8, settleTime))
	if f.answers >= wantAnswers {
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

// hold keeps a message back. Behind it wait those on the same topic, and no others.
func (f *Flow) hold(d journal.Delivery, k kind) {
	h := held{d, k, sizeOf(&d)}
	f.held = append(f.held, h)
	f.heldBytes += h.size
}

// holds reports whether a message on a topic is held.
func (f *Flow) holds(k kind) bool {
	return slices.ContainsFunc(f.held, func(h held) bool { return h.kind.topic == k.topic })
}

// fromHeld returns a held message that may be sent now, and whether it is to be tried alone; or when one may be. The
// message with the fewest strikes is tried first: a probably good one does not wait for a probably bad one.
func (f *Flow) fromHeld(now time.Time) (d journal.Delivery, alone, ok bool, at time.Time) {
	best, strikes := -1, 0
	p := &f.o.poison
	for i := range f.held {
		h := &f.held[i]
		if slices.ContainsFunc(f.held[:i], func(o held) bool { return o.kind.topic == h.kind.topic }) {
			continue
		}
		if f.o.toRefuse[h.d.Seq] != "" || p.poisonOf(h.kind, now) != nil || !p.careful(h.kind, now) {
			return f.unhold(i), false, true, at
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
	if ok, at = f.mayTry(f.held[best].kind, now); ok {
		return f.unhold(best), true, true, at
	}
	return d, false, false, at
}

func (f *Flow) unhold(i int) journal.Delivery {
	d := f.held[i].d
	f.heldBytes -= f.held[i].size
	f.held = slices.Delete(f.held, i, i+1)
	return d
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
	f.offered = k
	if f.o.poison.poisonOf(k, now) != nil {
		f.o.countPoison(k)
		return Refuse
	}
	if !f.o.poison.careful(k, now) {
		return Send
	}
	if ok, _ := f.mayTry(k, now); !ok || f.holds(k) {
		return Drop
	}
	f.trial = &trial{kind: k, topic: p.Topic, size: p.Size}
	f.confirmed = false
	return Send
}

// Offered notes that the message of the last Offer was handed over: end is as of Conn.Send, and size what it counts in bytes
// against the rate.
func (f *Flow) Offered(end uint64, size int) {
	f.sentLoose(f.offered, end)
	if t := f.trial; t != nil && t.seq == 0 && t.end == 0 {
		t.end = end
		f.probe()
	}
	f.o.scheduler.rate.take(size)
}

// Probed reports that the other side has answered a probe, or anything as good, that was sent up to end.
func (f *Flow) Probed(end uint64) {
	f.probing, f.probed = false, true
	f.alive(end, time.Now())
}

func (f *Flow) probe() {
	f.probing = true
	f.conn.Probe()
}

// oldest is the message that was sent first and is not acknowledged; nil if there is none.
func (f *Flow) oldest() *sent {
	for i := range f.flight {
		if m := &f.flight[i]; m.ref != 0 && m.answer == None {
			return m
		}
	}
	return nil
}

func (o *Outbox) notePoison(now time.Time) {
	text, until := o.poison.problem(now)
	o.Problem("poison", text, until)
}
