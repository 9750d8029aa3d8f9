package journal

import (
	"bytes"
	"fmt"

	"holdfast/broker"
)

// Record is one record of the log, for people and programs that look at it.
type Record struct {
	Segment string
	Offset  int64  // of its frame in the segment
	Size    int    // bytes of the frame
	Kind    string // one of RecordKinds
	Seq     uint64 // of a message; of anything else, of the next message
	Time    Time

	Message  *broker.Message // of a message
	Owed     []RecordOwed    // of a message
	Retained bool            // of a message: it became the retained value of its topic
	Changes  []Change        // of a message or state

	Reader string // of an acknowledgement or loss; its number in the file if it was removed since
	Ack    AckView
	Loss   Loss
}

// RecordKinds are the kinds of records, in the order of their numbers on disk.
var RecordKinds = []string{"message", "state", "ack", "loss", "clock"}

// RecordOwed is a reader that a message is owed to.
type RecordOwed struct {
	Reader string // empty if it was removed since
	QoS    byte
	Waits  bool // neither acknowledged nor lost
}

// AckView is what a reader had acknowledged: everything below Top less Unacked.
type AckView struct {
	Top     uint64
	Unacked []uint64
}

// Select chooses which records to read. The zero value is all of them.
type Select struct {
	From, To uint64 // sequence numbers, both included; To 0 means to the end
}

// Records calls f for every record of the log in order, from the oldest segment to the newest, until
// f returns an error. A record is valid until the next call. It skips damage: see Verify.
func (v *View) Records(sel Select, f func(*Record) error) error {
	var segments []*segment
	for _, s := range v.j.segments {
		if s.next > sel.From && (sel.To == 0 || s.base <= sel.To) {
			segments = append(segments, s)
		}
	}
	total := v.total(segments)
	var done int64
	for _, s := range segments {
		err := v.walk(s, func(r *Record) error {
			if r.Seq < sel.From || sel.To != 0 && r.Seq > sel.To {
				return nil
			}
			return f(r)
		}, func(at int64) { v.progress(done+at, total) })
		if err != nil {
			return err
		}
		done += s.end
		v.progress(done, total)
	}
	return nil
}

// walk calls f for every record of one segment and at, which may be nil, with where it is.
func (v *View) walk(s *segment, f func(*Record) error, at func(int64)) error {
	file, ok, err := v.openSegment(s)
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	if !ok {
		v.Recycled++
		return nil
	}
	defer file.Close()
	clock := s.clock
	sc := newScanner(file, &s.header, headerSize, s.end, nil)
	for n := 1; ; n++ {
		fr, ok := sc.next()
		if !ok {
			return nil
		}
		if at != nil && n%1024 == 0 {
			at(fr.offset)
		}
		r, err := v.record(s, fr, &clock)
		if err != nil {
			continue // Verify reports it
		}
		if err := f(r); err != nil {
			return err
		}
	}
}

// record decodes a frame. clock is that of the frames before it.
func (v *View) record(s *segment, f frame, clock *clockReading) (*Record, error) {
	r := &Record{
		Segment: s.name(), Offset: f.offset, Size: frameHeader + len(f.body), Kind: RecordKinds[f.kind-kindMessage], Seq: f.seq,
	}
	p := parser{b: f.body}
	change := func(key string, value []byte) { r.Changes = append(r.Changes, Change{key, bytes.Clone(value)}) }
	switch f.kind {
	case kindMessage:
		st, err := parseMessage(f.body, func(o owedTo) { r.Owed = append(r.Owed, v.owedTo(o, f.seq)) }, change)
		if err != nil {
			return nil, err
		}
		r.Message, r.Retained = &st.message, st.retained
		p.b = nil
	case kindState:
		p.changes(change)
	case kindAck:
		id, a := p.ack()
		r.Reader, r.Ack = v.readerName(id), AckView{a.top, a.unacked}
	case kindLoss:
		id, l, a := p.lossRecord()
		r.Reader, r.Loss, r.Ack = v.readerName(id), l, AckView{a.top, a.unacked}
		r.Loss.Reader = r.Reader
	case kindClock:
		*clock = p.clock()
	}
	r.Time = s.since(*clock, s.clock.boot+int64(f.millis)*1e6)
	return r, p.end()
}

func (v *View) readerName(id uint64) string {
	if r, ok := v.j.readers.byID[id]; ok {
		return r.reg.name
	}
	return fmt.Sprintf("(removed reader %d)", id)
}

func (v *View) owedTo(o owedTo, seq uint64) RecordOwed {
	r, ok := v.j.readers.byID[o.reader]
	if !ok {
		return RecordOwed{QoS: o.qos}
	}
	return RecordOwed{r.reg.name, o.qos, r.reg.durable.waits(seq)}
}
