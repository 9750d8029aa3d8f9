package journal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"time"
)

// A snapshot file (.snap) is a checkpoint: it holds everything that the journal keeps in memory, as it was when the log
// ended at a certain place. Recovery loads it and reads only the log after it. Numbers are varints, strings have
// their length in front.
//
//	magic "HFSTATE3", crc u32 (CRC-32C of the rest), then
//	position  segment id, end
//	next      sequence number, reader id
//	ledger    since 8 bytes, bytes, syncs
//	segments  count, then: id, salt, base, previous, previousEnd, previousNext, clock 17 bytes,
//	          boot id 16 bytes, compacted u8, end, next, wall, count of readers, then: id, count, last,
//	          bytes
//	readers   count, then: name, priority, owed, tail, ack body, lost: count, then: reason, messages
//	state     count, then: key, value
//	retained  count, then: clock 17 bytes, message body with its length
//	news      the number of losses, ever
//	losses    count, then: reader, first, last, count, reason, wall 8 bytes, id, news, numbers
//
// "HFSTATE2" has no lost, news, id and numbers, "HFSTATE1" no ledger, compacted, bytes and priority either.
const (
	snapshotMagic  = "HFSTATE" // and the version
	snapshotFormat = 3
)

// encodeSnapshot is called with mu held. The checksum is still missing. segment is 0 if there is no segment yet.
func (j *Journal) encodeSnapshot() (m *image, segment uint64) {
	m = &image{b: make([]byte, 0, 64<<10)}
	put := func(vs ...uint64) {
		for _, v := range vs {
			m.b = binary.AppendUvarint(m.b, v)
		}
	}
	m.b = append(m.b, snapshotMagic...)
	m.b = append(m.b, '0'+snapshotFormat, 0, 0, 0, 0)
	var end int64
	if n := len(j.segments); n > 0 {
		segment, end = j.segments[n-1].id, j.segments[n-1].end
	}
	put(segment, uint64(end), j.queue.nextSeq, j.readers.nextID)
	l := j.figures.ledger(&j.clock)
	m.b = binary.LittleEndian.AppendUint64(m.b, uint64(l.Since.UnixNano()))
	put(l.Bytes, l.Syncs, uint64(len(j.segments)))
	for _, s := range j.segments {
		put(s.id, uint64(s.salt), s.base, s.previous, uint64(s.previousEnd), s.previousNext)
		m.b = append(appendClock(m.b, s.clock), s.bootID[:]...)
		var compacted uint64
		if s.compacted {
			compacted = 1
		}
		put(compacted, uint64(s.end), s.next, uint64(s.wall), uint64(len(s.owed)))
		for id, in := range s.owed {
			put(id, in.count, in.last, in.bytes)
		}
	}
	put(uint64(len(j.readers.byID)))
	for _, r := range j.readers.byID {
		r.mu.Lock()
		appendLong(m, r.reg.name)
		put(uint64(r.reg.priority), r.backlog.owed, r.backlog.tail)
		r.mu.Unlock()
		m.b = appendAck(m.b, r.id, &r.reg.durable)
		put(uint64(len(r.reg.lost)))
		for reason, count := range r.reg.lost {
			m.b = appendString(m.b, reason)
			put(count)
		}
	}
	put(uint64(len(j.state.keys)))
	for key, value := range j.state.keys {
		appendLong(m, key)
		appendLong(m, value)
	}
	put(uint64(len(j.state.retained)))
	var body []byte
	var newest *bootEnd // the boot times of retained messages are of its boot; those before it are at most 0
	if n := len(j.segments); n > 0 {
		newest = j.segments[n-1].earlier
	}
	for _, r := range j.state.retained {
		boot := int64(r.time.Boot)
		if newest != nil && r.time.Earlier {
			boot -= newest.shift
		}
		m.b = appendClock(m.b, clockReading{r.time.Wall.UnixNano(), boot, r.time.Synced})
		front := *r.message
		front.Payload = nil
		body = appendMessage(body[:0], &Entry{Message: &front, Retained: true})
		put(uint64(len(body) + len(r.message.Payload)))
		m.b = append(m.b, body...)
		if len(r.message.Payload) < longString {
			m.b = append(m.b, r.message.Payload...)
		} else {
			m.refer(r.message.Payload)
		}
	}
	put(j.losses.news, uint64(len(j.losses.ranges)))
	for i := range j.losses.ranges {
		l := &j.losses.ranges[i]
		m.b = appendString(m.b, l.Reader)
		m.b = appendLoss(m.b, 0, l)
		put(l.ID, l.News)
		m.b = appendNumbers(m.b, l.Numbers)
	}
	return m, segment
}

// position is where a checkpoint's log ends.
type position struct {
	segment uint64
	end     int64
}

