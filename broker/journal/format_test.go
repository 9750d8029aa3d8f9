package journal

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/broker"
)

var update = flag.Bool("update", false, "write golden files")

// TestReadsOlderFormats opens journals that versions 1 and 2 wrote and did not close.
func TestReadsOlderFormats(t *testing.T) {
	for _, version := range []int{1, 2} {
		t.Run(fmt.Sprint(version), func(t *testing.T) { readsFormat(t, version) })
	}
}

func readsFormat(t *testing.T, version int) {
	f, err := os.Open(fmt.Sprintf("testdata/format%d.tar.gz", version))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, filepath.Base(h.Name)), b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // from the older version, then from what this version has made of it
		j := open(t, dir, func(o *Options) { o.MaxSize, o.SegmentSize = smallestSize, smallestPart })
		if rec := j.Recovery(); rec.Damaged > 0 || len(rec.Aside)+len(rec.Foreign) > 0 {
			t.Fatalf("recovery %+v", rec)
		}
		formerLosses(t, j, version)
		cloud, session := reader(t, j, "bridge/cloud"), reader(t, j, "session/client-1")
		if c, s := cloud.Depth(), session.Depth(); c != 27 || s != 101 {
			t.Fatalf("depths: got %d and %d, want 27 and 101", c, s)
		}
		cloud.Attach()
		expect(t, cloud, 10, 11, false)
		expect(t, cloud, 14, 40, false)
		none(t, cloud)
		session.Attach()
		expect(t, session, 0, 40, false)
		d, ok, err := session.TryNext()
		if m := d.Message; !ok || err != nil || m.Topic != "keep/a" || string(m.Payload) != "kept" || d.QoS != 2 || !d.Retain ||
			m.Expiry != 3600 || !bytes.Equal(m.Properties, []byte{3, 0, 1, 'x'}) {
			t.Fatalf("got %+v, %v, %v", d, ok, err)
		}
		for i := range 60 {
			d, ok, err := session.TryNext()
			if !ok || err != nil || !bytes.Equal(d.Message.Payload, bytes.Repeat([]byte{byte(i)}, 5000)) {
				t.Fatalf("message %d: got %v, %v", i, ok, err)
			}
		}
		none(t, session)
		var state []string
		j.Range("", func(key string, value []byte) bool {
			state = append(state, fmt.Sprintf("%s=%x", key, value))
			return true
		})
		if got, want := strings.Join(state, " "), "gateway/seq=07 k=76 session/client-1=0102"; got != want {
			t.Errorf("state: got %s, want %s", got, want)
		}
		retained := map[string]string{}
		j.RangeRetained(func(m *broker.Message, _ Time) bool {
			retained[m.Topic] = string(m.Payload)
			return true
		})
		if len(retained) != 2 || retained["keep/a"] != "kept" || retained["keep/b"] != "kept too" {
			t.Errorf("retained: %v", retained)
		}
		closeJournal(t, j)
	}
}

// formerLosses: version 1 had lost nothing, version 2 two ranges, which had no numbers yet.
func formerLosses(t *testing.T, j *Journal, version int) {
	t.Helper()
	got := j.Losses()
	for i := range got {
		got[i].Time = time.Time{}
	}
	if version == 1 {
		if len(got) > 0 {
			t.Fatalf("losses %+v", got)
		}
		return
	}
	want := []Loss{
		{ID: 1, News: 1, Reader: "limited", First: 1, Last: 40, Count: 40, Reason: ReasonBacklog},
		{ID: 2, News: 2, Reader: "limited", First: 92, Last: 141, Count: 39, Reason: ReasonBacklog},
	}
	if !slices.Equal(got, want) {
		t.Fatalf("losses\n%+v, want\n%+v", got, want)
	}
	if r := reader(t, j, "limited"); r.Depth() != 81 {
		t.Fatalf("depth %d, want 81", r.Depth())
	}
}

