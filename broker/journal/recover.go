package journal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// recovered is what recovery passes to the maintainer.
type recovered struct {
	lastID       uint64   // the highest segment id seen
	lastSnapshot uint64   // the highest checkpoint number seen
	free         []string // segment files that hold nothing
	files        int      // segment files in total
}

// recover brings memory to the state of the log: the newest checkpoint that can be read, and what the
// log holds after it. It changes nothing on disk but the names of corrupt files.
func (j *Journal) recover(start *startRecord) (*recovered, error) {
	files, err := j.fs.List()
	if err != nil {
		return nil, err
	}
	r := &recovered{}
	var snaps, segs []uint64
	sizes := map[uint64]int64{}
	for _, f := range files {
		if n, ok := parseName(f.Name, snapSuffix); ok {
			snaps = append(snaps, n)
			r.lastSnapshot = max(r.lastSnapshot, n)
		} else if n, ok := parseName(f.Name, segSuffix); ok {
			segs = append(segs, n)
			sizes[n] = f.Size
			r.lastID = max(r.lastID, n)
		} else if strings.HasSuffix(f.Name, snapSuffix+tempSuffix) {
			if err := j.fs.Remove(f.Name); err != nil { // never finished, so never relied on
				j.log.Warn("journal: an unfinished snapshot cannot be removed", "file", f.Name, "error", err)
			}
		} else if f.Name != lockName && !strings.HasSuffix(f.Name, quarantineSuffix) {
			j.recovery.Foreign = append(j.recovery.Foreign, f.Name)
		}
	}
	slices.Sort(segs)
	slices.Sort(snaps)
	at, err := j.loadSnapshot(snaps)
	if err != nil {
		return nil, err
	}
	behind := j.nextSeq // what is known of until here
	if n := len(j.segments); n > 0 {
		behind = j.segments[n-1].next // a checkpoint's next number counts what was not on disk yet
	}
	known := map[uint64]*segment{}
	ends := map[*segment]int64{} // by the checkpoint
	dead := map[uint64]bool{}    // of which nothing is left
	for _, s := range j.segments {
		known[s.id], ends[s] = s, s.end
		if size, ok := sizes[s.id]; ok && j.holdsNothing(s, size) {
			dead[s.id] = true
			if why := j.unknownHeader(s); why != nil {
				j.quarantine(s.name(), why)
			} else {
				r.free = append(r.free, s.name())
			}
		}
		if size, ok := sizes[s.id]; ok {
			s.end = max(headerSize, min(s.end, size)) // records that were cut off are missing, and noticed
		}
	}
	there := slices.DeleteFunc(slices.Clone(segs), func(id uint64) bool { return dead[id] })
	left := map[uint64]bool{}
	for _, id := range there {
		left[id] = true
	}
	if _, ok := slices.BinarySearch(segs, at.segment); at.segment > 0 && !ok {
		dead[at.segment] = true
	}
	tail, err := j.openTail(there, sizes, known, at, r)
	if err != nil {
		return nil, err
	}
	for i, t := range tail {
		if (i > 0 || len(j.snaps) > 0) && !t.compacted && behind < t.previousNext && t.segment.next == t.base {
			j.unknownLoss(behind, t.previousNext-1)
		}
		t.replay(j)
		behind = max(behind, t.segment.next)
	}
	j.writeOff(ends, left)
	r.files = len(r.free) + len(j.segments)
	cut := len(j.snaps) == 0 && len(j.segments) > 0 && (j.segments[0].previous != 0 || j.segments[0].compacted)
	if cut {
		j.log.Error("journal: no snapshot: sessions and retained messages that are older than the log are gone",
			"oldest_segment", j.segments[0].name())
	}
	if cut || len(j.found)+len(j.recovery.Aside)+len(dead) > 0 || j.recovery.Damaged > 0 || !j.countsFit() {
		j.recount(ends)
	}
	if n := len(j.segments); n > 0 {
		j.nextSeq = max(j.nextSeq, j.segments[n-1].next)
	}
	j.judge(start, at, dead)
	if j.recovery.Damaged > 0 || len(j.recovery.Aside) > 0 {
		j.log.Error("journal: damage found", "bytes", j.recovery.Damaged, "set_aside", j.recovery.Aside)
	}
	j.counters.damaged.Store(uint64(j.recovery.Damaged))
	j.placeBoots()
	return r, nil
}

