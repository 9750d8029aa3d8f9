package journal

import (
	"encoding/binary"
	"hash/crc32"
	"testing"

	"holdfast/broker"
)

// FuzzRecord takes bodies of every kind apart.
func FuzzRecord(f *testing.F) {
	r := newReader(&Journal{}, "bridge/cloud", 3, 1)
	m := &broker.Message{Topic: "t", Payload: []byte("on"), QoS: 1, Expires: true, Expiry: 3, Properties: []byte{1, 1}}
	f.Add(byte(kindMessage), appendMessage(nil, &Entry{
		Message: m, Owed: []Owed{{r, 2, true}}, Retained: true, Changes: []Change{{"a", []byte("b")}, {"c", nil}},
	}))
	a := ackState{settled: 5, handed: 9, top: 9, unacked: []uint64{3, 7}}
	f.Add(byte(kindState), appendChanges(nil, []Change{r.reg.change(r.id)}))
	f.Add(byte(kindAck), appendAck(nil, 3, &a))
	f.Add(byte(kindLoss), appendLossRecord(nil, 3, &Loss{First: 1, Last: 2, Count: 2, Reason: ReasonSize, Numbers: Numbers{7, 8, 2}}, &a))
	f.Add(byte(kindClock), appendClock(nil, clockReading{1, 2, true}))
	f.Fuzz(func(t *testing.T, k byte, body []byte) {
		p := parser{b: body}
		switch kind(k) {
		case kindMessage:
			s, err := parseMessage(body, func(owedTo) {}, func(string, []byte) {})
			if err == nil && len(s.message.Topic)+len(s.message.Payload)+len(s.message.Properties) > len(body) {
				t.Fatalf("more came out than there is: %+v", s.message)
			}
		case kindState:
			p.changes(func(string, []byte) {})
		case kindAck:
			if _, a := p.ack(); p.err == nil {
				for i, seq := range a.unacked {
					if seq >= a.top || i > 0 && seq <= a.unacked[i-1] {
						t.Fatalf("not in order below top: %+v", a)
					}
				}
				b := appendAck(nil, 3, &a)
				q := parser{b: b}
				if _, again := q.ack(); q.end() != nil || len(again.unacked) != len(a.unacked) || again.cursor() != a.cursor() {
					t.Fatalf("got %+v, want %+v", again, a)
				}
			}
		case kindLoss:
			p.lossRecord()
		case kindClock:
			p.clock()
		}
		_ = p.end()
	})
}

// use opens what may be a journal, reads all that readers are owed, and closes it.
func use(t *testing.T, m *memFS) {
	t.Helper()
	j, err := Open(Options{FS: m, MaxSize: smallestSize})
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	for _, info := range j.Readers() {
		r, err := j.OpenReader(info.Name)
		if err != nil {
			t.Fatal(err)
		}
		r.Attach()
		last := uint64(0)
		for {
			d, ok, err := r.TryNext()
			if err != nil || !ok {
				break
			}
			if d.Seq <= last {
				t.Fatalf("%s: %d after %d", info.Name, d.Seq, last)
			}
			last = d.Seq
			r.Ack(d.Seq)
		}
	}
	r, err := j.OpenReader("new")
	if err == nil {
		w := &waiter{}
		w.wg.Add(1)
		if err := j.Append(Entry{Message: message(1), Owed: []Owed{{Reader: r, QoS: 1}}, Done: w}); err != nil {
			t.Fatalf("append: %v", err)
		}
		w.wg.Wait()
		if len(w.errs) > 0 {
			t.Fatalf("append: %v", w.errs[0])
		}
	}
	if err := j.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
}

// FuzzSegment opens a segment that is whole in part. The input is a list of pieces: a kind, a length
// and a body, sealed as the journal would, or a kind that does not exist and bytes as they are.
func FuzzSegment(f *testing.F) {
	r := newReader(&Journal{}, "a", 1, 1)
	piece := func(k kind, body []byte) []byte { return append([]byte{byte(k), 0, byte(len(body))}, body...) }
	reader := piece(kindState, appendChanges(nil, []Change{r.reg.change(r.id)}))
	one := piece(kindMessage, appendMessage(nil, &Entry{Message: &broker.Message{Topic: "t", QoS: 1}, Owed: []Owed{{Reader: r, QoS: 1}}}))
	ack := piece(kindAck, appendAck(nil, 1, &ackState{settled: 1, handed: 2, top: 2}))
	garbage := piece(0, []byte("HOLDFAST garbage that is not a frame"))
	join := func(parts ...[]byte) (all []byte) {
		for _, p := range parts {
			all = append(all, p...)
		}
		return all
	}
	f.Add(join(reader, one, one, ack, one), uint16(0), byte(0))
	f.Add(join(reader, one, garbage, one, ack), uint16(4200), byte(0x10))
	f.Add(join(garbage, reader, one), uint16(8), byte(0xff))
	f.Fuzz(func(t *testing.T, pieces []byte, at uint16, flip byte) {
		h := header{salt: 0x1badcafe, id: 1, base: 1}
		data := h.encode()
		seq := uint64(1)
		for len(pieces) >= 3 {
			k, n := kind(pieces[0]), int(binary.BigEndian.Uint16(pieces[1:]))
			pieces = pieces[3:]
			body := pieces[:min(n, len(pieces))]
			pieces = pieces[len(body):]
			if k < kindMessage || k > kindLast {
				data = append(data, body...)
				for len(data)%frameAlign != 0 {
					data = append(data, 0)
				}
				continue
			}
			start := len(data)
			data = endFrame(append(beginFrame(data), body...))
			seal(data[start:], len(body), k, true, uint32(seq-h.base), 0, h.salt)
			if k == kindMessage {
				seq++
			}
		}
		for len(data)%sector != 0 {
			data = append(data, 0)
		}
		if len(data) > smallestPart {
			return
		}
		if int(at) < len(data) {
			data[at] ^= flip
		}
		m := &memFS{files: map[string]*memFile{segmentName(1): {data: data}}}
		use(t, m)
		use(t, m)
	})
}

// FuzzSnapshot opens a checkpoint whose checksum is right and whose content may be anything, beside a
// segment that it may speak of.
func FuzzSnapshot(f *testing.F) {
	m := &memFS{files: map[string]*memFile{}}
	j, err := Open(Options{FS: m, MaxSize: smallestSize})
	if err != nil {
		f.Fatal(err)
	}
	r, err := j.OpenReader("a")
	if err != nil {
		f.Fatal(err)
	}
	publish(f, j, 0, 20, r)
	r.Attach()
	expect(f, r, 0, 5, true)
	closeJournal(f, j)
	var segment []byte
	for name, file := range m.files {
		if _, ok := parseName(name, segSuffix); ok && len(file.data) > headerSize {
			segment = file.data
		}
		if _, ok := parseName(name, snapSuffix); ok {
			f.Add(file.data[12:], false)
			f.Add(file.data[12:], true)
		}
	}
	f.Fuzz(func(t *testing.T, content []byte, old bool) {
		b := append([]byte(snapshotMagic+"3\x00\x00\x00\x00"), content...)
		if old {
			b[7] = '1'
		}
		binary.LittleEndian.PutUint32(b[8:], crc32.Checksum(b[12:], castagnoli))
		m := &memFS{files: map[string]*memFile{
			snapshotName(1): {data: b}, segmentName(1): {data: append([]byte(nil), segment...)},
		}}
		use(t, m)
		use(t, m)
	})
}
