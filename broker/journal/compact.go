package journal

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"
)

// Compaction: when space runs out, messages of the readers with the lowest priority are dropped first, the oldest
// first within one priority. A segment holds messages of all readers. Where one with a higher priority still has
// something pending in it, two neighbours are compacted: what is left of both goes to one new segment.
//
// A compacted segment takes the place of both in the log. Their files are used again only when it is in both
// checkpoints, so that recovery finds either them or it.

const (
	compactBuffer = 256 << 10
	compactRoom   = headerSize + 4096 // for what a compacted segment holds beside messages
)

// errCorrupt means that a segment cannot be compacted because part of it cannot be read. Its readers will
// find the damage and count it.
var errCorrupt = errors.New("damaged")

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
		waited := false
		for id, in := range s.owed {
			if r, ok := j.byID[id]; ok && r.waitsBefore(in.last) {
				waited, lowest = true, min(lowest, int(r.priority))
			}
		}
		switch {
		case early || j.recoveryNeeds(s): // what comes later must not be dropped before it
			early = early || i < len(j.segments)-1
		case !waited:
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
			left := j.bytesAbove(s, below)
			if left == 0 {
				return reclaimPlan{s, nil, candidates[:i+1], below}, false, true
			}
			if i+1 == len(candidates) || s.corrupt || full {
				continue
			}
			n := candidates[i+1]
			left += j.bytesAbove(n, below)
			if !n.corrupt && left <= j.opts.SegmentSize-compactRoom && n.next-s.base < math.MaxInt32 {
				return reclaimPlan{s, n, candidates[:i+2], below}, false, true
			}
		}
	}
	return reclaimPlan{}, false, false
}

// bytesAbove is at most how many bytes of s readers with a priority above below wait for. Called with
// mu held.
func (j *Journal) bytesAbove(s *segment, below int) (n int64) {
	for id, in := range s.owed {
		if r, ok := j.byID[id]; ok && int(r.priority) > below && r.waitsBefore(in.last) {
			n += int64(in.bytes)
		}
	}
	return n
}

// waitsBefore reports whether anything up to a message is pending for the reader. Called with Journal.mu held.
func (r *Reader) waitsBefore(last uint64) bool { return !r.removed && r.firstWaiting() <= last }

