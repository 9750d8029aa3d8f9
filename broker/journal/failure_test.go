package journal_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"holdfast/broker"
	"holdfast/broker/journal"
	"holdfast/broker/journal/simdisk"
)

// outcome waits for one entry.
type outcome chan error

func (o outcome) Committed(_ *journal.Entry, _ uint64, err error) { o <- err }

// put appends one message and returns what became of it.
func put(j *journal.Journal, r *journal.Reader, size int) error {
	done := make(outcome, 1)
	err := j.Append(journal.Entry{
		Message: &broker.Message{Topic: "t", Payload: make([]byte, size), QoS: 1},
		Owed:    []journal.Owed{{Reader: r, QoS: 1}}, Done: done,
	})
	if err != nil {
		return err
	}
	return <-done
}

func openOn(t *testing.T, fsys journal.FS, change func(*journal.Options)) (*journal.Journal, *journal.Reader) {
	t.Helper()
	opts := journal.Options{FS: fsys, MaxSize: 4 << 20}
	if change != nil {
		change(&opts)
	}
	j, err := journal.Open(opts)
	if err != nil {
		t.Fatal(err)
	}
	r, err := j.OpenReader("a")
	if err != nil {
		t.Fatal(err)
	}
	return j, r
}

// count reads everything that a reader is owed, without acknowledging it.
func count(t *testing.T, r *journal.Reader) (n int) {
	t.Helper()
	r.Attach()
	for {
		_, ok, err := r.TryNext()
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			return n
		}
		n++
	}
}

// account returns how many messages a reader still gets and how many were lost. The maintainer may drop some
// while they are counted; then they are counted again.
func account(t *testing.T, j *journal.Journal, r *journal.Reader) (got, lost int) {
	t.Helper()
	sum := func() (n int) {
		for _, l := range j.Losses() {
			n += int(l.Count)
		}
		return n
	}
	for {
		lost = sum()
		got = count(t, r)
		if sum() == lost {
			return got, lost
		}
	}
}

