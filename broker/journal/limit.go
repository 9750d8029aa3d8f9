package journal

// SetLimit sets how many bytes of the log the reader's own backlog may take; 0 means no limit of its
// own. Beyond it the oldest messages are dropped for this reader alone, counted and named in Losses, a
// segment at a time. Messages in the newest segments, which recovery needs, always stay.
func (r *Reader) SetLimit(bytes int64) {
	r.mu.Lock()
	r.limit = bytes
	r.mu.Unlock()
	signal(r.j.housekeeping)
}

// trim drops the oldest messages of readers whose backlog is beyond their own limit.
func (k *maintainer) trim() {
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
		for {
			s := j.beyond(r)
			if s == nil || !k.drop(s, func(o *Reader) bool { return o == r }, ReasonBacklog) {
				break
			}
		}
	}
}

// beyond returns the oldest segment in which r has something pending, if its backlog takes too much.
func (j *Journal) beyond(r *Reader) (oldest *segment) {
	j.mu.Lock()
	defer j.mu.Unlock()
	r.mu.Lock()
	first, limit := r.cursor(), uint64(r.limit)
	r.mu.Unlock()
	var bytes uint64
	for _, s := range j.segments {
		if in, ok := s.owed[r.id]; ok && first <= in.last {
			if bytes += in.bytes; oldest == nil {
				oldest = s
			}
		}
	}
	if j.closing || bytes <= limit || oldest == nil || j.recoveryNeeds(oldest) { // while it closes, nothing is dropped
		return nil
	}
	return oldest
}
