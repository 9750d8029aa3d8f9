package journal

// mostPublishers is how many publishers a segment tells apart. Where there are more, the one with the least is
// forgotten.
const mostPublishers = 64

// tightFrom is the part of the size from which on space is short: half of it, because some segments are reserved.
const tightFrom = 2

// noteFrom counts bytes of a message that readers are owed. Called with Journal.mu held.
func (s *segment) noteFrom(name string, bytes int64) {
	if name == "" {
		return
	}
	if s.from == nil {
		s.from = map[string]int64{}
	}
	if _, known := s.from[name]; !known && len(s.from) >= mostPublishers {
		least := ""
		for other, n := range s.from {
			if least == "" || n < s.from[least] {
				least = other
			}
		}
		delete(s.from, least)
	}
	s.from[name] += bytes
}

// compactFrom gives s what publishers had in the segments that it replaces, by the part of them that it holds. Called
// with Journal.mu held.
func (s *segment) compactFrom(compacted ...*segment) {
	var end int64
	for _, m := range compacted {
		end += m.end
	}
	for _, m := range compacted {
		for name, n := range m.from {
			s.noteFrom(name, int64(float64(n)*min(1, float64(s.end)/float64(max(1, end)))))
		}
	}
}

// Held returns how many bytes of the log messages from a publisher take (Entry.From) while space is short. With less
// than half of the size in use it is 0, so that one publisher may use all of the journal
// while others do not need it. A segment counts as a whole until it is reclaimed; messages of an earlier
// process do not count.
func (j *Journal) Held(from string) (bytes int64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if int64(len(j.segments))*j.opts.SegmentSize < j.opts.MaxSize/tightFrom {
		return 0
	}
	for _, s := range j.segments {
		bytes += s.from[from]
	}
	return bytes
}

// MaxSize is the most bytes that the journal takes.
func (j *Journal) MaxSize() int64 { return j.opts.MaxSize }
