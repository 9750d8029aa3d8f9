package journal

import (
	"fmt"
	"testing"

	"holdfast/broker"
)

// TestHeld: Held returns what publishers have in the log while space is short, also in compacted segments, and 0
// when it was dropped or acknowledged; names are bounded.
func TestHeld(t *testing.T) {
	var s segment
	for i := range 10 * mostPublishers {
		s.noteFrom(fmt.Sprint(i), 1)
		s.noteFrom("much", 100)
	}
	if len(s.from) != mostPublishers || s.from["much"] != 1000*mostPublishers {
		t.Errorf("%d names, %d bytes of the one with the most", len(s.from), s.from["much"])
	}
	a, b := &segment{end: 1000, from: map[string]int64{"x": 800}}, &segment{end: 1000, from: map[string]int64{"x": 200, "y": 400}}
	m := &segment{end: 1000}
	m.compactFrom(a, b)
	if m.from["x"] != 500 || m.from["y"] != 200 {
		t.Errorf("compacted: %v", m.from)
	}

	fs, err := NewDirFS(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	j, err := Open(Options{FS: fs, MaxSize: 2 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	r, err := j.OpenReader("r")
	if err != nil {
		t.Fatal(err)
	}
	put := func(from string, size int) {
		done := make(chan error, 1)
		err := j.Append(Entry{Message: &broker.Message{Topic: "t", Payload: make([]byte, size), QoS: 1}, Owed: []Owed{{Reader: r, QoS: 1}}, From: from,
			Done: completed(func(err error) { done <- err })})
		if err != nil || <-done != nil {
			t.Fatal(err)
		}
	}
	put("a", 10_000)
	if n := j.Held("a"); n != 0 {
		t.Errorf("%d bytes, although space is not short", n)
	}
	for range 100 {
		put("b", 10_000)
	}
	if n := j.Held("b"); n < 1_000_000 || n > 1_100_000 {
		t.Errorf("%d bytes of b, want those of 100 messages", n)
	}
	if a, c := j.Held("a"), j.Held("c"); a < 10_000 || a > 11_000 || c != 0 {
		t.Errorf("%d bytes of a, %d of c", a, c)
	}
	for range 400 { // the oldest are dropped
		put("c", 10_000)
	}
	if a, b, c := j.Held("a"), j.Held("b"), j.Held("c"); a != 0 || b > 300_000 || c < 500_000 {
		t.Errorf("a %d, b %d, c %d bytes", a, b, c)
	}
}

type completed func(error)

func (f completed) Committed(_ *Entry, _ uint64, err error) { f(err) }
