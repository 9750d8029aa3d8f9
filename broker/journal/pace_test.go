package journal

import (
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// slowFS is a disk in memory of which some calls take long.
type slowFS struct {
	*memFS
	at   string // the call: a method's name
	long atomic.Int64
}

func (s *slowFS) wait(call string) {
	if call == s.at {
		time.Sleep(time.Duration(s.long.Load()))
	}
}

func (s *slowFS) Open(name string, write bool) (File, error) {
	if write && strings.HasSuffix(name, segSuffix) {
		s.wait("Open")
	}
	f, err := s.memFS.Open(name, write)
	return slowFile{f, s, strings.HasSuffix(name, segSuffix)}, err
}

type slowFile struct {
	File
	fs      *slowFS
	segment bool
}

func (f slowFile) Datasync() error {
	if f.segment {
		f.fs.wait("Datasync")
	}
	return f.File.Datasync()
}

func (f slowFile) WriteAt(b []byte, at int64) (int, error) {
	if f.segment {
		f.fs.wait("WriteAt")
	}
	return f.File.WriteAt(b, at)
}

// slowDone is a Completer that takes long.
type slowDone struct{ fs *slowFS }

func (s slowDone) Committed(*Entry, uint64, error) { s.fs.wait("Committed") }

// TestStalled: a journal that stands still is seen from outside, and for how long, without a lock that may be held;
// one that is slow is not, nor one that has nothing to do.
func TestStalled(t *testing.T) {
	for _, at := range []string{"Datasync", "WriteAt", "Committed"} {
		t.Run(at, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				fs := &slowFS{memFS: &memFS{files: map[string]*memFile{}}, at: at}
				j, err := Open(Options{FS: fs})
				if err != nil {
					t.Fatal(err)
				}
				append1 := func(n int) {
					if err := j.Append(Entry{Message: message(n), Owed: []Owed{{Reader: reader(t, j, "a"), QoS: 1}}, Done: slowDone{fs}}); err != nil {
						t.Fatal(err)
					}
				}
				append1(0)
				time.Sleep(time.Hour)
				if got := j.Stalled(); got != 0 {
					t.Errorf("with nothing to do: %v", got)
				}
				fs.long.Store(int64(3 * time.Second)) // slow, and going on
				for n := range 10 {
					append1(1 + n)
					time.Sleep(time.Second)
					if got := j.Stalled(); got > 7*time.Second {
						t.Fatalf("slow: %v at message %d", got, n)
					}
				}
				time.Sleep(time.Minute)
				if got := j.Stalled(); got != 0 {
					t.Errorf("when all is done: %v", got)
				}
				fs.long.Store(int64(100 * time.Second))
				append1(100)
				for _, seconds := range []time.Duration{9, 20, 30} {
					time.Sleep(seconds*time.Second - j.Stalled())
					append1(101) // what comes meanwhile does not hide it
					synctest.Wait()
					if got := j.Stalled(); got < seconds*time.Second-time.Second/10 || got > (seconds+1)*time.Second {
						t.Errorf("got %v, want %ds", got, seconds)
					}
					if _, ok := j.StatsNow(); !ok {
						t.Error("it does not tell its figures, though nothing holds its lock")
					}
				}
				fs.long.Store(0)
				time.Sleep(10 * time.Minute)
				if got := j.Stalled(); got != 0 {
					t.Errorf("when it goes on: %v", got)
				}
				if err := j.Close(); err != nil {
					t.Fatal(err)
				}
			})
		})
	}
}

// TestStatsNow: while something holds the journal's lock StatsNow returns false.
func TestStatsNow(t *testing.T) {
	j := open(t, t.TempDir(), nil)
	defer closeJournal(t, j)
	j.mu.Lock()
	_, ok := j.StatsNow()
	j.mu.Unlock()
	if ok {
		t.Error("an answer, though something holds the lock")
	}
	if _, ok := j.StatsNow(); !ok {
		t.Error("no answer, though nothing holds the lock")
	}
}
