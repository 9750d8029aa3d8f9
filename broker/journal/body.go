package journal

import (
	"encoding/binary"
	"errors"
	"slices"
	"time"

	"holdfast/broker"
)

// Bodies of frames. Numbers are unsigned varints (encoding/binary) unless a width is given; strings
// and byte strings have their length in front.
//
//	message  flags u8, [owed], [changes], topic, [expiry], [properties], payload to the end
//	owed     count, then for each reader: id<<2 | QoS 2<<1 | retain
//	changes  count, then for each: key, 0 (deleted) or 1+length and value
//	state    changes
//	ack      reader id, settled, handed, top, count, then unacknowledged sequence numbers as
//	         distances below top, each from the one before
//	loss     reader id, first, last, count, reason, wall time in ns i64, then as ack: the reader behind
//	         it; since version 3, if there are any: numbers
//	numbers  count, first, last: see Numbers
//	clock    wall time in ns i64, boot time in ns i64, synchronised u8
const (
	flagQoS        = 0x03
	flagRetain     = 0x04
	flagRetained   = 0x08
	flagExpires    = 0x10
	flagProperties = 0x20
	flagChanges    = 0x40
	flagOwed       = 0x80
)

var errBody = errors.New("body does not follow its format")

func appendString[T string | []byte](b []byte, s T) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendChanges(b []byte, changes []Change) []byte {
	b = binary.AppendUvarint(b, uint64(len(changes)))
	for _, c := range changes {
		b = appendString(b, c.Key)
		if c.Value == nil {
			b = append(b, 0)
			continue
		}
		b = binary.AppendUvarint(b, uint64(len(c.Value))+1)
		b = append(b, c.Value...)
	}
	return b
}

func appendMessage(b []byte, e *Entry) []byte {
	m := e.Message
	flags := m.QoS & flagQoS
	set := func(on bool, flag byte) {
		if on {
			flags |= flag
		}
	}
	set(m.Retain, flagRetain)
	set(e.Retained, flagRetained)
	set(m.Expires, flagExpires)
	set(len(m.Properties) > 0, flagProperties)
	set(len(e.Changes) > 0, flagChanges)
	set(len(e.Owed) > 0, flagOwed)
	b = append(b, flags)
	if len(e.Owed) > 0 {
		b = binary.AppendUvarint(b, uint64(len(e.Owed)))
		for _, o := range e.Owed {
			v := o.Reader.id << 2
			if o.QoS == 2 {
				v |= 2
			}
			if o.Retain {
				v |= 1
			}
			b = binary.AppendUvarint(b, v)
		}
	}
	if len(e.Changes) > 0 {
		b = appendChanges(b, e.Changes)
	}
	b = appendString(b, m.Topic)
	if m.Expires {
		b = binary.AppendUvarint(b, uint64(m.Expiry))
	}
	if len(m.Properties) > 0 {
		b = appendString(b, m.Properties)
	}
	return append(b, m.Payload...)
}

// parser decodes a body; after the first error everything it returns is zero and err is set.
type parser struct {
	b   []byte
	err error
}

func (p *parser) uvarint() uint64 {
	v, n := binary.Uvarint(p.b)
	if n <= 0 {
		p.b, p.err = nil, errBody
		return 0
	}
	p.b = p.b[n:]
	return v
}

func (p *parser) take(n uint64) []byte {
	if n > uint64(len(p.b)) {
		p.b, p.err = nil, errBody
		return nil
	}
	s := p.b[:n:n]
	p.b = p.b[n:]
	return s
}

func (p *parser) bytes() []byte { return p.take(p.uvarint()) }

func (p *parser) byte() byte {
	if s := p.take(1); s != nil {
		return s[0]
	}
	return 0
}

func (p *parser) int64() int64 {
	if s := p.take(8); s != nil {
		return int64(binary.LittleEndian.Uint64(s))
	}
	return 0
}

// count reads how many things follow, each at least one byte long.
func (p *parser) count() uint64 {
	n := p.uvarint()
	if n > uint64(len(p.b)) {
		p.b, p.err = nil, errBody
		return 0
	}
	return n
}

