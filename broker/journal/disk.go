package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"holdfast/broker"
)

// diskScan is the position in the log of a reader that has fallen behind. It keeps its file and one
// buffer from call to call, and none once the reader has caught up.
type diskScan struct {
	seg     *segment
	file    File
	scanner *scanner
	clock   clockReading
	expect  uint64 // sequence number of the next message frame, if none is missing
	missing uint64 // messages in the gaps to come that r was not handed; valid once surveyed
	known   bool   // missing is valid
	topic   string // of the last message: the next one may have the same
	memory  []byte // room for messages
	resting int64  // bytes that count in memory.resting
}

func (d *diskScan) close(j *Journal) {
	d.wake(j)
	if d.file != nil {
		d.file.Close()
	}
	*d = diskScan{}
}

// rest frees the memory while no message is wanted, unless it is little and others have little too. The position in
// the log stays: what follows is read again.
func (d *diskScan) rest(j *Journal) {
	d.wake(j)
	if d.scanner == nil {
		return
	}
	if n := int64(cap(d.scanner.buf) + cap(d.memory)); j.memory.rest(n) {
		d.resting = n
		return
	}
	d.scanner.buf, d.memory = nil, nil
}

// wake notes that the scan is in use again.
func (d *diskScan) wake(j *Journal) {
	if d.resting > 0 {
		j.memory.wake(d.resting)
		d.resting = 0
	}
}

// find returns the first message from seq on that r is owed. found is false if the log holds none.
func (d *diskScan) find(r *Reader, seq uint64) (Delivery, bool, error) {
	for {
		if d.seg == nil {
			ok, err := d.open(r, seq)
			if !ok {
				return Delivery{}, false, err
			}
		}
		found, ok, err := d.scan(r, seq)
		if ok || err != nil {
			return found, ok, err
		}
		next, grown, gone := d.limits(r)
		switch {
		case gone: // what is still owed of it is in another one
			d.close(r.j)
		case !grown:
			if next > d.expect {
				d.account(r, gap{d.expect, next - 1})
			}
			d.close(r.j)
			seq = max(seq, next)
		}
	}
}

// scan looks in the segment.
func (d *diskScan) scan(r *Reader, seq uint64) (Delivery, bool, error) {
	for {
		f, ok := d.scanner.next()
		if !ok {
			return Delivery{}, false, nil
		}
		if f.kind == kindClock {
			p := parser{b: f.body}
			d.clock = p.clock()
		}
		if f.kind != kindMessage {
			continue
		}
		if f.seq > d.expect {
			if _, _, gone := d.limits(r); gone { // the file is being used again: what follows is no proof
				return Delivery{}, false, nil
			}
			d.account(r, gap{d.expect, f.seq - 1})
		}
		d.expect = f.seq + 1
		if f.seq < seq {
			continue
		}
		p := parser{b: f.body}
		o, flags, owed := p.owes(r.id)
		if !owed {
			continue
		}
		p.b = d.keep(p.b)
		m := &broker.Message{Topic: d.topic}
		if p.message(flags, m, func(string, []byte) {}); p.err != nil {
			return Delivery{}, false, fmt.Errorf("journal: %s at %d: %w", d.seg.name(), f.offset, p.err)
		}
		d.topic = m.Topic
		boot := d.seg.clock.boot + int64(f.millis)*1e6
		return Delivery{Seq: f.seq, Message: m, QoS: o.qos, Retain: o.retain, Time: d.seg.since(d.clock, boot)}, true, nil
	}
}

// keep copies b to memory that stays valid. Messages share it with their neighbours.
func (d *diskScan) keep(b []byte) []byte {
	if len(b) > cap(d.memory)-len(d.memory) {
		d.memory = make([]byte, 0, max(len(b), 16<<10))
	}
	start := len(d.memory)
	d.memory = append(d.memory, b...)
	return d.memory[start:len(d.memory):len(d.memory)]
}

// owes reads a message's flags and owed list, and returns the entry of reader id.
func (p *parser) owes(id uint64) (o owedTo, flags byte, found bool) {
	flags = p.owed(func(to owedTo) {
		if to.reader == id {
			o, found = to, true
		}
	})
	return o, flags, found && p.err == nil
}

// open opens the oldest segment that owes r something from seq on.
func (d *diskScan) open(r *Reader, seq uint64) (bool, error) {
	for {
		j := r.j
		j.mu.Lock()
		i := slices.IndexFunc(j.segments, func(s *segment) bool {
			in, ok := s.owed[r.id]
			return ok && in.last >= seq
		})
		if i < 0 {
			j.mu.Unlock()
			return false, nil
		}
		s, limit := j.segments[i], j.segments[i].end
		j.mu.Unlock()
		f, err := j.fs.Open(s.name(), false)
		if err != nil {
			j.mu.Lock()
			gone := s.gone
			j.mu.Unlock()
			if gone {
				continue
			}
			if errors.Is(err, fs.ErrNotExist) {
				j.vanished(r, s)
				seq = s.next
				continue
			}
			return false, err
		}
		d.seg, d.file, d.clock, d.expect = s, f, s.clock, s.base
		d.scanner = newScanner(f, &s.header, headerSize, limit, nil)
		return true, nil
	}
}

// limits extends the scan where the segment has grown, and reports whether the segment has left the log. next is one
// past the newest sequence number in it, and the search goes on behind next.
func (d *diskScan) limits(r *Reader) (next uint64, grown, gone bool) {
	r.j.mu.Lock()
	defer r.j.mu.Unlock()
	grown = d.seg.end > d.scanner.limit
	d.scanner.limit = max(d.scanner.limit, d.seg.end)
	return max(d.seg.next, d.seg.owed[r.id].last+1), grown, d.seg.gone
}

// gap is a range of sequence numbers, both ends included, whose frames cannot be read.
type gap struct{ first, last uint64 }

// account settles what is pending for r in g. It is not known to which reader the missing messages were owed, only
// how many r has pending in the segment: of several gaps the first takes all it can hold.
func (d *diskScan) account(r *Reader, g gap) {
	if !d.known {
		d.missing, d.known = d.survey(r), true
	}
	r.j.mu.Lock()
	defer r.j.mu.Unlock()
	if !d.seg.gone {
		d.missing -= r.j.lose(r, d.seg, g.first, g.last, d.missing, Loss{Reason: ReasonDamage})
	}
}

// survey returns how many messages of the segment were not handed to r yet and cannot be read.
func (d *diskScan) survey(r *Reader) uint64 {
	r.j.mu.Lock()
	r.mu.Lock()
	handed, behind := r.backlog.handed, r.j.segments.owedBehind(r.id, d.seg)
	ahead := r.backlog.ahead(behind)
	r.mu.Unlock()
	end := d.seg.end
	r.j.mu.Unlock()
	var seen uint64
	d.seg.messages(d.file, end, func(f frame, p *parser) {
		if f.seq < handed {
			return
		}
		if _, _, owed := p.owes(r.id); owed {
			seen++
		}
	})
	return ahead - min(ahead, seen)
}