// TestNewerFormat leaves a journal of a later version as it is, and says what to do.
func TestNewerFormat(t *testing.T) {
	for name, change := range map[string]func(name string, b []byte){
		"segment": func(name string, b []byte) {
			if filepath.Ext(name) == segSuffix {
				for _, at := range []int{0, headerCopy} {
					binary.LittleEndian.PutUint32(b[at+8:], version+1)
					binary.LittleEndian.PutUint32(b[at+headerCRC:], crc32.Checksum(b[at:at+headerCRC], castagnoli))
				}
			}
		},
		"snapshot": func(name string, b []byte) {
			if filepath.Ext(name) == snapSuffix {
				b[7]++
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			j := open(t, dir, nil)
			publish(t, j, 0, 10, reader(t, j, "a"))
			housekept(t, j, func() bool { // a checkpoint on its way would not have its name yet
				j.mu.Lock()
				defer j.mu.Unlock()
				return len(j.checkpoints.kept) > 0 && !j.checkpoints.due(j.segments, 1)
			})
			dir = crash(t, dir)
			closeJournal(t, j)
			before := map[string]string{}
			files, _ := filepath.Glob(filepath.Join(dir, "*"))
			for _, f := range files {
				if name == "segment" && filepath.Ext(f) == snapSuffix {
					os.Remove(f)
					continue
				}
				b, err := os.ReadFile(f)
				if err != nil {
					t.Fatal(err)
				}
				if len(b) > headerSize || filepath.Ext(f) == snapSuffix {
					change(f, b)
				}
				if err := os.WriteFile(f, b, 0o600); err != nil {
					t.Fatal(err)
				}
				if filepath.Base(f) != lockName {
					before[f] = string(b)
				}
			}
			d, err := NewDirFS(dir)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := Open(Options{FS: d}); err == nil || !strings.Contains(err.Error(), "newer holdfast: install that version again") {
				t.Errorf("got %v, want what to do", err)
			}
			for f, want := range before {
				if got, err := os.ReadFile(f); string(got) != want {
					t.Errorf("%s has changed: %v", f, err)
				}
			}
		})
	}
}

// TestGoldenBytes freezes the format: a change of these bytes needs another version.
func TestGoldenBytes(t *testing.T) {
	s := &segment{header: header{
		salt: 0x01020304, id: 7, base: 1000, previous: 6, previousEnd: 8192, previousNext: 999,
		clock:  clockReading{wall: 1_764_000_000_000_000_000, boot: 60_000_000_000, synced: true},
		bootID: [16]byte{0: 0xb0, 15: 0x0f},
	}}
	r := newReader(&Journal{}, "bridge/cloud", 3, 1000)
	r.reg.priority, r.reg.lost = 2, map[string]uint64{ReasonSize: 40}
	b := newBatch()
	boot := s.clock.boot
	add := func(e Entry, seq uint64) {
		boot += 5e6
		b.add(&e, e.size(), seq, boot)
	}
	add(Entry{Changes: []Change{r.reg.change(r.id), {Key: "session/a", Value: []byte{1}}, {Key: "session/b"}}}, 1000)
	add(Entry{
		Message: &broker.Message{Topic: "t/1", Payload: []byte("21.5"), QoS: 1},
		Owed:    []Owed{{Reader: r, QoS: 1}},
	}, 1000)
	add(Entry{
		Message: &broker.Message{
			Topic: "t/2", Payload: []byte("on"), QoS: 2, Retain: true, Expires: true, Expiry: 300, Properties: []byte{1, 1},
		},
		Owed: []Owed{{Reader: r, QoS: 2, Retain: true}}, Retained: true, Changes: []Change{{Key: "gateway/seq", Value: []byte{9}}},
	}, 1001)
	a := ackState{settled: 5, handed: 1002, top: 1001, unacked: []uint64{990, 999}}
	b.frame(kindAck, 1002, boot, appendAck(beginFrame(b.buf), 3, &a))
	l := Loss{
		ID: 2, News: 3, Reader: "bridge/cloud",
		First: 900, Last: 950, Count: 40, Reason: ReasonSize, Time: time.Unix(1_764_000_000, 5), Numbers: Numbers{300, 345, 38},
	}
	b.frame(kindLoss, 1002, boot, appendLossRecord(beginFrame(b.buf), 3, &l, &a))
	b.frame(kindClock, 1002, boot, appendClock(beginFrame(b.buf), clockReading{wall: 1_764_000_100_000_000_000, boot: boot}))
	b.seal(s)
	golden(t, "header", s.encode()[:headerUsed])
	golden(t, "batch", b.buf[headerSize:])

	j := &Journal{
		queue:   queue{nextSeq: 1002},
		figures: figures{before: Ledger{Since: time.Unix(1_760_000_000, 0), Bytes: 123456, Syncs: 78}},
		readers: registry{byName: map[string]*Reader{}, byID: map[uint64]*Reader{3: r}, nextID: 4},
		state: state{keys: map[string][]byte{"session/a": {1}}, retained: map[string]retained{"t/2": {
			message: &broker.Message{Topic: "t/2", Payload: []byte("on"), QoS: 2, Retain: true},
			time:    Time{Wall: time.Unix(1_764_000_000, 0), Boot: time.Minute, Synced: true},
		}}},
		segments: segmentList{s},
		losses:   lossList{ranges: []Loss{l}, news: 3},
	}
	s.end, s.next, s.wall, s.owed = 4608, 1002, 1_764_000_000_000_000_000, map[uint64]owedIn{3: {2, 1001, 96}}
	r.backlog.owed, r.backlog.tail, r.reg.durable = 7, 1002, a
	golden(t, "snapshot", snapshotBytes(j))
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", name+".hex")
	text := hex.Dump(got)
	if *update {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if text != string(want) {
		t.Errorf("%s: got\n%swant\n%s", name, text, want)
	}
}
