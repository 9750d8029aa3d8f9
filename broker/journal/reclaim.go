package journal

import (
	"errors"
	"math"
	"slices"
)

// reclaimPlan is how to gain space next: drop all of a segment, or compact two.
type reclaimPlan struct {
	segment *segment   // of which nothing is kept, or the first of two
	second  *segment   // nil if there is none
	older   []*segment // both, and those before them
	below   int        // messages of readers up to this priority are dropped; -1 drops none
}

// planReclaim finds the plan that costs the lowest priority and the oldest messages. early reports that
// two checkpoints have to be written first: recovery still needs segments that would cost
// less. With full there is no space for a checkpoint or a compacted segment, and it takes the plan that costs more.
// Called with mu held.
func (j *Journal) planReclaim(full bool) (w reclaimPlan, early, ok bool) {
	var candidates []*segment
	lowest := MaxPriority
	for i, s := range j.segments {
		priority := j.readers.lowest(s)
		lowest = min(lowest, priority)
		switch {
		case early || j.checkpoints.need(s): // what comes later must not be dropped before it
			early = early || i < len(j.segments)-1
		case priority > MaxPriority: // nothing is pending
			return reclaimPlan{}, false, false // reclaim takes it as soon as the acknowledgements are on disk
		default:
			candidates = append(candidates, s)
		}
	}
	most := MaxPriority
	if j.opts.WhenFull == RefuseNew {
		most = -1
	}
	for below := -1; below <= most; below++ {
		if below > lowest && early && !full {
			return reclaimPlan{}, true, false
		}
		for i, s := range candidates {
			left := j.readers.bytesAbove(s, below)
			if left == 0 {
				return reclaimPlan{s, nil, candidates[:i+1], below}, false, true
			}
			if i+1 == len(candidates) || s.corrupt || full {
				continue
			}
			n := candidates[i+1]
			left += j.readers.bytesAbove(n, below)
			if !n.corrupt && left <= j.opts.SegmentSize-compactRoom && n.next-s.base < math.MaxInt32 {
				return reclaimPlan{s, n, candidates[:i+2], below}, false, true
			}
		}
	}
	return reclaimPlan{}, false, false
}

// reclaimSpace drops messages or compacts segments. A file becomes free when the loss is in the log. With full there is
// no space to compact.
func (k *maintainer) reclaimSpace(reason string, full bool) error {
	j := k.j
	if len(k.retired) > 0 && k.attempt.err == nil {
		return nil // their files become free soon
	}
	find := func() (reclaimPlan, bool, bool) {
		j.mu.Lock()
		defer j.mu.Unlock()
		return j.planReclaim(full)
	}
	w, early, ok := find()
	if early && k.compacts && !full {
		err := k.snapshotTwice()
		full = noSpace(err) && j.opts.WhenFull == DropOldest
		if err != nil && !full {
			return err
		}
		w, _, ok = find()
	}
	if (!ok || w.below >= 0) && k.measure() {
		w, _, ok = find()
	}
	if !ok {
		return k.writeAcks()
	}
	lost := false
	for _, s := range w.older {
		lost = k.drop(s, func(r *Reader) bool { return int(r.reg.priority) <= w.below }, reason) || lost
	}
	if lost || w.second == nil {
		return nil
	}
	j.mu.Lock()
	logged := j.readers.logged(w.segment) && j.readers.logged(w.second)
	j.mu.Unlock()
	if !logged {
		return k.writeAcks()
	}
	if !k.compacts || k.files > k.most { // compaction may take one file more than max_size allows
		return nil
	}
	if err := k.compact(w); !errors.Is(err, errCorrupt) {
		return err
	}
	return k.reclaimSpace(reason, full) // without the damaged one
}

// measure counts, before anything is dropped, how many bytes of the segments are still pending: readers that do not
// acknowledge in order may have little pending there, so that it can be
// compacted. It reports whether that is less than was known.
func (k *maintainer) measure() (less bool) {
	k.j.mu.Lock()
	segments := slices.Clone(k.j.segments)
	k.j.mu.Unlock()
	for _, s := range segments {
		less = k.measureSegment(s) || less
	}
	return less
}

