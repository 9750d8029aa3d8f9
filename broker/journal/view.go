package journal

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// View is a journal as it stood at one moment, for looking at it without taking it: no lock, no
// write, beside a running process that goes on appending, dropping and recycling. It is recovered by
// the code that opens a journal, so it shows what the next Open will find.
//
// What was acknowledged since the last commit still shows as waiting: it is not on disk yet.
// A View holds state and retained messages in memory, as the journal itself does, and no backlog.
type View struct {
	j      *Journal
	dir    *DirFS
	r      *recovered
	holder int // pid of the process that has the journal open, 0 without
	files  []FileInfo

	// Progress, if set, is called during long reads with the bytes that are done of a total.
	Progress func(done, total int64)
	// Recycled counts segments that a running process took out of the log while they were read.
	Recycled int
}

// viewTries is how often a directory that changes under the view is read again.
const viewTries = 20

// Inspect looks at the journal in dir. It fails if there is none, or none that this user can read.
func Inspect(dir string) (*View, error) {
	if err := checkJournalDir(dir); err != nil {
		return nil, err
	}
	return inspect(&DirFS{dir})
}

func inspect(d *DirFS) (*View, error) {
	var v *View
	for range viewTries {
		before, err := d.List()
		if err != nil {
			return nil, fmt.Errorf("journal: %w", err)
		}
		v = &View{j: newView(viewFS{d}), dir: d, holder: lockHolder(d.dir), files: before}
		if v.r, err = v.j.recover(v.j.readStart()); err != nil {
			return nil, fmt.Errorf("journal: %s: %w", d.dir, err)
		}
		after, err := d.List()
		if err != nil {
			return nil, fmt.Errorf("journal: %w", err)
		}
		// Damage that shows while a process writes may be a file that was renamed or half written.
		if sameNames(before, after) && (v.holder == 0 || len(v.j.recovery.Aside) == 0) {
			return v, nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	if len(v.j.recovery.Aside) > 0 { // at every try
		return v, nil
	}
	return nil, fmt.Errorf("journal: %s: files change faster than they can be read: try again under less load", d.dir)
}

// Records calls f for the records that are on disk, as View.Records does, beside the journal that goes on. It takes
// no memory beside a buffer: the readers of a message are numbers, and none of them waits.
func (j *Journal) Records(sel Select, f func(*Record) error) error {
	v := &View{j: newView(j.fs), holder: os.Getpid()}
	j.mu.Lock()
	for _, s := range j.segments {
		v.j.segments = append(v.j.segments, &segment{header: s.header, end: s.end, next: s.next, earlier: s.earlier})
	}
	j.mu.Unlock()
	return v.Records(sel, f)
}

// newView returns a journal in memory that nothing runs in.
func newView(f FS) *Journal {
	opts := Options{FS: f}
	if v, ok := f.(viewFS); ok {
		opts.Beside = viewFS{&DirFS{filepath.Dir(filepath.Clean(v.dir))}}
	}
	opts.setDefaults()
	return newJournal(opts)
}

// checkJournalDir returns an error with the remedy if dir is no journal.
func checkJournalDir(dir string) error {
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("journal: %s: no such directory: name the data_dir of a gateway that has run", dir)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("journal: %s: permission denied: call as the user that the gateway runs as, or as root", dir)
	case err != nil:
		return fmt.Errorf("journal: %w", err)
	case !info.IsDir():
		return fmt.Errorf("journal: %s: is no directory: name the data_dir of a gateway", dir)
	}
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("journal: %s: permission denied: call as the user that the gateway runs as, or as root", dir)
	}
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	for _, e := range entries {
		_, seg := parseName(e.Name(), segSuffix)
		_, snap := parseName(e.Name(), snapSuffix)
		if seg || snap || e.Name() == lockName || strings.HasSuffix(e.Name(), quarantineSuffix) {
			return nil
		}
	}
	return fmt.Errorf("journal: %s: holds no journal: name the data_dir of a gateway that has run", dir)
}

func sameNames(a, b []FileInfo) bool {
	names := func(fs []FileInfo) (n []string) {
		for _, f := range fs {
			n = append(n, f.Name)
		}
		slices.Sort(n)
		return n
	}
	return slices.Equal(names(a), names(b))
}

// viewFS is a directory that is only read. What recovery would rename or remove stays.
type viewFS struct{ *DirFS }

func (v viewFS) Open(name string, write bool) (File, error) {
	if write {
		return nil, &fs.PathError{Op: "open", Path: name, Err: syscall.EROFS}
	}
	return v.DirFS.Open(name, false)
}

func (viewFS) Rename(string, string) error { return nil }
func (viewFS) Remove(string) error         { return nil }
func (viewFS) SyncDir() error              { return nil }

// lockHolder returns the process that has the journal in dir open, 0 if none has. Trying the lock
// would for a moment keep a gateway from starting, so the kernel is asked (proc_locks(5)).
func lockHolder(dir string) int {
	info, err := os.Stat(filepath.Join(dir, lockName))
	if err != nil {
		return 0
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0
	}
	locks, err := os.ReadFile("/proc/locks")
	if err != nil {
		return 0
	}
	inode := ":" + strconv.FormatUint(st.Ino, 10)
	for sc := bufio.NewScanner(bytes.NewReader(locks)); sc.Scan(); {
		f := strings.Fields(sc.Text()) // 1: FLOCK  ADVISORY  WRITE 1234 08:01:5678 0 EOF
		if len(f) >= 6 && f[1] == "FLOCK" && strings.HasSuffix(f[5], inode) {
			pid, _ := strconv.Atoi(f[4])
			return pid
		}
	}
	return 0
}

// Losses returns what was dropped, oldest first.
func (v *View) Losses() []Loss { return v.j.Losses() }

// Range is Journal.Range.
func (v *View) Range(prefix string, f func(key string, value []byte) bool) { v.j.Range(prefix, f) }

// Readers returns all readers, by name.
func (v *View) Readers() []ReaderInfo { return v.j.Readers() }

// Holder is the process that has the journal open, 0 if none has.
func (v *View) Holder() int { return v.holder }

func (v *View) total(segments []*segment) (n int64) {
	for _, s := range segments {
		n += s.end
	}
	return n
}

func (v *View) progress(done, total int64) {
	if v.Progress != nil {
		v.Progress(done, total)
	}
}

// openSegment opens the file of s, and returns false if it holds something else by now.
func (v *View) openSegment(s *segment) (File, bool, error) {
	f, err := v.j.fs.Open(s.name(), false)
	if errors.Is(err, fs.ErrNotExist) && v.holder != 0 {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	if !v.still(f, s) {
		f.Close()
		return nil, false, nil
	}
	return f, true, nil
}

// still reports whether the file of s still holds it: a running process may have given it to another
// segment. A header that cannot be read does not count as that.
func (v *View) still(f io.ReaderAt, s *segment) bool {
	if v.holder == 0 {
		return true
	}
	b := make([]byte, headerSize)
	if _, err := f.ReadAt(b, 0); err != nil {
		return true // damage, which the caller will meet
	}
	h, err := decodeHeader(b)
	return err != nil || h.salt == s.salt && h.id == s.id
}
