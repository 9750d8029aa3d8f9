package journal

import (
	"bytes"
	"fmt"
	"slices"
)

// writeOff looks at each segment that the checkpoint knows for signs of damage that cost no reading of it: a file that is
// gone, shorter, of another segment or time, or without its first or last batch. It reads such a segment, and counts
// what cannot be delivered any more as lost at once, so that Depth is what readers will get. Readers find damage in the
// middle of a segment when they come to it: reading the whole backlog at each start would take as long as it is large.
// ends has where the segments ended by the checkpoint, there the names of files that hold any of it. Segments
// of which nothing is left leave the log.
func (j *Journal) writeOff(ends map[*segment]int64, there map[uint64]bool) {
	for _, s := range slices.Clone(j.segments) {
		end, known := ends[s]
		switch {
		case !known:
		case !there[s.id]:
			if lost := j.writeOffSegment(s, nil); lost {
				j.recovery.Aside = append(j.recovery.Aside, fmt.Sprintf("%s (vanished)", s.name()))
			}
			j.segments = slices.DeleteFunc(j.segments, func(o *segment) bool { return o == s })
		default:
			f, err := j.fs.Open(s.name(), false)
			if err != nil {
				continue // its readers find the damage
			}
			if s.looksDamaged(f, end) {
				j.writeOffSegment(s, f)
			}
			f.Close()
		}
	}
}

// looksDamaged reads the ends of what a segment holds up to end.
func (s *segment) looksDamaged(f File, end int64) bool {
	if end <= headerSize {
		return false
	}
	if h, err := readHeader(f); err != nil || h.id != s.id || h.salt != s.salt {
		return true
	}
	for _, at := range []int64{headerSize, end - sector} { // a batch begins and ends with a sector that is not empty
		var b [sector]byte
		if n, _ := f.ReadAt(b[:], at); n < sector || len(bytes.TrimLeft(b[:], "\x00")) == 0 {
			return true
		}
	}
	return false
}

// writeOffSegment counts messages of s that readers are owed and that cannot be read as lost, and reports whether there
// were any. f is its file, nil if there is none.
func (j *Journal) writeOffSegment(s *segment, f File) (lost bool) {
	has, first, last := s.readable(f, func(uint64) bool { return true })
	for id, in := range s.owed {
		r, ok := j.byID[id]
		if !ok {
			continue
		}
		got := has[id]
		n := r.forget(s, got)
		r.mu.Lock()
		var ahead uint64
		switch {
		case r.handed <= s.base:
			ahead = in.count
		case r.handed <= in.last:
			all := r.owed - min(r.owed, r.settled+uint64(len(r.unacked)))
			ahead = min(in.count, all-min(all, j.owedBehind(r, s)))
		}
		left := r.unhanded(got)
		r.mu.Unlock()
		lostAhead := ahead - min(ahead, left)
		if n += lostAhead; n == 0 {
			continue
		}
		lost = true
		r.mu.Lock()
		r.owed -= lostAhead // until all is counted again
		r.mu.Unlock()
		if in.count -= min(in.count, n); len(got) == 0 {
			delete(s.owed, id)
		} else {
			in.last = got[len(got)-1]
			s.owed[id] = in
		}
		if s.missing == nil {
			s.missing = map[uint64]uint64{}
		}
		s.missing[id] = n
		j.findLoss(r, Loss{Reader: r.name, First: first, Last: max(first, last), Count: n, Reason: ReasonDamage})
	}
	return lost
}

// readable returns the sequence numbers of the messages in s that can be read, for the readers that whose accepts, and
// the range of those that cannot.
func (s *segment) readable(f File, whose func(reader uint64) bool) (has map[uint64][]uint64, first, last uint64) {
	has = map[uint64][]uint64{}
	if f == nil {
		return has, s.base, max(s.base, s.next-1)
	}
	expect := s.base
	first, last = s.next, 0
	hole := func(from, to uint64) {
		if from <= to {
			first, last = min(first, from), max(last, to)
		}
	}
	s.messages(f, s.end, func(f frame, p *parser) {
		hole(expect, f.seq-1)
		expect = f.seq + 1
		p.owed(func(o owedTo) {
			if whose(o.reader) {
				has[o.reader] = append(has[o.reader], f.seq)
			}
		})
	})
	hole(expect, s.next-1)
	if s.compacted { // most numbers are missing anyway
		first, last = s.base, s.next-1
	}
	return has, first, last
}

// forget settles messages of s that were handed out and are not in got, and returns how many they are.
func (r *Reader) forget(s *segment, got []uint64) uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	before := len(r.unacked)
	r.unacked = slices.DeleteFunc(r.unacked, func(seq uint64) bool {
		_, there := slices.BinarySearch(got, seq)
		return s.base <= seq && seq < s.next && !there
	})
	r.owed -= uint64(before - len(r.unacked))
	return uint64(before - len(r.unacked))
}

// unhanded returns how many of seqs were not handed out yet. Called with mu held.
func (r *Reader) unhanded(seqs []uint64) uint64 {
	below, _ := slices.BinarySearch(seqs, r.handed)
	return uint64(len(seqs) - below)
}

// recount counts again what readers are owed, after damage: parts of the log that cannot be read, or no checkpoint, leave
// gaps in their own counts. It reads the segments in which a reader's position is, and counts what is missing in them as
// lost, where the checkpoint, to which ends belongs, has the number.
func (j *Journal) recount(ends map[*segment]int64) {
	waits := map[uint64]uint64{}
	kept := map[uint64][]uint64{} // of what was handed out, in any segment
	for _, s := range j.segments {
		stands := map[uint64]bool{}
		for id, r := range j.byID {
			in := s.owed[id]
			switch {
			case slices.ContainsFunc(r.unacked, func(seq uint64) bool { return s.base <= seq && seq < s.next }), s.base < r.handed && r.handed <= in.last:
				stands[id] = true
			case r.handed <= s.base:
				waits[id] += in.count
			}
		}
		if len(stands) == 0 {
			continue
		}
		f, err := j.fs.Open(s.name(), false)
		if err != nil {
			f = nil
		}
		if _, known := ends[s]; known && s.missing == nil {
			j.writeOffSegment(s, f)
		}
		has, _, _ := s.readable(f, func(id uint64) bool { return stands[id] })
		if f != nil {
			f.Close()
		}
		for id := range stands {
			r := j.byID[id]
			waits[id] += r.unhanded(has[id])
			for _, seq := range has[id] {
				if _, waiting := slices.BinarySearch(r.unacked, seq); waiting {
					kept[id] = append(kept[id], seq)
				}
			}
		}
	}
	for id, r := range j.byID {
		if gone := len(r.unacked) - len(kept[id]); gone > 0 {
			j.findLoss(r, Loss{Reader: r.name, First: r.unacked[0], Last: r.unacked[len(r.unacked)-1], Count: uint64(gone), Reason: ReasonDamage})
			r.unacked = kept[id]
		}
		r.owed = r.settled + uint64(len(r.unacked)) + waits[id]
		r.tail = max(r.tail, j.nextSeq)
		r.durable, r.next = r.ackState(), r.cursor()
	}
	j.resnap = true // until it is on disk, the next start finds the same
}

// countsFit reports whether readers have settled no more than they were owed.
func (j *Journal) countsFit() bool {
	for _, r := range j.byID {
		if r.settled+uint64(len(r.unacked)) > r.owed {
			return false
		}
	}
	return true
}
