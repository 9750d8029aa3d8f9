package journal

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

// staleTailFS is a directory in which the first sync of the first segment fails when the next one is ready,
// although the disk has all of it, and where that segment's file is not used again before released.
type staleTailFS struct {
	*DirFS
	failed   sync.Once
	second   chan struct{} // closed when the second segment's file is there
	released chan struct{}
}

type staleTailFile struct {
	File
	fs *staleTailFS
}

func (g *staleTailFS) Open(name string, write bool) (File, error) {
	f, err := g.DirFS.Open(name, write)
	if err != nil || !write {
		return f, err
	}
	switch name {
	case segmentName(1):
		return staleTailFile{f, g}, nil
	case segmentName(2):
		close(g.second)
	}
	return f, nil
}

func (g *staleTailFS) Rename(oldName, newName string) error {
	if oldName == segmentName(1) {
		<-g.released
	}
	return g.DirFS.Rename(oldName, newName)
}

func (f staleTailFile) Datasync() (err error) {
	f.fs.failed.Do(func() {
		<-f.fs.second
		err = errors.New("injected")
	})
	return err
}

// TestCrashStaleTail cuts the power when a batch stands in two files: the first one's sync has failed. It must
// not be found twice.
func TestCrashStaleTail(t *testing.T) {
	dir := t.TempDir()
	d, err := NewDirFS(dir)
	if err != nil {
		t.Fatal(err)
	}
	g := &staleTailFS{DirFS: d, second: make(chan struct{}), released: make(chan struct{})}
	j, err := Open(Options{FS: g})
	if err != nil {
		t.Fatal(err)
	}
	publish(t, j, 0, 5, reader(t, j, "a"))
	copied := t.TempDir()
	for _, id := range []uint64{1, 2} { // without a checkpoint, which would know better
		b, err := os.ReadFile(filepath.Join(dir, segmentName(id)))
		if err == nil {
			err = os.WriteFile(filepath.Join(copied, segmentName(id)), b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	close(g.released)
	closeJournal(t, j)
	j = open(t, copied, nil)
	defer closeJournal(t, j)
	r := reader(t, j, "a")
	if got := r.Depth(); got != 5 {
		t.Errorf("depth: got %d, want 5", got)
	}
	r.Attach()
	expect(t, r, 0, 5, true)
	none(t, r)
	if rec := j.Recovery(); rec.Damaged > 0 || len(rec.Aside) > 0 || len(j.Losses()) > 0 {
		t.Errorf("recovery %+v, losses %+v", rec, j.Losses())
	}
}
