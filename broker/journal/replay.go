package journal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

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
			if errors.Is(err, errUnused) || err == nil && (h.id != id || h.compacted && len(j.checkpoints.kept) > 0) {
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
			j.segments = j.segments.without(g.segment)
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
		j.queue.nextSeq = max(j.queue.nextSeq, f.seq)
		if err := j.replayFrame(t.segment, f, &clock); err != nil {
			j.log.Error("journal: record does not follow its format", "segment", t.name(), "offset", f.offset, "error", err)
			j.recovery.Damaged += frameHeader + int64(len(f.body))
		}
		t.end = f.offset + int64(align(frameHeader+len(f.body))) // exactly: a torn tail may follow
		if f.batchStart {
			j.figures.before.Syncs++
		}
	}
	j.figures.before.Bytes += uint64(max(0, t.end-t.from))
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
			if r, ok := j.readers.byName[discarded]; ok {
				delete(j.readers.byName, discarded)
				j.discarded(r, value)
			}
		case isReader && value == nil:
			if r, ok := j.readers.byName[name]; ok {
				j.readers.forget(r)
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
			if r, ok := j.readers.byID[o.reader]; ok {
				r.backlog.owed++
				r.backlog.tail = max(r.backlog.tail, f.seq+1)
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
			j.state.retain(&st.message, t, s)
		}
		return nil
	case kindState:
		p.changes(change)
	case kindAck:
		id, a := p.ack()
		if r, ok := j.readers.byID[id]; ok && p.err == nil {
			r.restore(a)
		}
	case kindLoss:
		id, l, a := p.lossRecord()
		if r, ok := j.readers.byID[id]; ok && p.err == nil {
			l.Reader = r.reg.name
			r.restore(a)
			j.addLoss(r, l)
		}
	case kindClock:
		*clock = p.clock()
		s.clocks = append(s.clocks, *clock)
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
	r := j.readers.byID[id]
	switch {
	case p.err != nil || j.readers.byName[name] != nil && j.readers.byName[name] != r:
		return
	case r == nil:
		r = newReader(j, name, id, seq)
		j.readers.nextID = max(j.readers.nextID, id+1)
	case r.reg.name != name:
		j.losses.rename(r.reg.name, name)
		j.readers.rename(r, name)
	}
	j.readers.put(r)
	r.reg.priority = byte(min(priority, MaxPriority))
}

// unknownLoss records messages that the tail should hold and does not: which readers they were owed to is lost
// with them.
func (j *Journal) unknownLoss(first, last uint64) {
	j.findLoss(nil, Loss{First: first, Last: last, Count: last - first + 1, Reason: ReasonDamage})
}
