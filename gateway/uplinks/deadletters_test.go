package uplinks

import (
	"log/slog"
	"testing"

	"holdfast/broker"
	"holdfast/broker/journal"
)

// TestADeadLetterIsWrittenOnce: a process that ends between keeping a refused message and giving it up leaves one
// letter of it, although the message is refused again by the next process.
func TestADeadLetterIsWrittenOnce(t *testing.T) {
	dir := t.TempDir()
	const bridge = "cloud"
	open := func() (*journal.Journal, *journal.Reader, *deadLetters) {
		t.Helper()
		fs, err := journal.NewDirFS(dir)
		if err != nil {
			t.Fatal(err)
		}
		j, err := journal.Open(journal.Options{FS: fs})
		if err != nil {
			t.Fatal(err)
		}
		r, err := j.OpenReader(bridgeReader + bridge)
		if err != nil {
			t.Fatal(err)
		}
		r.Attach()
		return j, r, &deadLetters{journal: j, limit: 1 << 20, log: slog.New(slog.DiscardHandler)}
	}
	keep := func(r *journal.Reader, l *deadLetters) journal.Delivery {
		t.Helper()
		d, ok, err := r.TryNext()
		if !ok || err != nil {
			t.Fatal(ok, err)
		}
		if err := l.keep(bridge, &d, "no"); err != nil {
			t.Fatal(err)
		}
		return d
	}
	letters := func(j *journal.Journal, want uint64) {
		t.Helper()
		for _, r := range j.Readers() {
			if r.Name == DeadReader && r.Depth != want {
				t.Errorf("%d letters, want %d", r.Depth, want)
			}
		}
	}
	j, r, l := open()
	for range 3 {
		m := &broker.Message{Topic: "t", QoS: 1}
		if err := j.AppendDurable(t.Context(), journal.Entry{Message: m, Owed: []journal.Owed{{Reader: r, QoS: 1}}}); err != nil {
			t.Fatal(err)
		}
	}
	d := keep(r, l)
	r.Drop(&d, journal.ReasonRefused)
	keep(r, l) // and the process ends
	letters(j, 2)
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	j, r, l = open()
	if d := keep(r, l); d.Seq != 2 {
		t.Errorf("got message %d, want the second again", d.Seq)
	}
	letters(j, 2)
	keep(r, l) // another one
	letters(j, 3)
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
}