// TestFailures lets storage fail in one way after another. Whatever fails, what was acknowledged is
// there, what was not is refused with an error, and the journal goes on when the storage does.
func TestFailures(t *testing.T) {
	segment := func(op simdisk.Op, name string, want simdisk.Op) bool {
		return op == want && strings.HasSuffix(name, ".seg")
	}
	always := func(want ...simdisk.Op) func(op simdisk.Op, name string) bool {
		return func(op simdisk.Op, name string) bool {
			for _, w := range want {
				if op == w {
					return true
				}
			}
			return false
		}
	}
	for _, test := range []struct {
		name  string
		err   error
		fails func(op simdisk.Op, name string) bool
		times int  // how often it fails; 0 for as long as the failure lasts
		taken bool // whether messages are taken all the same
	}{
		{"one write", syscall.EIO, func(op simdisk.Op, name string) bool { return segment(op, name, simdisk.Write) }, 1, true},
		{"one sync", syscall.EIO, func(op simdisk.Op, name string) bool { return segment(op, name, simdisk.Datasync) }, 1, true},
		{"every write", syscall.EIO, always(simdisk.Write), 0, false},
		{"every sync", syscall.EIO, always(simdisk.Datasync), 0, false},
		{"snapshots", syscall.EIO, func(op simdisk.Op, name string) bool { return strings.Contains(name, ".snap") }, 0, true},
		{"names of files", syscall.EIO, always(simdisk.SyncDir, simdisk.Rename), 0, true}, // as long as a segment is preallocated
		{"no space", syscall.ENOSPC, always(simdisk.Create, simdisk.Allocate, simdisk.Write), 0, false},
		{"read-only", syscall.EROFS, always(simdisk.Create, simdisk.Allocate, simdisk.Write, simdisk.Rename, simdisk.Remove, simdisk.SyncDir), 0, false},
		{"directory gone", syscall.ENOENT, always(simdisk.Open, simdisk.Create, simdisk.Rename, simdisk.SyncDir, simdisk.List, simdisk.Datasync), 0, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			disk := simdisk.New()
			var failing atomic.Bool
			left := test.times
			disk.Fail = func(op simdisk.Op, name string) error { // with the disk's lock held
				if !failing.Load() || !test.fails(op, name) || test.times > 0 && left == 0 {
					return nil
				}
				left--
				return test.err
			}
			j, r := openOn(t, disk, nil)
			want := 0
			for range 20 {
				if err := put(j, r, 100); err != nil {
					t.Fatal(err)
				}
				want++
			}
			failing.Store(true)
			for i := range 3 {
				err := put(j, r, 100)
				switch {
				case err == nil:
					want++
				case !errors.Is(err, journal.ErrFailed) || !errors.Is(err, test.err):
					t.Errorf("message %d: got %v, want ErrFailed and %v", i, err, test.err)
				}
				if (err == nil) != test.taken {
					t.Errorf("message %d: got %v, want taken %v", i, err, test.taken)
				}
			}
			if s := j.Stats(); !test.taken && (!s.Failed || s.Failures == 0) {
				t.Errorf("stats do not tell of it: %+v", s)
			}
			failing.Store(false)
			for range 20 {
				if err := put(j, r, 100); err != nil {
					t.Fatalf("after the failure: %v", err)
				}
				want++
			}
			got, lost := account(t, j, r) // without space, the oldest give way
			if lost > 0 && test.err != syscall.ENOSPC {
				t.Errorf("losses: %+v", j.Losses())
			}
			if got+lost != want {
				t.Errorf("read %d messages and lost %d, want %d", got, lost, want)
			}
			if err := j.Close(); err != nil {
				t.Fatal(err)
			}
			j, r = openOn(t, disk, nil)
			if got, lost := account(t, j, r); got+lost != want {
				t.Errorf("read %d messages after opening again, want %d; losses %v", got, want, j.Losses())
			}
			if err := j.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestFilesGone has the files of segments vanish from under the journal before it uses them again: those that a
// read-only disk neither created nor removed, and those that another program removed. It goes on with new ones.
func TestFilesGone(t *testing.T) {
	t.Run("read-only", func(t *testing.T) {
		disk := simdisk.New()
		var created, writeFailed bool      // with the disk's lock held
		removed := make(chan struct{}, 10) // each time that the second segment was not
		disk.Fail = func(op simdisk.Op, name string) error {
			switch {
			case op == simdisk.Create && strings.HasSuffix(name, "2.seg") && !created:
				created = true
			case op == simdisk.Remove && strings.HasSuffix(name, "2.seg"):
				removed <- struct{}{}
			case op == simdisk.Write && strings.HasSuffix(name, "1.seg") && created && !writeFailed:
				writeFailed = true // the commit needs another segment
			default:
				return nil
			}
			return syscall.EROFS
		}
		j, r := openOn(t, disk, nil)
		<-removed
		want := 0
		for i := range 20 {
			switch err := put(j, r, 100); {
			case err == nil:
				want++
			case i > 0 || !errors.Is(err, syscall.EROFS): // the first may have waited for the file that failed
				t.Fatalf("message %d: %v", i, err)
			}
		}
		if got := count(t, r); got != want {
			t.Errorf("read %d messages, want %d", got, want)
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("removed", func(t *testing.T) {
		disk := simdisk.New()
		var gone atomic.Int64
		disk.Fail = func(op simdisk.Op, name string) error {
			if op == simdisk.Rename && strings.HasSuffix(name, ".seg") {
				gone.Add(1)
				return fs.ErrNotExist
			}
			return nil
		}
		j, r := openOn(t, disk, func(o *journal.Options) { o.SegmentSize = 256 << 10 })
		const n = 4000 // four times max_size
		for i := range n {
			if err := put(j, r, 4000); err != nil {
				t.Fatalf("message %d: %v", i, err)
			}
		}
		if got, lost := account(t, j, r); got+lost != n {
			t.Errorf("read %d messages and lost %d, want %d", got, lost, n)
		}
		if gone.Load() == 0 {
			t.Error("no file was used again")
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// TestFullDisk fills a disk that is smaller than max_size: the oldest give way, or the new are refused,
// and either way nothing acknowledged is unaccounted for.
func TestFullDisk(t *testing.T) {
	for _, policy := range []journal.WhenFull{journal.DropOldest, journal.RefuseNew} {
		for _, keep := range []int64{0, 512 << 10} {
			t.Run(fmt.Sprintf("policy %d, keep %d", policy, keep), func(t *testing.T) {
				disk := simdisk.New()
				disk.Size = 3 << 20
				j, r := openOn(t, disk, func(o *journal.Options) {
					o.MaxSize, o.SegmentSize, o.WhenFull, o.KeepFree = 64<<20, 256<<10, policy, keep
				})
				taken, refused := 0, 0
				for range 1500 {
					switch err := put(j, r, 4000); {
					case err == nil:
						taken++
					case errors.Is(err, journal.ErrFull):
						refused++
					default:
						t.Fatal(err)
					}
				}
				left, lost := account(t, j, r)
				for _, l := range j.Losses() {
					if l.Reason != journal.ReasonFree {
						t.Errorf("loss: %+v", l)
					}
				}
				if policy == journal.DropOldest && (refused > 0 || lost == 0) || policy == journal.RefuseNew && (refused == 0 || lost > 0) {
					t.Errorf("%d refused, %d lost", refused, lost)
				}
				if got := uint64(refused); j.Stats().Refused != got {
					t.Errorf("stats tell of %d refused, want %d", j.Stats().Refused, got)
				}
				if got := left + lost; got != taken {
					t.Errorf("%d read or lost, want %d", got, taken)
				}
				if free, _ := disk.Free(); free < keep {
					t.Errorf("%d bytes are free, want %d", free, keep)
				}
				if err := j.Close(); err != nil {
					t.Fatal(err)
				}
			})
		}
	}
}

// TestReadOnlyFromTheStart drains a journal on a file system that has become read-only.
func TestReadOnlyFromTheStart(t *testing.T) {
	disk := simdisk.New()
	j, r := openOn(t, disk, nil)
	for range 100 {
		if err := put(j, r, 100); err != nil {
			t.Fatal(err)
		}
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	disk.Fail = func(op simdisk.Op, name string) error {
		if op == simdisk.Open || op == simdisk.Read || op == simdisk.List {
			return nil
		}
		return syscall.EROFS
	}
	j, r = openOn(t, disk, nil)
	if err := put(j, r, 100); !errors.Is(err, journal.ErrFailed) || !errors.Is(err, syscall.EROFS) {
		t.Errorf("append: got %v, want ErrFailed and EROFS", err)
	}
	if got := count(t, r); got != 100 {
		t.Errorf("read %d messages, want 100", got)
	}
	if err := j.Close(); !errors.Is(err, syscall.EROFS) {
		t.Errorf("close: got %v, want EROFS", err)
	}
}

// TestForeignFiles are left alone and named.
func TestForeignFiles(t *testing.T) {
	dir := t.TempDir()
	names := []string{"notes.txt", "0000000000000001.seg.bak", "00000000000000ZZ.seg", "1.seg"}
	for _, n := range names {
		if err := os.WriteFile(filepath.Join(dir, n), []byte("mine"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	fsys, err := journal.NewDirFS(dir)
	if err != nil {
		t.Fatal(err)
	}
	j, r := openOn(t, fsys, nil)
	if err := put(j, r, 100); err != nil {
		t.Fatal(err)
	}
	if got := j.Recovery().Foreign; len(got) != len(names) {
		t.Errorf("got %q, want %q", got, names)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		if b, err := os.ReadFile(filepath.Join(dir, n)); string(b) != "mine" {
			t.Errorf("%s: %q, %v", n, b, err)
		}
	}
}

// TestDirectoryRemoved takes the directory away while the journal writes to a file in it: a
// message that cannot be found again must not be acknowledged.
func TestDirectoryRemoved(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "journal")
	fsys, err := journal.NewDirFS(dir)
	if err != nil {
		t.Fatal(err)
	}
	j, r := openOn(t, fsys, nil)
	if err := put(j, r, 100); err != nil {
		t.Fatal(err)
	}
	for os.RemoveAll(dir) != nil { // the maintainer has made another file meanwhile
	}
	if err := put(j, r, 100); !errors.Is(err, journal.ErrFailed) || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want ErrFailed and that the file does not exist", err)
	}
	if err := j.Close(); err == nil {
		t.Error("closed without an error")
	}
}

// TestWrongPermissions: a journal that this user may not open is left as it is, and the error says what to do.
func TestWrongPermissions(t *testing.T) {
	if dir := os.Getenv("HOLDFAST_TEST_DIR"); dir != "" {
		fsys, err := journal.NewDirFS(dir)
		if err == nil {
			_, err = journal.Open(journal.Options{FS: fsys})
		}
		fmt.Println(err)
		os.Exit(0)
	}
	for _, test := range []struct {
		name, want string
		spoil      func(dir string) error
		root       bool // only root can
	}{
		{"a directory", "lock: permission denied: make %s writable", func(dir string) error {
			return errors.Join(os.Remove(filepath.Join(dir, "lock")), os.Chmod(dir, 0o555))
		}, false},
		{"a segment", ".seg: permission denied: make it readable and writable", func(dir string) error { return restored(dir, ".seg") }, true},
		{"a snapshot", ".snap: permission denied: make it readable and writable", func(dir string) error { return restored(dir, ".snap") }, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.root && os.Geteuid() != 0 {
				t.Skip("needs root, who can give files away")
			}
			dir := filepath.Join(t.TempDir(), "journal")
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			program := filepath.Join(filepath.Dir(dir), "test")
			b, err := os.ReadFile(os.Args[0])
			if err == nil {
				err = os.WriteFile(program, b, 0o755)
			}
			for d := filepath.Dir(dir); err == nil && d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
				err = os.Chmod(d, 0o755)
			}
			if os.Geteuid() == 0 && err == nil {
				err = os.Chown(dir, nobody, nobody)
			}
			if err != nil {
				t.Fatal(err)
			}
			fsys, err := journal.NewDirFS(dir)
			if err != nil {
				t.Fatal(err)
			}
			j, r := openOn(t, fsys, nil)
			if err := errors.Join(put(j, r, 100), j.Close()); err != nil {
				t.Fatal(err)
			}
			before := owned(t, dir, os.Geteuid() == 0)
			if err := test.spoil(dir); err != nil {
				t.Fatal(err)
			}
			c := exec.Command(program, "-test.run=^TestWrongPermissions$")
			c.Dir = "/"
			c.Env = append(os.Environ(), "HOLDFAST_TEST_DIR="+dir)
			if os.Geteuid() == 0 {
				c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
			}
			out, err := c.CombinedOutput()
			if want := strings.ReplaceAll(test.want, "%s", dir); err != nil || !strings.Contains(string(out), want) {
				t.Errorf("got %s (%v), want %s", out, err, want)
			}
			if after := owned(t, dir, false); !slices.Equal(after, before) {
				t.Errorf("files: got %v, want %v", after, before)
			}
		})
	}
}

const nobody = 65534

// restored gives the files of a kind to root, as a restore from a backup does.
func restored(dir, suffix string) error {
	files, err := filepath.Glob(filepath.Join(dir, "*"+suffix))
	for _, f := range files {
		err = errors.Join(err, os.Chown(f, 0, 0), os.Chmod(f, 0o600))
	}
	return err
}

// owned returns the names of the files in dir but the lock, which root must have given to nobody.
func owned(t *testing.T, dir string, given bool) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() != "lock" {
			names = append(names, e.Name())
		}
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		if uid := info.Sys().(*syscall.Stat_t).Uid; given && uid != nobody {
			t.Errorf("%s belongs to %d, want %d", e.Name(), uid, nobody)
		}
	}
	return names
}

// TestDropOnFailedDisk: while the disk fails Drop neither waits for ever nor settles without end,
// and what it has settled is named in the end.
func TestDropOnFailedDisk(t *testing.T) {
	disk := simdisk.New()
	j, r := openOn(t, disk, nil)
	other, err := j.OpenReader("other")
	if err != nil {
		t.Fatal(err)
	}
	const n = 1000
	for i := range 2 * n { // nothing of r's stands beside another
		if err := put(j, []*journal.Reader{r, other}[i%2], 10); err != nil {
			t.Fatal(err)
		}
	}
	drop := func() {
		r.Attach()
		for i := 0; ; i++ {
			d, ok, err := r.TryNext()
			if err != nil {
				t.Fatal(err)
			}
			if !ok {
				return
			}
			r.Drop(&d, []string{journal.ReasonRefused, journal.ReasonExpired}[i%2])
		}
	}
	disk.Fail = func(op simdisk.Op, name string) error {
		if op == simdisk.Write {
			return errors.New("injected")
		}
		return nil
	}
	drop()
	named := uint64(len(j.Losses()))
	if named == 0 || r.Depth() == 0 || r.Depth()+named != n {
		t.Errorf("%d named, %d still waited for, of %d", named, r.Depth(), n)
	}
	disk.Fail = nil
	for range 2 {
		if err := put(j, other, 10); err != nil {
			t.Fatal(err)
		}
		drop() // waits for the disk, which works
	}
	if err := put(j, other, 10); err != nil {
		t.Fatal(err)
	}
	if info := j.Readers()[0]; info.Depth != 0 || info.Lost[journal.ReasonRefused]+info.Lost[journal.ReasonExpired] != n {
		t.Errorf("%+v", info)
	}
	if err := j.Close(); err != nil {
		t.Error(err)
	}
}