// quarantineName returns the name for a quarantined file. An earlier one of that name stays.
func quarantineName(files []FileInfo, name string) string {
	to := name + quarantineSuffix
	for n := 2; slices.ContainsFunc(files, func(f FileInfo) bool { return f.Name == to }); n++ {
		to = fmt.Sprintf("%s.%d%s", name, n, quarantineSuffix)
	}
	return to
}

// quarantine renames a corrupt file, so that a person can look at it.
func (j *Journal) quarantine(name string, why error) {
	files, _ := j.fs.List()
	to := quarantineName(files, name)
	j.log.Error("journal: damaged file quarantined", "file", name, "as", to, "error", why)
	j.recovery.Aside = append(j.recovery.Aside, to)
	if err := errors.Join(j.fs.Rename(name, to), j.fs.SyncDir()); err != nil {
		j.log.Error("journal: cannot quarantine", "file", name, "error", err)
	}
}

// loadSnapshot loads the newest checkpoint that is whole.
func (j *Journal) loadSnapshot(snaps []uint64) (position, error) {
	for i := len(snaps) - 1; i >= 0; i-- {
		name := snapshotName(snaps[i])
		b, err := j.readFile(name)
		var at position
		if err == nil {
			fresh := &Journal{
				state: map[string][]byte{}, retained: map[string]retained{},
				readers: map[string]*Reader{}, byID: map[uint64]*Reader{},
			}
			if at, err = fresh.decodeSnapshot(b); err == nil {
				j.state, j.retained, j.readers, j.byID = fresh.state, fresh.retained, fresh.readers, fresh.byID
				j.stateSize = fresh.stateSize
				j.snapSize.Store(int64(len(b)))
				j.segments, j.losses, j.nextSeq, j.nextID = fresh.segments, fresh.losses, fresh.nextSeq, fresh.nextID
				j.before, j.news = fresh.before, fresh.news
				for _, r := range j.byID {
					r.j = j
				}
				for _, n := range slices.Backward(snaps[:i]) {
					if reach := j.reach(n); reach > 0 && len(j.snaps) == 0 {
						j.snaps = append(j.snaps, snapshotMark{n, reach})
					} else {
						j.stale = append(j.stale, n)
					}
				}
				j.snaps = append(j.snaps, snapshotMark{snaps[i], at.segment})
				return at, nil
			}
		}
		if errors.Is(err, errNewer) || !isDamage(err) {
			return position{}, fmt.Errorf("%s: %w", name, err)
		}
		j.quarantine(name, err)
	}
	return position{}, nil
}

// reach returns the segment that checkpoint n ends in, 0 if it cannot be read. It does not check the checkpoint
// itself, which matters only if the newer one is corrupt.
func (j *Journal) reach(n uint64) uint64 {
	f, err := j.fs.Open(snapshotName(n), false)
	if err != nil {
		return 0
	}
	defer f.Close()
	b := make([]byte, 12+binary.MaxVarintLen64)
	got, _ := f.ReadAt(b, 0)
	if got < 12 || snapshotVersion(b) == 0 {
		return 0
	}
	segment, _ := binary.Uvarint(b[12:got])
	return segment
}

// mostAtOnce bounds the memory that is reserved at once by a file's size. A larger file takes more as it is read.
const mostAtOnce = 64 << 20

func (j *Journal) readFile(name string) ([]byte, error) {
	files, err := j.fs.List()
	if err != nil {
		return nil, err
	}
	size := int64(0)
	for _, f := range files {
		if f.Name == name {
			size = f.Size
		}
	}
	f, err := j.fs.Open(name, false)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b := bytes.NewBuffer(make([]byte, 0, min(size, mostAtOnce)+bytes.MinRead))
	_, err = b.ReadFrom(io.NewSectionReader(f, 0, 1<<40))
	return b.Bytes(), err
}

// tailSegment is a segment that recovery reads.
type tailSegment struct {
	*segment
	file  File
	from  int64
	limit int64 // of what can hold anything
	sure  bool  // everything before limit was synchronised
	// next is one past the segment's last sequence number; valid if sure.
	next uint64
}