// reclaimSpace drops messages or compacts segments. A file becomes free when the loss is in the log. With full there is
// no space to compact.
func (k *maintainer) reclaimSpace(reason string, full bool) error {
	j := k.j
	if len(k.retired) > 0 && k.snapErr == nil {
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
		lost = k.drop(s, func(r *Reader) bool { return int(r.priority) <= w.below }, reason) || lost
	}
	if lost || w.second == nil {
		return nil
	}
	j.mu.Lock()
	logged := j.logged(w.segment) && j.logged(w.second)
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
	if !j.recoveryNeeds(s) {
		for id, in := range s.owed {
			if r, ok := j.byID[id]; ok && r.waitsBefore(in.last) && r.durable.top > s.base {
				waiting[id] = r.durable // as compact does
				settled, count = settled+r.durable.settled, count+in.count
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

// logged reports whether the log has the acknowledgements of every reader that is done with s. Called with mu held.
func (j *Journal) logged(s *segment) bool {
	for id, in := range s.owed {
		if r, ok := j.byID[id]; ok && !r.waitsBefore(in.last) && r.durable.cursor() <= in.last {
			return false
		}
	}
	return true
}

// writeAcks makes the committer write acknowledgements without delay: space depends on them. They need space
// themselves. Where there is none, two checkpoints make segments without pending messages reclaimable.
func (k *maintainer) writeAcks() error {
	j := k.j
	j.mu.Lock()
	if len(j.dirty) > 0 {
		j.acked, j.dirtyAt = ackMany, time.Time{}
		j.poke()
	}
	idle := j.waitingForSegment && slices.ContainsFunc(j.segments[:max(0, len(j.segments)-1)], func(s *segment) bool {
		return j.recoveryNeeds(s) && !j.waitsFor(s)
	})
	j.mu.Unlock()
	if !idle || !k.compacts {
		return nil
	}
	return k.snapshotTwice()
}

// compact writes what is pending in both segments, by the acknowledgements on disk, to a new one.
func (k *maintainer) compact(w reclaimPlan) error {
	j := k.j
	first, second := w.segment, w.second
	file, err := k.newFile()
	if err != nil {
		return err
	}
	defer file.file.Close()
	j.mu.Lock()
	waiting := map[uint64]ackState{}
	for _, s := range []*segment{first, second} {
		for id, in := range s.owed {
			if r, ok := j.byID[id]; ok && !r.removed && int(r.priority) > w.below && r.durable.cursor() <= in.last {
				waiting[id] = r.durable // not what is in memory: a crash would bring back the rest
			}
		}
	}
	j.mu.Unlock()
	m := &compactor{j: j, file: file.file, waiting: waiting, buf: make([]byte, headerSize, compactBuffer)}
	m.seg = &segment{
		header: header{
			salt: newSalt(), id: file.id, base: first.base, clock: first.clock, compacted: true,
			bootID: second.bootID, previousNext: second.next,
		},
		next: second.next, wall: second.wall, owed: map[uint64]owedIn{}, earlier: second.earlier,
	}
	// A frame has its time as 32 bits of ms after the segment's: a message much older than the second
	// segment counts as younger than it is.
	m.seg.clock.boot = max(m.place(first, first.clock, first.clock.boot), m.place(second, second.clock, second.clock.boot)-int64(20*24*time.Hour))
	m.seg.clock.wall += m.seg.clock.boot - m.place(first, first.clock, first.clock.boot)
	for _, s := range []*segment{first, second} {
		if err == nil {
			err = m.copy(s)
			s.corrupt = s.corrupt || errors.Is(err, errCorrupt)
		}
	}
	if err == nil {
		err = m.finish()
	}
	if err != nil {
		k.free = append(k.free, m.seg.name())
		return fmt.Errorf("compact %s and %s: %w", first.name(), second.name(), err)
	}
	j.mu.Lock()
	i := slices.Index(j.segments, first)
	j.segments = slices.Replace(j.segments, i, i+2, m.seg)
	first.gone, second.gone = true, true
	m.seg.compactFrom(first, second)
	j.mu.Unlock()
	k.retired = append(k.retired, retired{first.name(), k.snapshots}, retired{second.name(), k.snapshots})
	j.log.Info("journal: compacted", "segments", first.name()+" "+second.name(), "into", m.seg.name(), "bytes", m.seg.end)
	return k.snapshotTwice()
}

// retired is a segment file that a compacted one has replaced, and the last checkpoint that may name it.
type retired struct {
	name     string
	snapshot uint64
}

// compactor copies frames into a compacted segment.
type compactor struct {
	j       *Journal
	file    File
	seg     *segment
	waiting map[uint64]ackState // by reader, as the log has it
	buf     []byte              // not written yet
	written int64
	millis  uint32 // of the newest frame
	last    clockReading
	frames  int
}

// copy copies what is pending in s.
func (m *compactor) copy(s *segment) error {
	f, err := m.j.fs.Open(s.name(), false)
	if err != nil {
		return err
	}
	defer f.Close()
	clock := s.clock
	corrupt := false
	sc := newScanner(f, &s.header, headerSize, s.end, func(region) { corrupt = true })
	for {
		fr, ok := sc.next()
		if corrupt {
			return fmt.Errorf("%s: %w", s.name(), errCorrupt)
		}
		if !ok {
			return nil
		}
		switch fr.kind {
		case kindClock:
			p := parser{b: fr.body}
			clock = p.clock()
		case kindMessage:
			var to []uint64
			p := parser{b: fr.body}
			p.owed(func(o owedTo) {
				if a, ok := m.waiting[o.reader]; ok && a.waits(fr.seq) {
					to = append(to, o.reader)
				}
			})
			if len(to) == 0 {
				continue
			}
			told, orig := clock, s.clock.boot+int64(fr.millis)*1e6
			boot := max(m.place(s, clock, orig), m.seg.clock.boot)
			told.boot += boot - orig
			if err := m.message(fr, to, told, boot); err != nil {
				return err
			}
		}
	}
}

// place converts a boot time of s to the boot that the compacted segment is from, the newer one. It is at most
// 0 for a message from an earlier boot.
func (m *compactor) place(s *segment, clock clockReading, boot int64) int64 {
	boot = int64(s.since(clock, boot).Boot)
	if e := m.seg.earlier; e != nil {
		boot -= e.shift
	}
	return boot
}

// message appends a frame whose time clock gives.
func (m *compactor) message(f frame, to []uint64, clock clockReading, boot int64) error {
	if m.frames > 0 && clock != m.last || m.frames == 0 && clock != m.seg.clock {
		if err := m.frame(kindClock, f.seq, boot, appendClock(nil, clock)); err != nil {
			return err
		}
	}
	m.last = clock
	for _, id := range to {
		m.seg.note(id, f.seq, len(f.body))
	}
	return m.frame(kindMessage, f.seq, boot, f.body)
}

func (m *compactor) frame(k kind, seq uint64, boot int64, body []byte) error {
	n := align(frameHeader + len(body))
	if m.written+int64(len(m.buf)+n) > m.j.opts.SegmentSize {
		return errors.New("does not fit into one segment")
	}
	m.buf = grow(m.buf, n)
	start := len(m.buf)
	m.buf = m.buf[:start+n]
	clear(m.buf[start+frameHeader+len(body):])
	copy(m.buf[start+frameHeader:], body)
	m.millis = uint32(max(0, boot-m.seg.clock.boot) / 1e6)
	seal(m.buf[start:], len(body), k, m.frames == 0, uint32(seq-m.seg.base), m.millis, m.seg.salt)
	m.frames++
	if len(m.buf) < compactBuffer {
		return nil
	}
	return m.flush(len(m.buf) &^ (sector - 1))
}

// flush writes the first n bytes of the buffer.
func (m *compactor) flush(n int) error {
	_, err := m.file.WriteAt(m.buf[:n], m.written)
	m.j.counters.written.Add(uint64(n))
	m.written += int64(n)
	m.buf = m.buf[:copy(m.buf, m.buf[n:])]
	return err
}

// finish writes the rest, and the header last.
func (m *compactor) finish() error {
	data := len(m.buf)
	m.buf = grow(m.buf, sector)[:padSector(data)]
	clear(m.buf[data:])
	m.seg.end = m.written + int64(len(m.buf))
	m.seg.previousEnd = m.seg.end
	if err := m.flush(len(m.buf)); err != nil {
		return err
	}
	if _, err := m.file.WriteAt(m.seg.encode(), 0); err != nil {
		return err
	}
	m.j.counters.syncs.Add(1)
	return m.file.Datasync()
}

// waits reports whether the message is not settled.
func (a *ackState) waits(seq uint64) bool {
	_, unacked := slices.BinarySearch(a.unacked, seq)
	return unacked || seq >= a.top
}