func (p *parser) changes(f func(key string, value []byte)) {
	for n := p.count(); n > 0 && p.err == nil; n-- {
		key := string(p.bytes())
		var value []byte
		if length := p.uvarint(); length > 0 {
			value = p.take(length - 1)
		}
		if p.err == nil {
			f(key, value)
		}
	}
}

// end returns the error so far, or errBody if bytes are left over.
func (p *parser) end() error {
	if p.err == nil && len(p.b) > 0 {
		p.err = errBody
	}
	return p.err
}

// owedTo is one entry of a message's owed list on disk.
type owedTo struct {
	reader uint64
	qos    byte
	retain bool
}

// stored is a decoded message body. message points into the body.
type stored struct {
	message  broker.Message
	retained bool
}

// parseOwed returns the flags, and calls f for each reader the message is owed to.
func (p *parser) owed(f func(owedTo)) byte {
	flags := p.byte()
	if flags&flagOwed != 0 {
		for n := p.count(); n > 0 && p.err == nil; n-- {
			v := p.uvarint()
			qos := byte(1)
			if v&2 != 0 {
				qos = 2
			}
			if p.err == nil {
				f(owedTo{reader: v >> 2, qos: qos, retain: v&1 != 0})
			}
		}
	}
	return flags
}

// parseMessage decodes a message's body, and calls owed and change for what goes with it. The
// result points into body.
func parseMessage(body []byte, owed func(owedTo), change func(key string, value []byte)) (s stored, err error) {
	p := parser{b: body}
	flags := p.owed(owed)
	s.retained = flags&flagRetained != 0
	p.message(flags, &s.message, change)
	return s, p.err
}

// message reads what follows the owed list. A topic that m has already is kept, if it is the same.
func (p *parser) message(flags byte, m *broker.Message, change func(key string, value []byte)) {
	if flags&flagChanges != 0 {
		p.changes(change)
	}
	m.QoS = flags & flagQoS
	m.Retain = flags&flagRetain != 0
	if topic := p.bytes(); m.Topic != string(topic) {
		m.Topic = string(topic)
	}
	if flags&flagExpires != 0 {
		m.Expires, m.Expiry = true, uint32(p.uvarint())
	}
	if flags&flagProperties != 0 {
		m.Properties = p.bytes()
	}
	m.Payload = p.b
}

// ackState is what a reader has acknowledged: everything owed to it below top, less unacked.
type ackState struct {
	settled uint64   // messages acknowledged or dropped since the reader began
	handed  uint64   // messages below this may have been delivered
	top     uint64   // one past the newest acknowledged or dropped message
	unacked []uint64 // ascending, all below top
}

// cursor is the lowest sequence number that can be unacknowledged.
func (a *ackState) cursor() uint64 {
	if len(a.unacked) > 0 {
		return a.unacked[0]
	}
	return a.top
}

// waits reports whether the message is not settled.
func (a *ackState) waits(seq uint64) bool {
	_, unacked := slices.BinarySearch(a.unacked, seq)
	return unacked || seq >= a.top
}

func appendAck(b []byte, reader uint64, a *ackState) []byte {
	b = binary.AppendUvarint(b, reader)
	b = binary.AppendUvarint(b, a.settled)
	b = binary.AppendUvarint(b, a.handed)
	b = binary.AppendUvarint(b, a.top)
	b = binary.AppendUvarint(b, uint64(len(a.unacked)))
	above := a.top
	for i := len(a.unacked) - 1; i >= 0; i-- {
		b = binary.AppendUvarint(b, above-a.unacked[i])
		above = a.unacked[i]
	}
	return b
}

func (p *parser) ack() (reader uint64, a ackState) {
	reader = p.uvarint()
	a = ackState{settled: p.uvarint(), handed: p.uvarint(), top: p.uvarint()}
	n := p.count()
	a.unacked = make([]uint64, n)
	above := a.top
	for i := int(n) - 1; i >= 0; i-- {
		distance := p.uvarint()
		if distance == 0 || distance > above {
			p.b, p.err = nil, errBody
			return 0, ackState{}
		}
		above -= distance
		a.unacked[i] = above
	}
	return reader, a
}

