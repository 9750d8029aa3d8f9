package outboxtest

import (
	"math/rand/v2"
	"slices"
	"time"

	"holdfast/broker/outbox"
)

// atRandom: an other side that does anything at any time. Every message arrives or is refused, those of a topic in order unless
// it put some off, no more than a window is in flight, and at the end the journal owes nothing.
func atRandom(l *lab, seed uint64) {
	const all = 150
	rng := rand.New(rand.NewPCG(seed, 14))
	l.opts.Window = 1 + rng.IntN(20)
	l.put(l.q, all/2, nil)
	l.start()
	arrived := map[int]int{} // how often
	var order []int
	disorder := false
	refused := map[int]bool{}
	for step := 0; ; step++ {
		healed := step > 20
		if !healed && rng.IntN(3) == 0 {
			l.refuse()
			continue
		}
		p := l.accept()
		if step >= 3 && l.n < all {
			l.put(l.q, all/2, nil)
		}
		var flight []Received
		for began := time.Now(); ; {
			if time.Since(began) > time.Hour {
				l.t.Fatalf("%d left, %d in flight here, %+v\n%s", l.sub.Stats().Depth, len(flight), l.sub.Stats(), &l.logs)
			}
			came := available(p, time.Duration(rng.IntN(3000))*time.Millisecond)
			flight = append(flight, came...)
			for _, m := range came {
				n := number(m.Payload)
				if arrived[n]++; arrived[n] == 1 {
					order = append(order, n)
				}
			}
			if len(flight) > l.opts.Window {
				l.t.Fatalf("%d in flight, want at most %d", len(flight), l.opts.Window)
			}
			if !healed && rng.IntN(30) == 0 {
				break
			}
			if len(flight) > 0 && (healed || rng.IntN(2) == 0) {
				i := 0
				if !healed {
					i = rng.IntN(len(flight))
				}
				ref := flight[i].Ref
				answer := outbox.Taken
				if !healed && rng.IntN(10) == 0 {
					answer = []outbox.Answer{outbox.Never, outbox.Later}[rng.IntN(2)]
				}
				if !p.Answer(ref, answer) {
					answer = outbox.Taken
					p.Answer(ref, answer)
				}
				disorder = disorder || answer == outbox.Later
				flight = slices.DeleteFunc(flight, func(m Received) bool {
					if m.Ref == ref && answer == outbox.Never {
						refused[number(m.Payload)] = true
					}
					return m.Ref == ref
				})
			} else if healed && len(came) == 0 {
				if p.Ended(soon) {
					break
				}
				if l.sub.Stats().Depth == 0 {
					l.check(arrived, order, refused, disorder, all)
					return
				}
			}
			if step > 60 {
				l.t.Fatalf("%d left\n%s", l.sub.Stats().Depth, &l.logs)
			}
		}
		p.End()
	}
}

func (l *lab) check(arrived map[int]int, order []int, refused map[int]bool, disorder bool, all int) {
	l.t.Helper()
	for n := range all {
		if arrived[n] == 0 {
			l.t.Errorf("%d has not arrived", n)
		}
	}
	if !disorder && !inOrder(order) {
		l.t.Errorf("arrived for the first time: %v", order)
	}
	for n := range l.refused() {
		if !refused[n] {
			l.t.Errorf("%d was set aside and had not been refused: %s", n, l.refused()[n])
		}
	}
	st := l.sub.Stats()
	if st.Depth != 0 || st.InFlight != 0 || st.Acknowledged+st.Refused != uint64(all) {
		l.t.Errorf("got %+v, want %d acknowledged or refused", st, all)
	}
}
