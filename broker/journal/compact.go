package journal

import (
	"errors"
	"fmt"
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
			if r, ok := j.readers.byID[id]; ok && !r.reg.removed && int(r.reg.priority) > w.below && r.reg.durable.cursor() <= in.last {
				waiting[id] = r.reg.durable // not what is in memory: a crash would bring back the rest
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
			read, orig := clock, s.clock.boot+int64(fr.millis)*1e6
			boot := max(m.place(s, clock, orig), m.seg.clock.boot)
			read.boot += boot - orig
			if err := m.message(fr, to, read, boot); err != nil {
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
	m.j.figures.written.Add(uint64(n))
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
	m.j.figures.syncs.Add(1)
	return m.file.Datasync()
}
