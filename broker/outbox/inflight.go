package outbox

import (
	"slices"
	"time"

	"holdfast/broker/journal"
)

// inFlight are the messages in flight.
type inFlight struct {
	sent  []sent    // oldest first
	hint  int       // in sent, where the next answer is expected
	bytes int       // of the messages
	since time.Time // when the oldest was sent, or became the oldest
}

// sent is a message in flight.
type sent struct {
	d      journal.Delivery
	size   int
	end    uint64 // position up to which has to leave for it to have left
	ref    uint64 // 0 if no answer follows
	answer Answer // None until there is one
	reason string // of one that is not Taken
	kind   kind
}

func (i *inFlight) add(m sent, now time.Time) {
	if len(i.sent) == 0 {
		i.since = now
	}
	i.sent = append(i.sent, m)
	i.bytes += m.size
}

// answer gives an answer to the messages with a reference.
func (i *inFlight) answer(ref uint64, answer Answer, reason string) {
	// Nearly always the first that has no answer; those of one reference follow each other.
	at := min(i.hint, len(i.sent))
	if n := i.mark(at, len(i.sent), ref, answer, reason); n == 0 {
		i.mark(0, at, ref, answer, reason)
	}
}

// mark is answer for those from at to end, and returns how many there are.
func (i *inFlight) mark(at, end int, ref uint64, answer Answer, reason string) (n int) {
	for ; at < end; at++ {
		switch m := &i.sent[at]; {
		case m.ref == ref && m.answer == None:
			m.answer, m.reason = answer, reason
			i.hint = at + 1
			n++
		case n > 0:
			return n
		}
	}
	return n
}

// remove removes the settled ones, from first to end. The sizes of those are subtracted already.
func (i *inFlight) remove(first, end int) {
	if first == 0 {
		clear(i.sent[:end])
		i.sent = i.sent[end:]
		i.since = time.Now()
	} else {
		i.sent = slices.Delete(i.sent, first, end)
	}
	i.hint = max(0, i.hint-(end-first))
}

// oldest returns the message that was sent first and is not acknowledged, of those that are to be; nil if there is none.
func (i *inFlight) oldest() *sent {
	for at := range i.sent {
		if m := &i.sent[at]; m.ref != 0 && m.answer == None {
			return m
		}
	}
	return nil
}
