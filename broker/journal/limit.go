package journal

// ReasonBacklog says that the messages were the oldest of a reader that had reached its own limit.
const ReasonBacklog = "backlog"

// SetLimit sets how much of the log, in bytes of segments, the reader may keep by what it has not
// acknowledged; 0 means no limit of its own. Beyond it the oldest messages are given up for this reader
// alone, counted and named in Losses, a segment at a time: the newest two are always kept.
func (r *Reader) SetLimit(bytes int64) {
	r.mu.Lock()
	r.limit = bytes
	r.mu.Unlock()
	signal(r.j.tidy)
}

// trim holds readers to their limits.
func (k *keeper) trim() {
	j := k.j
	j.mu.Lock()
	var limited []*Reader
	for _, r := range j.readers {
		r.mu.Lock()
		if r.limit > 0 && r.owed > r.settled {
			limited = append(limited, r)
		}
		r.mu.Unlock()
	}
	j.mu.Unlock()
	for _, r := range limited {
		for j.trimOldest(r) {
		}
	}
}

// trimOldest gives up what r waits for in the oldest such segment, if r keeps too many, and says whether
// it has.
func (j *Journal) trimOldest(r *Reader) bool {
	j.mu.Lock()
	s, kept := j.kept(r)
	r.mu.Lock()
	over := kept > 2 && kept*j.opts.SegmentSize > r.limit
	r.mu.Unlock()
	// What recovery still needs waits for the next snapshot.
	if !over || r.removed || len(j.snaps) == 0 || s.id >= j.snaps[0].segment {
		j.mu.Unlock()
		return false
	}
	d := r.debt()
	j.mu.Unlock()
	if err := j.count(s, map[uint64]*debt{r.id: d}); err != nil {
		j.log.Error("journal: a dropped segment cannot be read, its losses are estimated", "segment", s.name(), "error", err)
		j.mu.Lock()
		d.count = j.waiting(r, s)
		j.mu.Unlock()
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.loseSegment(r, s, d.now(), ReasonBacklog)
	in, ok := s.owed[r.id]
	return !ok || r.firstWaiting() > in.last
}

// kept returns the oldest segment that r waits for, and how many there are from it on. Called with mu
// held.
func (j *Journal) kept(r *Reader) (*segment, int64) {
	first := r.firstWaiting()
	for i, s := range j.segments {
		if in, ok := s.owed[r.id]; ok && first <= in.last {
			return s, int64(len(j.segments) - i)
		}
	}
	return nil, 0
}
