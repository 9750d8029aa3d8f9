package journal

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"holdfast/broker"
)

// TestStateIsBounded: clients' keys are refused at the state's share of the size, with an error of their own, while
// keys are replaced and deleted, the gateway's own are taken, and messages go on. The size is counted the same after
// a restart, and the files stay within the size.
func TestStateIsBounded(t *testing.T) {
	dir, err := NewDirFS(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	open := func() *Journal {
		j, err := Open(Options{FS: dir, MaxSize: 4 << 20})
		if err != nil {
			t.Fatal(err)
		}
		return j
	}
	j := open()
	done := make(stateWaiter, 1)
	set := func(limited bool, key string, value []byte) error {
		err := j.Append(Entry{Changes: []Change{{key, value}}, Limited: limited, Done: done})
		if err == nil {
			err = <-done
		}
		return err
	}
	long := strings.Repeat("k", 900)
	n := 0
	for ; err == nil; n++ {
		err = set(true, fmt.Sprint(long, n), []byte{1})
	}
	if n--; !errors.Is(err, ErrState) {
		t.Fatalf("key %d: got %v, want %v", n, err, ErrState)
	}
	check := func() {
		t.Helper()
		s := j.Stats()
		if s.StateKeys != n || s.StateSize > j.opts.MaxState || s.StateSize < j.opts.MaxState*9/10 {
			t.Errorf("%d keys of %d bytes, want %d of almost %d", s.StateKeys, s.StateSize, n, j.opts.MaxState)
		}
		files, err := dir.List()
		if err != nil {
			t.Fatal(err)
		}
		var size int64
		for _, f := range files {
			size += f.Size
		}
		if most := j.opts.MaxSize + 3*j.opts.MaxState; size > most {
			t.Errorf("%d bytes on disk, want at most %d", size, most)
		}
	}
	check()
	if got := j.Stats().StateFull; got != 1 {
		t.Errorf("%d refusals are counted, want 1", got)
	}
	big := []Change{{Key: "big", Value: make([]byte, j.opts.maxBatch())}}
	if err := j.Append(Entry{Changes: big, Limited: true}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("changes larger than a commit: got %v, want %v", err, ErrTooLarge)
	}
	for _, c := range []struct {
		what    string
		limited bool
		key     string
		value   []byte
		want    error
	}{
		{"replaced", true, long + "0", []byte{2}, nil},
		{"the gateway's own", false, "own", []byte{1}, nil},
		{"deleted", false, "own", nil, nil},
		{"another", true, long + "x", []byte{}, ErrState},
		{"deleted by a client", true, long + "1", nil, nil},
		{"in its place", true, long + "y", []byte{1}, nil},
		{"one more", true, long + "z", []byte{1}, ErrState},
	} {
		if err := set(c.limited, c.key, c.value); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", c.what, err, c.want)
		}
	}
	r, err := j.OpenReader("r")
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Append(Entry{Message: &broker.Message{Topic: "t", QoS: 1}, Owed: []Owed{{Reader: r, QoS: 1}}, Done: done}); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		j = open()
		check()
		if err := set(true, long+"z", []byte{1}); !errors.Is(err, ErrState) {
			t.Errorf("after a restart: got %v, want %v", err, ErrState)
		}
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
}

type stateWaiter chan error

func (w stateWaiter) Committed(_ *Entry, _ uint64, err error) { w <- err }
