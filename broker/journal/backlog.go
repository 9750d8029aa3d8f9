package journal

import "slices"

// backlog is which messages a reader is owed, which of them it was handed, and which are settled. Guarded by Reader.mu.
// A message that is owed is ahead (not handed out yet), unacked, or settled.
type backlog struct {
	owed    uint64   // messages since the reader began
	settled uint64   // of them acknowledged or dropped
	tail    uint64   // one past the newest message owed
	handed  uint64   // everything owed below it was handed out, ever: it is in unacked or settled
	resend  uint64   // an earlier process may have handed out what is below it
	top     uint64   // one past the newest settled message
	unacked []uint64 // handed out, not settled; ascending
	room    []uint64 // that unacked is kept in

	// Of the consumer since it attached.
	next   uint64 // none below it is to be handed out
	newest uint64 // handed out last; 0 if something owed may lie between it and next
}

func newBacklog(next uint64) backlog { return backlog{tail: next, next: next, handed: next, top: next} }

// depth is how many messages are owed and not settled.
func (b *backlog) depth() uint64 { return b.owed - b.settled }

// pending reports whether anything is owed and not settled.
func (b *backlog) pending() bool { return b.owed > b.settled }

// cursor is the lowest sequence number that may be unsettled.
func (b *backlog) cursor() uint64 {
	if len(b.unacked) > 0 {
		return b.unacked[0]
	}
	return b.handed
}

// owe adds a message, newer than all others.
func (b *backlog) owe(seq uint64) {
	b.owed++
	b.tail = seq + 1
}

// rewind begins again for a new consumer, at the cursor, and reports whether nothing is owed from there on.
func (b *backlog) rewind() (caughtUp bool) {
	b.newest, b.next = 0, b.cursor()
	return b.next >= b.tail
}

// hand notes that d is about to be handed out, and says in d what goes with that. It returns false if d is settled, or
// was handed to this consumer.
func (b *backlog) hand(d *Delivery) bool {
	if d.Seq < b.next {
		return false
	}
	b.next = d.Seq + 1
	if d.Seq < b.handed {
		waits := b.isUnacked(d.Seq)
		d.Resend, d.before = waits, b.newest
		if b.newest = 0; waits {
			b.newest = d.Seq
		}
		return waits
	}
	d.before, b.newest = b.newest, d.Seq
	d.Resend = d.Seq < b.resend
	b.handed = d.Seq + 1
	if len(b.unacked) == cap(b.unacked) { // move to the front of the room, or to a larger one
		if cap(b.room) < 2*len(b.unacked)+16 {
			b.room = make([]uint64, 0, 2*len(b.unacked)+32)
		}
		b.unacked = append(b.room[:0], b.unacked...)
	}
	b.unacked = append(b.unacked, d.Seq)
	return true
}

// pass notes that the log holds nothing more that is owed below tail.
func (b *backlog) pass(tail uint64) { b.next, b.handed = max(b.next, tail), max(b.handed, tail) }

func (b *backlog) isUnacked(seq uint64) bool {
	_, found := slices.BinarySearch(b.unacked, seq)
	return found
}

// waits reports whether a message that is owed is not settled.
func (b *backlog) waits(seq uint64) bool { return b.isUnacked(seq) || seq >= b.handed }

// settleOne settles a message that was handed out. It returns false if that is done.
func (b *backlog) settleOne(seq uint64) bool {
	i, found := slices.BinarySearch(b.unacked, seq)
	if !found {
		return false
	}
	if i == 0 {
		b.unacked = b.unacked[1:]
	} else {
		b.unacked = slices.Delete(b.unacked, i, i+1)
	}
	if len(b.unacked) == 0 {
		b.unacked = b.room[:0]
	}
	b.settled++
	b.top = max(b.top, seq+1)
	return true
}

// settle settles all that is pending from first to last, as Reader.settle says.
func (b *backlog) settle(first, last, most, behind uint64) (from, handed, ahead uint64) {
	from = max(first, b.cursor())
	if last >= b.handed {
		ahead = min(most, last+1-max(first, b.handed), b.ahead(behind))
	}
	handed = uint64(len(b.unacked))
	b.unacked = slices.DeleteFunc(b.unacked, func(seq uint64) bool { return first <= seq && seq <= last })
	handed -= uint64(len(b.unacked))
	b.settled += handed + ahead
	b.newest = 0
	b.next, b.handed, b.top = max(b.next, last+1), max(b.handed, last+1), max(b.top, last+1)
	return from, handed, ahead
}

// ahead is how many messages are not handed out yet, without the last behind ones.
func (b *backlog) ahead(behind uint64) uint64 {
	n := b.owed - b.settled - uint64(len(b.unacked))
	return n - min(n, behind)
}

// unhanded is how many of seqs were not handed out yet.
func (b *backlog) unhanded(seqs []uint64) uint64 {
	below, _ := slices.BinarySearch(seqs, b.handed)
	return uint64(len(seqs) - below)
}

// ackState is what the log has to know.
func (b *backlog) ackState() ackState {
	below, _ := slices.BinarySearch(b.unacked, b.top)
	return ackState{settled: b.settled, handed: b.handed, top: b.top, unacked: slices.Clone(b.unacked[:below])}
}

// restore goes back to what the log has.
func (b *backlog) restore(a ackState) {
	b.settled, b.top, b.unacked = a.settled, a.top, slices.Clone(a.unacked)
	b.handed, b.resend = a.top, a.handed
	b.next = b.cursor()
}

// fits reports whether no more is settled and handed out than is owed.
func (b *backlog) fits() bool { return b.settled+uint64(len(b.unacked)) <= b.owed }

// standsIn reports whether the reader's position is in s: it is owed more there, of which not all was handed out, or not
// all that was handed out is settled.
func (b *backlog) standsIn(s *segment, in owedIn) bool {
	return slices.ContainsFunc(b.unacked, func(seq uint64) bool { return s.base <= seq && seq < s.next }) ||
		s.base < b.handed && b.handed <= in.last
}

// writeOff takes messages of s, of which in counts those that were owed, off what is owed, unless they are in got. It
// returns how many they are. behind are owed in newer segments.
func (b *backlog) writeOff(s *segment, in owedIn, got []uint64, behind uint64) uint64 {
	before := len(b.unacked)
	b.unacked = slices.DeleteFunc(b.unacked, func(seq uint64) bool {
		_, there := slices.BinarySearch(got, seq)
		return s.base <= seq && seq < s.next && !there
	})
	handed := uint64(before - len(b.unacked))
	b.owed -= handed
	var ahead uint64
	switch {
	case b.handed <= s.base:
		ahead = in.count
	case b.handed <= in.last:
		all := b.owed - min(b.owed, b.settled+uint64(len(b.unacked)))
		ahead = min(in.count, all-min(all, behind))
	}
	ahead -= min(ahead, b.unhanded(got))
	b.owed -= ahead // until all is counted again
	return handed + ahead
}

// recount corrects what is owed: waits messages ahead. next is the journal's next sequence number.
func (b *backlog) recount(waits, next uint64) {
	b.owed = b.settled + uint64(len(b.unacked)) + waits
	b.tail, b.next = max(b.tail, next), b.cursor()
}