// Reasons for a Loss. Reader.Drop may give others.
const (
	ReasonSize    = "max_size"  // the journal reached its limit of size
	ReasonFree    = "keep_free" // the file system had too little space left
	ReasonAge     = "max_age"   // the messages were older than the limit
	ReasonDamage  = "damage"    // the disk did not return what was written
	ReasonBacklog = "backlog"   // the oldest of a reader that had reached its own limit
	ReasonRefused = "refused"   // the reader's consumer will never be able to deliver it
	ReasonExpired = "expired"   // the message's own lifetime was over
	// ReasonUnknown marks a loss whose number of messages is not known: its Count is 0. The upper 32 bits of its ID are
	// the Number of the Epoch that found it.
	ReasonUnknown = "unknown"
	ReasonDenied  = "denied" // the reader's consumer may not have it any more
)

// Loss is a range of messages that a reader was owed and will never get. First and Last are sequence
// numbers of the journal; Count messages between them were this reader's.
type Loss struct {
	// ID names the range for good, also when it has grown; 0 while the loss is not on disk. News is the
	// number of the newest record in it: a caller that knows all up to N looks at ranges with News > N.
	ID, News    uint64
	Reader      string
	First, Last uint64
	Count       uint64
	Reason      string
	Time        time.Time // of the newest
	Numbers     Numbers   // of those messages that have one
}

// Numbers is a range of numbers from Options.Number: Count of them, from First to Last.
type Numbers struct{ First, Last, Count uint64 }

func (n *Numbers) add(o Numbers) {
	switch {
	case o.Count == 0:
	case n.Count == 0:
		*n = o
	default:
		*n = Numbers{min(n.First, o.First), max(n.Last, o.Last), n.Count + o.Count}
	}
}

func appendNumbers(b []byte, n Numbers) []byte {
	for _, v := range []uint64{n.Count, n.First, n.Last} {
		b = binary.AppendUvarint(b, v)
	}
	return b
}

func (p *parser) numbers() Numbers {
	n := Numbers{Count: p.uvarint(), First: p.uvarint(), Last: p.uvarint()}
	if p.err != nil {
		return Numbers{}
	}
	return n
}

func appendLoss(b []byte, reader uint64, l *Loss) []byte {
	for _, v := range []uint64{reader, l.First, l.Last, l.Count} {
		b = binary.AppendUvarint(b, v)
	}
	b = appendString(b, l.Reason)
	return binary.LittleEndian.AppendUint64(b, uint64(l.Time.UnixNano()))
}

// appendLossRecord appends the body of a loss, with the reader's position a behind it.
func appendLossRecord(b []byte, reader uint64, l *Loss, a *ackState) []byte {
	b = appendAck(appendLoss(b, reader, l), reader, a)
	if l.Numbers.Count > 0 {
		b = appendNumbers(b, l.Numbers)
	}
	return b
}

func (p *parser) loss() (reader uint64, l Loss) {
	reader = p.uvarint()
	l = Loss{First: p.uvarint(), Last: p.uvarint(), Count: p.uvarint(), Reason: string(p.bytes())}
	l.Time = time.Unix(0, p.int64())
	return reader, l
}

// lossRecord reads what appendLossRecord wrote.
func (p *parser) lossRecord() (reader uint64, l Loss, a ackState) {
	reader, l = p.loss()
	if _, a = p.ack(); len(p.b) > 0 {
		l.Numbers = p.numbers()
	}
	return reader, l, a
}

// appendClock and parser.clock: see clockReading.
func appendClock(b []byte, c clockReading) []byte {
	b = binary.LittleEndian.AppendUint64(b, uint64(c.wall))
	b = binary.LittleEndian.AppendUint64(b, uint64(c.boot))
	if c.synced {
		return append(b, 1)
	}
	return append(b, 0)
}

func (p *parser) clock() clockReading {
	return clockReading{wall: p.int64(), boot: p.int64(), synced: p.byte() == 1}
}