// measureSegment reads s if an eighth of its messages or more may have been settled since the last time.
func (k *maintainer) measureSegment(s *segment) (less bool) {
	j := k.j
	waiting := map[uint64]ackState{}
	var settled, count uint64
	j.mu.Lock()
	if !j.checkpoints.need(s) {
		for id, in := range s.owed {
			if r, ok := j.readers.byID[id]; ok && r.waitsBefore(in.last) && r.reg.durable.top > s.base {
				waiting[id] = r.reg.durable // as compact does
				settled, count = settled+r.reg.durable.settled, count+in.count
			}
		}
	}
	j.mu.Unlock()
	if len(waiting) == 0 || settled-s.measured < count/8 {
		return false
	}
	s.measured = settled
	bytes := map[uint64]uint64{}
	if err := j.messages(s, func(f frame, p *parser) {
		p.owed(func(o owedTo) {
			if a, ok := waiting[o.reader]; ok && a.waits(f.seq) {
				bytes[o.reader] += uint64(align(frameHeader + len(f.body)))
			}
		})
	}); err != nil {
		return false // the readers count it
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	for id := range waiting {
		in := s.owed[id]
		if n := max(1, bytes[id]); n < in.bytes { // something is pending, although it may be damaged
			in.bytes, less = n, true
			s.owed[id] = in
		}
	}
	return less
}

// writeAcks makes the committer write acknowledgements without delay: space depends on them. They need space
// themselves. Where there is none, two checkpoints make segments without pending messages reclaimable.
func (k *maintainer) writeAcks() error {
	j := k.j
	j.mu.Lock()
	if j.acks.hurry() {
		j.running.wakeCommitter()
	}
	idle := j.preallocated.waitingForSegment && slices.ContainsFunc(j.segments[:max(0, len(j.segments)-1)], func(s *segment) bool {
		return j.checkpoints.need(s) && !j.readers.waitFor(s)
	})
	j.mu.Unlock()
	if !idle || !k.compacts {
		return nil
	}
	return k.snapshotTwice()
}

// reclaim removes segments that are not needed from the log.
func (k *maintainer) reclaim() {
	j := k.j
	j.mu.Lock()
	defer j.mu.Unlock()
	k.free = append(k.free, j.preallocated.unused...)
	j.preallocated.unused = nil
	kept := j.segments[:0]
	for _, s := range j.segments {
		if j.reclaimable(s) {
			s.gone = true
			k.free = append(k.free, s.name())
		} else {
			kept = append(kept, s)
		}
	}
	clear(j.segments[len(kept):])
	j.segments = kept
	for len(k.retired) > 0 && len(j.checkpoints.kept) > 1 && k.retired[0].snapshot < j.checkpoints.kept[0].n {
		k.free = append(k.free, k.retired[0].name)
		k.retired = k.retired[1:]
	}
}

// reclaimable reports whether neither a reader nor a recovery from either checkpoint needs s. Called
// with mu held.
func (j *Journal) reclaimable(s *segment) bool {
	return !j.checkpoints.need(s) && !j.readers.need(s)
}

// rescue frees a file for a commit that cannot go on without one, where other programs have left no space to create one.
func (k *maintainer) rescue() bool {
	if k.attempt.err == nil && k.seize() {
		return true
	}
	for range 3 {
		k.seize() // for the checkpoints
		_ = k.snapshotTwice()
		_ = k.reclaimSpace(ReasonFree, true)
		if len(k.free) > 0 || k.seize() {
			return true
		}
	}
	return false
}

// seize takes the oldest file of the log in which no reader has anything pending. The log does not record that yet: the
// commit that will record it needs the file. A crash before that commit leaves the messages missing, and counted as
// damage.
func (k *maintainer) seize() bool {
	j := k.j
	j.mu.Lock()
	defer j.mu.Unlock()
	for i, s := range j.segments {
		if j.checkpoints.need(s) {
			return false
		}
		if !j.readers.waitFor(s) {
			s.gone = true
			j.segments = slices.Delete(j.segments, i, i+1)
			k.free = append(k.free, s.name())
			return true
		}
	}
	return false
}