// snapshotVersion is the version of a checkpoint that this one reads, 0 for others.
func snapshotVersion(b []byte) int {
	if len(b) < 12 || string(b[:7]) != snapshotMagic || b[7] < '1' || b[7] > '0'+snapshotFormat {
		return 0
	}
	return int(b[7] - '0')
}

// decodeSnapshot fills an empty journal, which keeps no pointer into b.
func (j *Journal) decodeSnapshot(b []byte) (at position, err error) {
	version := snapshotVersion(b)
	if version == 0 {
		err := errors.New("damaged")
		if len(b) >= 12 && string(b[:7]) == snapshotMagic && b[7] > '0'+snapshotFormat && b[7] <= '9' {
			err = errNewer
		}
		return at, fmt.Errorf("magic: got %q, want %s%d: %w", b[:min(8, len(b))], snapshotMagic, snapshotFormat, err)
	}
	since2 := func(p *parser) uint64 { // a number that version 1 does not have
		if version < 2 {
			return 0
		}
		return p.uvarint()
	}
	if got, want := crc32.Checksum(b[12:], castagnoli), binary.LittleEndian.Uint32(b[8:]); got != want {
		return at, fmt.Errorf("checksum: got %08x, want %08x", got, want)
	}
	p := parser{b: b[12:]}
	at = position{p.uvarint(), int64(p.uvarint())}
	j.queue.nextSeq, j.readers.nextID = p.uvarint(), p.uvarint()
	if version >= 2 {
		j.figures.before = Ledger{Since: time.Unix(0, p.int64()), Bytes: p.uvarint(), Syncs: p.uvarint()}
	}
	for n := p.count(); n > 0 && p.err == nil; n-- {
		s := &segment{owed: map[uint64]owedIn{}}
		s.id, s.salt, s.base = p.uvarint(), uint32(p.uvarint()), p.uvarint()
		s.previous, s.previousEnd, s.previousNext = p.uvarint(), int64(p.uvarint()), p.uvarint()
		s.clock = p.clock()
		copy(s.bootID[:], p.take(16))
		s.compacted = since2(&p) != 0
		s.end, s.next, s.wall = int64(p.uvarint()), p.uvarint(), int64(p.uvarint())
		for m := p.count(); m > 0 && p.err == nil; m-- {
			s.owed[p.uvarint()] = owedIn{p.uvarint(), p.uvarint(), since2(&p)}
		}
		j.segments = append(j.segments, s)
	}
	for n := p.count(); n > 0 && p.err == nil; n-- {
		name := string(p.bytes())
		priority, owed, tail := since2(&p), p.uvarint(), p.uvarint()
		id, a := p.ack()
		r := newReader(j, name, id, a.top)
		r.reg.priority, r.backlog.owed, r.backlog.tail = byte(min(priority, MaxPriority)), owed, tail
		r.restore(a)
		if version >= 3 {
			for m := p.count(); m > 0 && p.err == nil; m-- {
				reason := string(p.bytes())
				r.reg.countLost(reason, p.uvarint())
			}
		}
		j.readers.put(r)
	}
	for n := p.count(); n > 0 && p.err == nil; n-- {
		key := string(p.bytes())
		j.state.set(key, bytes.Clone(p.bytes()))
	}
	for n := p.count(); n > 0 && p.err == nil; n-- {
		c := p.clock()
		s, err := parseMessage(p.bytes(), func(owedTo) {}, func(string, []byte) {})
		if err != nil {
			return at, err
		}
		s.message.Payload, s.message.Properties = bytes.Clone(s.message.Payload), bytes.Clone(s.message.Properties)
		r := retained{message: &s.message, time: c.at(c.boot)}
		if n := len(j.segments); n > 0 {
			r.seg = j.segments[n-1]
		} else {
			r.time.Boot, r.time.Earlier = min(0, r.time.Boot), true
		}
		j.state.retained[s.message.Topic] = r
	}
	if version >= 3 {
		j.losses.news = p.uvarint()
	}
	for n := p.count(); n > 0 && p.err == nil; n-- {
		name := string(p.bytes())
		_, l := p.loss()
		l.Reader = name
		if version >= 3 {
			l.ID, l.News, l.Numbers = p.uvarint(), p.uvarint(), p.numbers()
		} else {
			j.losses.news++
			l.ID, l.News = j.losses.news, j.losses.news
		}
		j.losses.ranges = append(j.losses.ranges, l)
	}
	if p.err == nil && (j.queue.nextSeq == 0 || j.readers.nextID == 0) {
		return at, fmt.Errorf("next: got sequence number %d and reader %d, want 1 or more", j.queue.nextSeq, j.readers.nextID)
	}
	return at, p.end()
}
