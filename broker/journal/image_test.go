package journal

import (
	"bytes"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"testing"

	"holdfast/broker"
)

// snapshotBytes is a checkpoint as it stands in its file.
func snapshotBytes(j *Journal) (b []byte) {
	m, _ := j.encodeSnapshot()
	m.seal()
	_ = m.parts(func(part []byte) error { b = append(b, part...); return nil })
	return b
}

// muchState is a journal with 12 MiB of state and retained messages, of all lengths around those that are treated
// differently.
func muchState(t *testing.T) *Journal {
	d, err := NewDirFS(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	j := newView(d)
	for i, n := range []int{0, 1, longString - 1, longString, longString + 1, writeBuffer, 3*writeBuffer + 1} {
		j.state.set(fmt.Sprint("n/", i, strings.Repeat("k", n)), bytes.Repeat([]byte{byte(i)}, n))
	}
	for i := range 1000 {
		j.state.set(fmt.Sprint("k/", i, strings.Repeat("k", 1000)), bytes.Repeat([]byte{byte(i)}, 7000))
	}
	for i := range 40 {
		m := &broker.Message{Topic: fmt.Sprint("t/", i), Payload: bytes.Repeat([]byte{byte(i)}, i*i*60+1), Retain: true, Properties: bytes.Repeat([]byte{1}, i*100)}
		j.state.retain(m, Time{}, nil)
	}
	return j
}

// TestSnapshotTakesLittleMemory: the writing of a checkpoint takes no memory for what it holds, nothing of a
// checkpoint stays when it has been read, and all of it is what it was.
func TestSnapshotTakesLittleMemory(t *testing.T) {
	j := muchState(t)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if err := j.writeSnapshot(1); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	size := j.checkpoints.size.Load()
	if took := int64(after.TotalAlloc - before.TotalAlloc); size < 8<<20 || took > size/8 {
		t.Errorf("a snapshot of %d bytes took %d", size, took)
	}
	b, err := j.readFile(snapshotName(1))
	if err != nil || int64(len(b)) != size || int64(cap(b)) > size+4096 {
		t.Fatalf("got %d bytes in %d, %v, want %d", len(b), cap(b), err, size)
	}
	read := newView(j.fs)
	if _, err := read.decodeSnapshot(b); err != nil {
		t.Fatal(err)
	}
	clear(b)
	if !maps.EqualFunc(read.state.keys, j.state.keys, func(x, y []byte) bool { return bytes.Equal(x, y) && (x == nil) == (y == nil) }) {
		t.Error("the state is another one")
	}
	if !maps.EqualFunc(read.state.retained, j.state.retained, func(x, y retained) bool {
		return bytes.Equal(x.message.Payload, y.message.Payload) && bytes.Equal(x.message.Properties, y.message.Properties) && x.message.Topic == y.message.Topic
	}) {
		t.Error("the retained messages are others")
	}
}

// TestRecords: a journal that runs reads its own records as a view of it does, and knows no readers.
func TestRecords(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, nil)
	defer closeJournal(t, j)
	for i := range 300 {
		w := &waiter{}
		w.wg.Add(1)
		e := Entry{Message: &broker.Message{Topic: fmt.Sprint("t/", i), Payload: make([]byte, 1000), QoS: 1}, Done: w}
		if err := j.Append(e); err != nil {
			t.Fatal(err)
		}
		w.wg.Wait()
	}
	v, err := Inspect(dir)
	if err != nil {
		t.Fatal(err)
	}
	list := func(records func(Select, func(*Record) error) error) (all []string) {
		if err := records(Select{From: 20, To: 250}, func(r *Record) error {
			if r.Message != nil {
				all = append(all, fmt.Sprint(r.Segment, r.Offset, r.Seq, r.Message.Topic, len(r.Message.Payload), r.Time.Boot))
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		return all
	}
	if got, want := list(j.Records), list(v.Records); len(want) != 231 || !slices.Equal(got, want) {
		t.Errorf("got %d records, want the %d of a view", len(got), len(want))
	}
}
