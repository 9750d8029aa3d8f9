package outboxtest

import (
	"errors"
	"slices"
	"strings"
	"time"

	"holdfast/broker"
	"holdfast/broker/outbox"
)

// refusedConnections: attempts are retried, ever less often, and nothing is lost meanwhile.
func refusedConnections(l *lab) {
	l.put(l.q, 3, nil)
	began := time.Now()
	l.start()
	for range 20 {
		l.refuse()
	}
	if took := time.Since(began); took < 25*time.Second || took > 20*l.opts.BackoffMax {
		l.t.Errorf("20 attempts took %v", took)
	}
	p := l.accept()
	take(p, l.expect(p, 0, 1, 2)...)
	l.stats(func(st outbox.Stats) bool {
		return st.Connected && st.Depth == 0 && st.Sent == 3 && st.Resent == 0 && st.Reconnects == 0 && st.LastError != ""
	})
	if n := strings.Count(l.logs.String(), "upstream cannot be reached"); n != 1 {
		l.t.Errorf("one outage is logged %d times", n)
	}
}

// endsInTheMiddle: what has no answer is sent again, in order, and nothing else.
func endsInTheMiddle(l *lab) {
	l.start()
	p := l.accept()
	all := l.each(p, 6)
	take(p, all[1], all[2], all[4])
	time.Sleep(quiet)
	p.End()
	p = l.accept()
	again := l.expect(p, 0)
	take(p, again...)
	take(p, l.expect(p, 3, 5)...)
	take(p, l.each(p, 1)...)
	l.stats(func(st outbox.Stats) bool {
		return st.Depth == 0 && st.Acknowledged == 7 && st.Resent == 3 && st.Sent == 10 && st.Reconnects == 1 && st.InFlight == 0
	})
}

// outOfOrder: nothing is sent twice for it, and what has an answer leaves the journal.
func outOfOrder(l *lab) {
	l.start()
	p := l.accept()
	all := l.each(p, 8)
	slices.Reverse(all)
	take(p, all...)
	l.nothing(p)
	l.stats(func(st outbox.Stats) bool {
		return st.Depth == 0 && st.Acknowledged == 8 && st.Sent == 8 && st.InFlight == 0
	})
}

// noAnswer: the connection is given up after the timeout of the oldest message, again and again, and nothing leaves
// the journal.
func noAnswer(l *lab) {
	l.put(l.q, 2, nil)
	l.start()
	for range 3 {
		p := l.accept()
		l.expect(p, 0)
		began := time.Now()
		if !p.Ended(2 * ackTimeout) {
			l.t.Fatal("the connection goes on without an answer")
		}
		if took := time.Since(began); took < ackTimeout-time.Second {
			l.t.Errorf("given up after %v, want %v", took, ackTimeout)
		}
	}
	l.stats(func(st outbox.Stats) bool {
		return st.Depth == 2 && st.Acknowledged == 0 && strings.Contains(st.LastError, "no acknowledgement for 30s")
	})
}

// answersTwice: the second answer changes nothing, for its message or any other.
func answersTwice(l *lab) {
	l.start()
	p := l.accept()
	all := l.each(p, 2)
	for range 3 {
		take(p, all[0])
		p.Answer(all[0].Ref, outbox.Never)
	}
	l.stats(func(st outbox.Stats) bool {
		return st.Depth == 1 && st.Acknowledged == 1 && st.Refused == 0 && st.InFlight == 1
	})
	all = append(all, l.each(p, 1)...) // 1 is the oldest that has no answer, so 2 stays in flight with its first one
	take(p, all[2])
	time.Sleep(quiet)
	if p.Answer(all[2].Ref, outbox.Never) {
		time.Sleep(quiet)
	}
	take(p, all[0], all[1], all[0], all[1])
	l.stats(func(st outbox.Stats) bool { return st.Depth == 0 && st.Acknowledged == 3 && st.Refused == 0 })
}