// openTail opens the segments that are newer than the checkpoint, oldest first, and adds them to
// j.segments.
func (j *Journal) openTail(segs []uint64, sizes map[uint64]int64, known map[uint64]*segment, at position, r *recovered) ([]*tailSegment, error) {
	var tail, compacted []*tailSegment
	for _, id := range segs {
		name := segmentName(id)
		s := known[id]
		if s == nil && id < at.segment {
			r.free = append(r.free, name) // settled before the checkpoint
			continue
		}
		if id < at.segment || s != nil && s.compacted {
			continue
		}
		f, err := j.fs.Open(name, false)
		if err != nil && !isDamage(err) {
			closeAll(append(tail, compacted...))
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if err != nil {
			j.quarantine(name, err)
			continue
		}
		t := &tailSegment{segment: s, file: f, from: headerSize, limit: sizes[id] &^ (sector - 1)}
		if s != nil {
			t.from = s.end
		} else {
			h, err := readHeader(f)
			// A compacted segment that the checkpoint does not know was not finished: the segments that it was made of are there.
			if errors.Is(err, errUnused) || err == nil && (h.id != id || h.compacted && len(j.snaps) > 0) {
				f.Close()
				r.free = append(r.free, name)
				continue
			}
			if errors.Is(err, errNewer) {
				f.Close()
				closeAll(append(tail, compacted...))
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			if err != nil {
				f.Close()
				j.recovery.Damaged += sizes[id]
				j.quarantine(name, err)
				continue
			}
			t.segment = &segment{header: h, end: headerSize, next: h.base, owed: map[uint64]owedIn{}}
			if h.compacted {
				compacted = append(compacted, t)
				continue
			}
			j.segments = append(j.segments, t.segment)
		}
		// A segment between this one and the one that it follows is a stale tail: it holds only a batch whose sync
		// failed, and which was written again here.
		for n := len(tail); n > 0 && tail[n-1].id > t.previous; n-- {
			g := tail[n-1]
			g.file.Close()
			j.segments = slices.DeleteFunc(j.segments, func(s *segment) bool { return s == g.segment })
			r.free = append(r.free, g.name())
			tail = tail[:n-1]
		}
		if n := len(tail); n > 0 && tail[n-1].id == t.previous {
			p := tail[n-1]
			p.limit, p.sure, p.next = min(p.limit, t.previousEnd), true, t.previousNext
		}
		tail = append(tail, t)
	}
	for _, t := range compacted {
		tail = t.insert(j, tail, r)
	}
	return tail, nil
}

func closeAll(tail []*tailSegment) {
	for _, t := range tail {
		t.file.Close()
	}
}

// insert puts a compacted segment where it belongs, if the segments that it was made of are gone. Without a checkpoint
// it is the only copy of their messages.
func (t *tailSegment) insert(j *Journal, tail []*tailSegment, r *recovered) []*tailSegment {
	t.limit, t.sure, t.next = min(t.limit, t.previousEnd), true, t.previousNext
	if slices.ContainsFunc(tail, func(o *tailSegment) bool { return t.base <= o.base && o.base < t.next }) {
		t.file.Close()
		r.free = append(r.free, t.name())
		return tail
	}
	before := func(base uint64) bool { return base > t.base }
	i := slices.IndexFunc(append(tail, t), func(o *tailSegment) bool { return o == t || before(o.base) })
	k := slices.IndexFunc(append(j.segments, t.segment), func(o *segment) bool { return o == t.segment || before(o.base) })
	j.segments = slices.Insert(j.segments, k, t.segment)
	return slices.Insert(tail, i, t)
}

func readHeader(f File) (header, error) {
	b := make([]byte, headerSize)
	n, err := f.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return header{}, err
	}
	return decodeHeader(b[:n])
}

// replay applies what the segment holds from where the checkpoint ends.
func (t *tailSegment) replay(j *Journal) {
	defer t.file.Close()
	limit := t.limit
	if !t.sure {
		limit = t.trusted()
		j.recovery.Torn += t.limit - limit
	}
	clock, expect := t.clock, t.segment.next
	sc := newScanner(t.file, &t.header, t.from, limit, func(r region) {
		j.recovery.Damaged += r.to - r.from
	})
	for {
		f, ok := sc.next()
		if !ok {
			break
		}
		if f.kind == kindMessage {
			if f.seq > expect && !t.compacted {
				j.unknownLoss(expect, f.seq-1)
			}
			expect = f.seq + 1
			t.segment.next = expect
		}
		j.nextSeq = max(j.nextSeq, f.seq)
		if err := j.replayFrame(t.segment, f, &clock); err != nil {
			j.log.Error("journal: record does not follow its format", "segment", t.name(), "offset", f.offset, "error", err)
			j.recovery.Damaged += frameHeader + int64(len(f.body))
		}
		t.end = f.offset + int64(align(frameHeader+len(f.body))) // exactly: a torn tail may follow
		if f.batchStart {
			j.before.Syncs++
		}
	}
	j.before.Bytes += uint64(max(0, t.end-t.from))
	if t.sure {
		if t.next > expect && !t.compacted {
			j.unknownLoss(expect, t.next-1)
		}
		t.end, t.segment.next = limit, max(t.segment.next, t.next)
	}
}

// trusted returns where to stop in a segment whose synchronised end is not known. Behind damage, a
// batch that begins later proves that all before it was synchronised; without one the damage is a
// torn tail, of a batch that was never acknowledged: its rest must not overtake what the
// publishers will send again.
func (t *tailSegment) trusted() int64 {
	limit, damage := t.limit, int64(-1)
	sc := newScanner(t.file, &t.header, t.from, t.limit, func(r region) {
		if damage < 0 {
			damage = r.from
		}
	})
	for {
		f, ok := sc.next()
		if !ok {
			break
		}
		if f.batchStart {
			damage = -1
		}
	}
	if damage >= 0 {
		limit = damage
	}
	return limit
}

// replayFrame applies one frame.
func (j *Journal) replayFrame(s *segment, f frame, clock *clockReading) error {
	p := parser{b: f.body}
	change := func(key string, value []byte) {
		name, isReader := strings.CutPrefix(key, readerPrefix)
		discarded, isDiscard := strings.CutPrefix(key, discardPrefix)
		switch {
		case isDiscard:
			if r, ok := j.readers[discarded]; ok {
				delete(j.readers, discarded)
				j.discarded(r, value)
			}
		case isReader && value == nil:
			if r, ok := j.readers[name]; ok {
				delete(j.readers, name)
				delete(j.byID, r.id)
			}
		case isReader:
			j.replayReader(name, value, f.seq)
		default:
			j.applyChange(key, bytes.Clone(value))
		}
	}
	s.newest = max(s.newest, s.clock.boot+int64(f.millis)*1e6)
	switch f.kind {
	case kindMessage:
		j.recovery.Messages++
		body := f.body
		if len(body) > 0 && body[0]&flagRetained != 0 {
			body = bytes.Clone(body)
		}
		st, err := parseMessage(body, func(o owedTo) {
			s.note(o.reader, f.seq, len(f.body))
			if r, ok := j.byID[o.reader]; ok {
				r.owed++
				r.tail = max(r.tail, f.seq+1)
			}
		}, change)
		if err != nil {
			return err
		}
		t := clock.at(s.clock.boot + int64(f.millis)*1e6) // corrected when the log has been read
		if t.Synced {
			s.wall = t.Wall.UnixNano()
		}
		if st.retained {
			j.setRetained(&st.message, t)
			if r, ok := j.retained[st.message.Topic]; ok {
				r.seg = s
				j.retained[st.message.Topic] = r
			}
		}
		return nil
	case kindState:
		p.changes(change)
	case kindAck:
		id, a := p.ack()
		if r, ok := j.byID[id]; ok && p.err == nil {
			r.restore(a)
		}
	case kindLoss:
		id, l, a := p.lossRecord()
		if r, ok := j.byID[id]; ok && p.err == nil {
			l.Reader = r.name
			r.restore(a)
			j.addLoss(r, l)
		}
	case kindClock:
		*clock = p.clock()
		s.told = append(s.told, *clock)
	}
	return p.end()
}

// replayReader creates a reader, renames it, or sets its priority.
func (j *Journal) replayReader(name string, value []byte, seq uint64) {
	p := parser{b: value}
	id, priority := p.uvarint(), uint64(0)
	if len(p.b) > 0 {
		priority = p.uvarint()
	}
	r := j.byID[id]
	switch {
	case p.err != nil || j.readers[name] != nil && j.readers[name] != r:
		return
	case r == nil:
		r = newReader(j, name, id, seq)
		j.byID[id] = r
		j.nextID = max(j.nextID, id+1)
	case r.name != name:
		delete(j.readers, r.name)
		j.renameLosses(r.name, name)
		r.name = name
	}
	j.readers[name] = r
	r.priority = byte(min(priority, MaxPriority))
}

// unknownLoss records messages that the tail should hold and does not: which readers they were owed to is lost
// with them.
func (j *Journal) unknownLoss(first, last uint64) {
	j.findLoss(nil, Loss{First: first, Last: last, Count: last - first + 1, Reason: ReasonDamage})
}
