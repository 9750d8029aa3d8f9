package journal

import "sync"

// lookout is where Oldest found the oldest message, so that the next look begins there.
type lookout struct {
	mu     sync.Mutex
	seg    *segment
	offset int64
	clock  clockReading // before offset
	seq    uint64
	time   Time
}

// Oldest returns when the oldest message was appended that is pending for the reader of that name.
// ok is false if there is none, or none that can be read. It reads at most a segment from the disk, and less
// if it is called again.
func (j *Journal) Oldest(reader string) (t Time, ok bool) {
	j.mu.Lock()
	r := j.readers.byName[reader]
	j.mu.Unlock()
	if r == nil {
		return Time{}, false
	}
	l := &r.look
	l.mu.Lock()
	defer l.mu.Unlock()
	type part struct {
		*segment
		end int64
	}
	var parts []part
	j.mu.Lock()
	r.mu.Lock()
	seq, waits := r.backlog.cursor(), r.backlog.pending()
	next := r.buffer.next()
	inMemory := r.buffer.live && len(r.backlog.unacked) == 0 && next != nil
	if inMemory {
		t = next.Time
	}
	r.mu.Unlock()
	for _, s := range j.segments {
		if in, owed := s.owed[r.id]; owed && in.last >= seq {
			parts = append(parts, part{s, s.end})
		}
	}
	j.mu.Unlock()
	switch {
	case !waits:
		return Time{}, false
	case inMemory:
		return t, true
	}
	for _, p := range parts {
		if l.look(r, p.segment, p.end, seq) {
			return l.time, true
		}
	}
	return Time{}, false
}

// look finds the first message from seq on that r is owed in the first end bytes of s. A file that is used
// again has another salt, so that nothing is found in it.
func (l *lookout) look(r *Reader, s *segment, end int64, seq uint64) bool {
	if l.seg == s && l.seq == seq {
		return true
	}
	f, err := r.j.fs.Open(s.name(), false)
	if err != nil {
		return false
	}
	defer f.Close()
	from, clock := int64(headerSize), s.clock
	if l.seg == s && l.seq < seq {
		from, clock = l.offset, l.clock
	}
	for sc := newScanner(f, &s.header, from, end, nil); ; {
		fr, ok := sc.next()
		if !ok {
			return false
		}
		p := parser{b: fr.body}
		switch {
		case fr.kind == kindClock:
			clock = p.clock()
		case fr.kind == kindMessage && fr.seq >= seq:
			if _, _, owed := p.owes(r.id); owed {
				l.seg, l.offset, l.clock, l.seq = s, fr.offset, clock, seq
				l.time = s.since(clock, s.clock.boot+int64(fr.millis)*1e6)
				return true
			}
		}
	}
}