// lateAnswers: an answer of an earlier connection is none to what this one has sent.
func lateAnswers(l *lab) {
	l.start()
	p := l.accept()
	take(p, l.each(p, 2)...) // so that neither topic is a candidate for poison
	old := l.each(p, 3)
	p.End()
	p = l.accept()
	again := l.expect(p, 2, 3, 4)
	take(p, old...)
	l.stats(func(st outbox.Stats) bool { return st.Depth == 3 && st.Acknowledged == 2 && st.InFlight == 3 })
	take(p, again...)
	l.stats(func(st outbox.Stats) bool { return st.Depth == 0 && st.Acknowledged == 5 })
}

// refusedMessage: it goes to the dead letters with the reason, and the others pass.
func refusedMessage(l *lab) {
	l.start()
	p := l.accept()
	all := l.each(p, 3)
	can := p.Answer(all[1].Ref, outbox.Never)
	take(p, all[0], all[2])
	if !can {
		take(p, all[1])
	}
	take(p, l.each(p, 1)...)
	l.stats(func(st outbox.Stats) bool {
		return st.Depth == 0 && st.Sent == 4 && (st.Refused == 1) == can && st.Acknowledged+st.Refused == 4
	})
	if dead := l.refused(); can && (len(dead) != 1 || dead[1] == "") || !can && len(dead) > 0 {
		l.t.Errorf("refused: %v", dead)
	}
}

// refusedAndNotKept: without a place for it the message stays in the journal, and is tried by the next connection.
func refusedAndNotKept(l *lab) {
	l.keep = errors.New("no room")
	l.start()
	p := l.accept()
	all := l.each(p, 2)
	if !p.Answer(all[0].Ref, outbox.Never) {
		take(p, all...)
		return
	}
	take(p, all[1])
	l.stats(func(st outbox.Stats) bool { return st.Depth == 1 && st.Refused == 0 && st.Acknowledged == 1 })
	l.mu.Lock()
	l.keep = nil
	l.mu.Unlock()
	p.End()
	p = l.accept()
	p.Answer(l.expect(p, 0)[0].Ref, outbox.Never)
	l.stats(func(st outbox.Stats) bool { return st.Depth == 0 && st.Refused == 1 })
	if len(l.refused()) != 1 {
		l.t.Errorf("refused: %v", l.refused())
	}
}

// takenLater: the message is sent again after a pause, before those that follow it, and never given up.
func takenLater(l *lab) {
	l.start()
	p := l.accept()
	all := l.each(p, 3) // two are put off while the third has no answer: they keep their order by waiting for it
	if !p.Answer(all[0].Ref, outbox.Later) {
		take(p, all...)
		return
	}
	p.Answer(all[1].Ref, outbox.Later)
	if m, ok := p.Receive(10 * time.Second); ok {
		l.t.Errorf("%d is sent again beside what is in flight", number(m.Payload))
	}
	take(p, all[2])
	take(p, l.expect(p, 0)...)
	take(p, l.expect(p, 1)...)
	m := l.each(p, 1)[0]
	p.Answer(m.Ref, outbox.Later)
	for range 2 * outbox.MaxTries {
		m = l.expect(p, 3)[0]
		p.Answer(m.Ref, outbox.Later)
	}
	l.put(l.q, 1, nil)
	take(p, l.expect(p, 3)...)
	take(p, l.expect(p, 4)...)
	l.stats(func(st outbox.Stats) bool {
		return st.Depth == 0 && st.Refused == 0 && st.Acknowledged == 5 && st.Reconnects == 0
	})
}

// doubtful: the message is sent so many times, and then refused.
func doubtful(l *lab) {
	l.start()
	p := l.accept()
	m := l.each(p, 1)[0]
	if !p.Answer(m.Ref, outbox.Doubt) {
		take(p, m)
		return
	}
	for range outbox.MaxTries - 1 {
		p.Answer(l.expect(p, 0)[0].Ref, outbox.Doubt)
	}
	take(p, l.each(p, 1)...)
	l.stats(func(st outbox.Stats) bool { return st.Depth == 0 && st.Refused == 1 && st.Sent == outbox.MaxTries+1 })
}

