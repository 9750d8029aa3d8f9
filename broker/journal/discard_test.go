package journal

import (
	"slices"
	"testing"
)

// TestDiscardReader: what a discarded reader was owed stands in the ledger, with its reason, now, after a crash and
// after an orderly end; what it had acknowledged does not.
func TestDiscardReader(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, nil)
	gone, empty, other := reader(t, j, "session/gone"), reader(t, j, "session/empty"), reader(t, j, "other")
	publish(t, j, 0, 10, gone, other)
	gone.Attach()
	for range 5 {
		d, ok, err := gone.TryNext()
		if !ok || err != nil {
			t.Fatal(ok, err)
		}
		if d.Seq != 2 {
			gone.Ack(d.Seq)
		}
	}
	gone.Detach()
	for _, r := range []*Reader{gone, empty} {
		if err := j.DiscardReader(r.Name(), "clean_start"); err != nil {
			t.Fatal(err)
		}
	}
	publish(t, j, 10, 11, other) // commits what is lazy
	want := []string{"2-10 6 clean_start 0-0 0"}
	check := func(when string, j *Journal) {
		t.Helper()
		if got := lossesOf(j, "session/gone"); !slices.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", when, got, want)
		}
		if got := lossesOf(j, "session/empty"); got != nil {
			t.Errorf("%s: an empty reader has lost %v", when, got)
		}
		if n := len(j.Readers()); n != 1 {
			t.Errorf("%s: %d readers", when, n)
		}
	}
	check("now", j)
	again := reader(t, j, "session/gone") // another one of the same name is owed nothing
	if n := again.Depth(); n != 0 {
		t.Errorf("the next reader of that name is owed %d messages", n)
	}
	if err := j.RemoveReader("session/gone"); err != nil {
		t.Fatal(err)
	}
	publish(t, j, 11, 12, other)
	copied := crash(t, dir)
	crashed := open(t, copied, nil)
	check("after a crash", crashed)
	closeJournal(t, crashed)
	closeJournal(t, j)
	j = open(t, dir, nil)
	check("after an orderly end", j)
	closeJournal(t, j)
}
