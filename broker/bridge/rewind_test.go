package bridge

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"holdfast/broker"
	"holdfast/broker/journal"
	"holdfast/broker/outbox"
)

// markedJournal is a journal whose messages get the marks of one bridge.
type markedJournal struct {
	t    *testing.T
	dir  string
	j    *journal.Journal
	mark marker
}

func (m *markedJournal) open() {
	m.t.Helper()
	beside, err := journal.NewDirFS(m.dir)
	if err != nil {
		m.t.Fatal(err)
	}
	fs, err := journal.NewDirFS(filepath.Join(m.dir, "journal"))
	if err != nil {
		m.t.Fatal(err)
	}
	if m.j, err = journal.Open(journal.Options{FS: fs, Beside: beside, MaxSize: 2 << 20}); err != nil {
		m.t.Fatal(err)
	}
	m.mark = marker{}
	m.mark.init(&Options{Options: outbox.Options{Name: "up"}, Origin: "gw", Journal: m.j})
}

// markedSeq is a journal.Completer.
type markedSeq chan uint64

func (c markedSeq) Committed(_ *journal.Entry, seq uint64, _ error) { c <- seq }

// publish returns the sequence numbers of n new messages.
func (m *markedJournal) publish(n int) (seqs []uint64) {
	m.t.Helper()
	r, err := m.j.OpenReader("bridge/up")
	if err != nil {
		m.t.Fatal(err)
	}
	done := make(markedSeq, 1)
	for range n {
		err := m.j.Append(journal.Entry{Message: &broker.Message{Topic: "a", QoS: 1}, Owed: []journal.Owed{{Reader: r, QoS: 1}}, Done: done})
		if err != nil {
			m.t.Fatal(err)
		}
		seqs = append(seqs, <-done)
	}
	return seqs
}

func (m *markedJournal) of(seq uint64) string {
	return fmt.Sprintf("%q", m.mark.append(nil, nil, seq))
}

func (m *markedJournal) close() {
	m.t.Helper()
	if err := m.j.Close(); err != nil {
		m.t.Fatal(err)
	}
}

// TestMarksOfARewoundJournal: a message that is sent again after a restart has its mark, and a new one of a journal
// that was copied back, with or without the file beside it, or whose segments are zeros, has none that was used before.
func TestMarksOfARewoundJournal(t *testing.T) {
	for _, damage := range []string{"journal copied back", "all copied back", "segments of zeros"} {
		t.Run(damage, func(t *testing.T) {
			m := &markedJournal{t: t, dir: t.TempDir()}
			m.open()
			used := map[string]uint64{}
			for _, seq := range m.publish(5) {
				used[m.of(seq)] = seq
			}
			m.close()
			old := t.TempDir()
			if err := os.CopyFS(old, os.DirFS(m.dir)); err != nil {
				t.Fatal(err)
			}

			m.open()
			for mark, seq := range used {
				if got := m.of(seq); got != mark {
					t.Errorf("message %d is sent again as %s, was %s", seq, got, mark)
				}
			}
			for _, seq := range m.publish(20) {
				used[m.of(seq)] = seq
			}
			m.close()
			if len(used) != 25 {
				t.Fatalf("%d marks of 25 messages", len(used))
			}

			var err error
			switch damage {
			case "segments of zeros":
				files, globErr := filepath.Glob(filepath.Join(m.dir, "journal", "*.seg"))
				if err = globErr; err == nil && len(files) == 0 {
					t.Fatal("no segments")
				}
				for _, file := range files {
					var info os.FileInfo
					if info, err = os.Stat(file); err == nil {
						err = os.WriteFile(file, make([]byte, info.Size()), 0o600)
					}
				}
			default:
				if damage == "all copied back" {
					err = os.RemoveAll(m.dir)
				} else {
					err = os.RemoveAll(filepath.Join(m.dir, "journal"))
				}
				if err == nil && damage == "all copied back" {
					err = os.CopyFS(m.dir, os.DirFS(old))
				} else if err == nil {
					err = os.CopyFS(filepath.Join(m.dir, "journal"), os.DirFS(filepath.Join(old, "journal")))
				}
			}
			if err != nil {
				t.Fatal(err)
			}
			m.open()
			defer m.close()
			for _, seq := range m.publish(30) {
				if was, ok := used[m.of(seq)]; ok {
					t.Errorf("new message %d has the mark of the earlier message %d", seq, was)
				}
			}
		})
	}
}

// TestIdentifiersOfARewoundJournal: by which identifiers the upstream may send again what came is known over a restart,
// and not in a journal that was copied back: the upstream may have used them for other messages since.
func TestIdentifiersOfARewoundJournal(t *testing.T) {
	m := &markedJournal{t: t, dir: t.TempDir()}
	known := func() int {
		return len(newInbound(&Bridge{opts: Options{Options: outbox.Options{Name: "up"}, Journal: m.j}}).unconfirmed)
	}
	m.open()
	in := newInbound(&Bridge{opts: Options{Options: outbox.Options{Name: "up"}, Journal: m.j}})
	in.save([]journal.Change{in.unconfirmedChange(7, &arrival{hash: 1}), {Key: in.unconfirmedKey(8), Value: make([]byte, 8)}}) // 8 of an earlier version
	m.close()
	old := t.TempDir()
	if err := os.CopyFS(old, os.DirFS(filepath.Join(m.dir, "journal"))); err != nil {
		t.Fatal(err)
	}
	m.open()
	if n := known(); n != 2 {
		t.Errorf("after a restart: %d identifiers, want 2", n)
	}
	m.publish(1)
	m.close()
	if err := os.RemoveAll(filepath.Join(m.dir, "journal")); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(filepath.Join(m.dir, "journal"), os.DirFS(old)); err != nil {
		t.Fatal(err)
	}
	for range 2 { // also at the start after that
		m.open()
		if n := known(); n != 0 {
			t.Errorf("of a journal that was copied back: %d identifiers, want 0", n)
		}
		m.close()
	}
}
