package journal

import (
	"cmp"
	"slices"
	"time"
)

// reserved is how many of the files that max_size and keep_free allow are reserved back: one to write down what
// was dropped, one to compact into.
const reserved = 2

// limit returns the limit that forbids to create another file if use of the reserved files may
// be used; empty if none does.
func (k *maintainer) limit(use int) string { return k.limitWithout(0, use) }

// limitWithout returns what limit will return when that many files have been removed.
func (k *maintainer) limitWithout(files, use int) string {
	if k.files-files >= k.most-reserved+use-k.snapshotFiles() {
		return ReasonSize
	}
	free, err := k.j.fs.Free()
	if err == nil && free < k.j.opts.KeepFree+int64(1+reserved-use-files)*k.j.opts.SegmentSize {
		return ReasonFree
	}
	if files == 0 && use < reserved && time.Since(k.noSpace) < retryDelay && free <= k.noSpaceAt {
		return ReasonFree
	}
	return ""
}

// snapshotFiles is how many segments' worth of max_size the two checkpoints on disk take, at most a quarter of all.
func (k *maintainer) snapshotFiles() int {
	return min(int(2*k.j.checkpoints.size.Load()/k.j.opts.SegmentSize), k.most/4)
}

// makeRoom reclaims space where a limit forbids to create another file and none is left, or has new messages
// refused.
func (k *maintainer) makeRoom() error {
	j := k.j
	limit := k.limit(0)
	j.mu.Lock()
	out := limit != "" && len(j.preallocated.segments) == 0 && len(k.free) == 0
	j.preallocated.full = out && j.opts.WhenFull == RefuseNew
	j.mu.Unlock()
	if !out && (k.limit(1) == "" || k.limitWithout(len(k.free), 0) == "") { // what is free is given back
		return nil
	}
	err := k.reclaimSpace(cmp.Or(limit, k.limit(1), ReasonFree), false) // others may have taken space just now
	k.reclaim()
	return err
}

// expire drops segments whose newest message is certainly older than max_age (Waited).
func (k *maintainer) expire() {
	j := k.j
	if j.opts.MaxAge <= 0 {
		return
	}
	for {
		j.mu.Lock()
		s := j.oldest()
		old := s != nil && j.age(s) > j.opts.MaxAge
		j.mu.Unlock()
		if !old {
			return
		}
		k.drop(s, func(*Reader) bool { return true }, ReasonAge)
		j.mu.Lock()
		settled := !j.readers.waitFor(s)
		j.mu.Unlock()
		if !settled {
			return
		}
	}
}

// age returns how old the newest message of s is, at least. Called with mu held.
func (j *Journal) age(s *segment) time.Duration {
	later := j.segments[slices.Index(j.segments, s):]
	var t Time
	switch {
	case s.newest != 0:
		t = s.since(s.clock, s.newest)
	case len(later) > 1: // not read: it is older than what follows
		t = later[1].since(later[1].clock, later[1].clock.boot)
	default:
		return 0
	}
	t.Synced = false
	for _, o := range later {
		if o.earlier == nil || o.earlier.unsure {
			break
		}
		if o.wall != 0 {
			t.Wall, t.Synced = time.Unix(0, o.wall), true
			break
		}
	}
	return j.Waited(t)
}

// oldest returns the oldest segment in which a reader has something pending, if it may be dropped. Called with mu
// held.
func (j *Journal) oldest() *segment {
	for _, s := range j.segments {
		if j.checkpoints.need(s) {
			return nil
		}
		if j.readers.waitFor(s) {
			return s
		}
	}
	return nil
}

// SetLimit sets how many bytes of the log the reader's own backlog may take; 0 means no limit of its
// own. Beyond it the oldest messages are dropped for this reader alone, counted and named in Losses, a
// segment at a time. Messages in the newest segments, which recovery needs, always stay.
func (r *Reader) SetLimit(bytes int64) {
	r.mu.Lock()
	r.limit = bytes
	r.mu.Unlock()
	r.j.running.wakeMaintainer()
}

// trim drops the oldest messages of readers whose backlog is beyond their own limit.
func (k *maintainer) trim() {
	j := k.j
	j.mu.Lock()
	var limited []*Reader
	for _, r := range j.readers.byName {
		r.mu.Lock()
		if r.limit > 0 && r.backlog.pending() {
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
	first, limit := r.backlog.cursor(), uint64(r.limit)
	r.mu.Unlock()
	var bytes uint64
	for _, s := range j.segments {
		if in, ok := s.owed[r.id]; ok && first <= in.last {
			if bytes += in.bytes; oldest == nil {
				oldest = s
			}
		}
	}
	if j.closing || bytes <= limit || oldest == nil || j.checkpoints.need(oldest) { // while it closes, nothing is dropped
		return nil
	}
	return oldest
}

// drop settles all that some readers are owed in s. All that they are owed before s must have been
// dropped. It reports whether there was anything.
func (k *maintainer) drop(s *segment, whose func(*Reader) bool, reason string) bool {
	j := k.j
	debts := map[uint64]*debt{}
	j.mu.Lock()
	for id, in := range s.owed {
		if r, ok := j.readers.byID[id]; ok && whose(r) && r.waitsBefore(in.last) {
			debts[id] = r.debt()
		}
	}
	j.mu.Unlock()
	if len(debts) == 0 {
		return false
	}
	if err := j.count(s, debts); err != nil {
		j.log.Error("journal: a dropped segment cannot be read, the numbers of what is lost are not known", "segment", s.name(), "error", err)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, d := range debts {
		j.loseSegment(d.reader, s, Loss{Reason: reason, Numbers: d.numbers})
	}
	return true
}