// poisonous: a message at which the other side ends every connection is found and set aside; all others arrive, and in
// the order of their topics.
func poisonous(l *lab) {
	const bad, all = 7, 40
	l.put(l.q, all, func(m *broker.Message) {
		if number(m.Payload) == bad {
			m.Topic = "poison"
		}
	})
	l.start()
	var first []int
	connections := 0
	for len(first) < all-1 || len(l.refused()) == 0 {
		p := l.accept()
		if connections++; connections > 6 {
			l.t.Fatalf("%d connections, arrived %v, refused %v\n%s", connections, first, l.refused(), &l.logs)
		}
		for all := available(p, soon); len(all) > 0; all = available(p, soon) {
			i := slices.IndexFunc(all, func(m Received) bool { return number(m.Payload) == bad })
			if i >= 0 { // what came before it, and not in one batch with it, is taken
				ref := all[i].Ref
				all = slices.DeleteFunc(all[:i], func(m Received) bool { return m.Ref == ref })
			}
			for _, m := range all {
				if n := number(m.Payload); !slices.Contains(first, n) {
					first = append(first, n)
				}
			}
			take(p, all...)
			if i >= 0 {
				p.End()
				break
			}
		}
	}
	if !inOrder(first) {
		l.t.Errorf("out of order: %v", first)
	}
	if dead := l.refused(); len(dead) != 1 || !strings.Contains(dead[bad], "with this message alone in doubt") {
		l.t.Errorf("refused: %v", dead)
	}
	l.stats(func(st outbox.Stats) bool { return st.Depth == 0 && st.Refused == 1 })
}

// inOrder reports whether messages have arrived in the order of their topics: see lab.put. One that is held because it may be
// to blame for the end of a connection holds up its topic alone.
func inOrder(numbers []int) bool {
	for _, odd := range []int{0, 1} {
		if !slices.IsSorted(slices.DeleteFunc(slices.Clone(numbers), func(n int) bool { return n%2 != odd })) {
			return false
		}
	}
	return true
}

// flapping: connections that end for no reason blame no message, and all arrive.
func flapping(l *lab) {
	const all = 60
	l.put(l.q, all, nil)
	l.start()
	var first []int
	for range 30 {
		p := l.accept()
		all := available(p, 2*soon)
		for _, m := range all {
			if n := number(m.Payload); !slices.Contains(first, n) {
				first = append(first, n)
			}
		}
		take(p, all[:(len(all)+1)/2]...) // a message that is tried alone is taken, too
		time.Sleep(10 * time.Millisecond)
		p.End()
	}
	p := l.accept()
	for _, n := range l.drained(p) {
		if !slices.Contains(first, n) {
			first = append(first, n)
		}
	}
	if len(first) != all || !inOrder(first) || len(l.refused()) > 0 {
		l.t.Errorf("arrived %v, refused %v", first, l.refused())
	}
	l.stats(func(st outbox.Stats) bool { return st.Depth == 0 })
}

// slow: an answer that takes its time is waited for, with no more in flight than before.
func slow(l *lab) {
	l.put(l.q, 20, nil)
	l.start()
	p := l.accept()
	var got []int
	for len(got) < 20 {
		var all []Received
		for m, ok := p.Receive(quiet); ok; m, ok = p.Receive(quiet) {
			all = append(all, m)
		}
		if len(all) == 0 || len(all) > l.opts.Window {
			l.t.Fatalf("%d messages in flight", len(all))
		}
		time.Sleep(ackTimeout - 5*time.Second)
		for _, m := range all {
			got = append(got, number(m.Payload))
		}
		take(p, all...)
	}
	if !slices.Equal(got, sequence(0, 20)) {
		l.t.Errorf("got %v", got)
	}
	l.stats(func(st outbox.Stats) bool { return st.Depth == 0 && st.Reconnects == 0 && st.Resent == 0 })
}
