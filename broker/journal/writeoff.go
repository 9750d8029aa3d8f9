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
			j.segments = j.segments.without(s)
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
		r, ok := j.readers.byID[id]
		if !ok {
			continue
		}
		got := has[id]
		r.mu.Lock()
		n := r.backlog.writeOff(s, in, got, j.segments.owedBehind(id, s))
		r.mu.Unlock()
		if n == 0 {
			continue
		}
		lost = true
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
		j.findLoss(r, Loss{Reader: r.reg.name, First: first, Last: max(first, last), Count: n, Reason: ReasonDamage})
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

// recount counts again what readers are owed, after damage: parts of the log that cannot be read, or no checkpoint, leave
// gaps in their own counts. It reads the segments in which a reader's position is, and counts what is missing in them as
// lost, where the checkpoint, to which ends belongs, has the number.
func (j *Journal) recount(ends map[*segment]int64) {
	waits := map[uint64]uint64{}
	kept := map[uint64][]uint64{} // of what was handed out, in any segment
	for _, s := range j.segments {
		stands := map[uint64]bool{}
		for id, r := range j.readers.byID {
			in := s.owed[id]
			switch {
			case r.backlog.standsIn(s, in):
				stands[id] = true
			case r.backlog.handed <= s.base:
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
			r := j.readers.byID[id]
			waits[id] += r.backlog.unhanded(has[id])
			for _, seq := range has[id] {
				if r.backlog.isUnacked(seq) {
					kept[id] = append(kept[id], seq)
				}
			}
		}
	}
	for id, r := range j.readers.byID {
		if gone := len(r.backlog.unacked) - len(kept[id]); gone > 0 {
			j.findLoss(r, Loss{Reader: r.reg.name, First: r.backlog.unacked[0], Last: r.backlog.unacked[len(r.backlog.unacked)-1], Count: uint64(gone), Reason: ReasonDamage})
			r.backlog.unacked = kept[id]
		}
		r.backlog.recount(waits[id], j.queue.nextSeq)
		r.reg.durable = r.ackState()
	}
	j.checkpoints.wanted = true // until it is on disk, the next start finds the same
}
