package journal_test

import (
	"sync/atomic"
	"testing"
	"time"

	"holdfast/broker/brokertest"
	"holdfast/broker/journal"
)

// setClock is a clock of the journal that is set by hand. Its boot time stands still.
type setClock struct{ wall atomic.Int64 }

func (*setClock) BootID() [16]byte      { return [16]byte{1} }
func (*setClock) Boot() time.Duration   { return time.Hour }
func (c *setClock) Wall() (int64, bool) { return c.wall.Load(), false }

// TestDateOfMessages: a message that came while the clock was wrong was taken as long ago as boot time has it.
func TestDateOfMessages(t *testing.T) {
	clock := &setClock{}
	fs, err := journal.NewDirFS(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	j, err := journal.Open(journal.Options{FS: fs, Clock: clock})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	for _, step := range brokertest.Steps() {
		now := time.Now()
		clock.wall.Store(now.Add(-step).UnixNano())
		if d := j.Date(j.Now()).Sub(now).Abs(); d > time.Minute { // of a slow machine
			t.Errorf("by a clock that was stepped by %v since: got %v from now, want now", step, d)
		}
	}
}
