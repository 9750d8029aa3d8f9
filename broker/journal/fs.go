package journal

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// FS is every operation that the journal makes on storage, so that a test can fail or cut any one of
// them. Names are relative to the journal's directory. Implementations are safe for concurrent use.
type FS interface {
	// Open opens a file: for reading, or, with write, for both, and makes it where it is missing.
	Open(name string, write bool) (File, error)
	// Rename replaces newName if it exists. It lasts through a power cut only after SyncDir.
	Rename(oldName, newName string) error
	Remove(name string) error
	// List returns the names and sizes of the regular files, in any order.
	List() ([]FileInfo, error)
	// SyncDir makes creations, renames and removals durable. Those that a power cut leaves without it are
	// the first ones, in the order in which they were made.
	SyncDir() error
	// Free returns the bytes that the file system has left for this user.
	Free() (int64, error)
	// Lock takes the directory for this process. The error of a second process names the pid of the
	// first. Closing the result frees it.
	Lock() (io.Closer, error)
}

// File is an open file of an FS.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	// Datasync makes what was written durable: fdatasync(2). After an error the content
	// written since the last success is unknown. A file whose name is gone is an error.
	Datasync() error
	// Allocate reserves blocks for the first size bytes, where the file system can.
	Allocate(size int64) error
}

// FileInfo is a name and a size in bytes.
type FileInfo struct {
	Name string
	Size int64
}

const lockName = "lock"

// DirFS is the operating system's file system below one directory. Whole sectors from aligned memory
// are written past the page cache (O_DIRECT), where the file system can: a commit of one sector then
// costs the card one sector, not a page.
type DirFS struct{ dir string }

// NewDirFS makes dir, readable by its owner and group only, and returns it as an FS.
func NewDirFS(dir string) (*DirFS, error) {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, err
	}
	return &DirFS{dir}, nil
}

func (d *DirFS) Open(name string, write bool) (File, error) {
	path := filepath.Join(d.dir, name)
	f, err := d.open(path, write)
	if errors.Is(err, fs.ErrPermission) {
		err = fmt.Errorf("%w: make it readable and writable for the user that holdfast runs as", err)
	}
	if err != nil {
		return nil, err
	}
	if !write {
		return &osFile{File: f}, nil
	}
	direct, err := os.OpenFile(path, os.O_WRONLY|unix.O_DIRECT|unix.O_NOFOLLOW, 0)
	if err != nil { // the file system cannot
		direct = nil
	}
	return &osFile{f, direct}, nil
}

// open opens a file and follows no symbolic link. It gives a file that it creates to the user who owns the directory,
// which matters where root works on the journal of a service; an existing file keeps its owner.
func (d *DirFS) open(path string, write bool) (*os.File, error) {
	flags := os.O_RDONLY
	if write {
		flags = os.O_RDWR
	}
	for {
		f, err := os.OpenFile(path, flags|unix.O_NOFOLLOW, 0)
		if !write || !errors.Is(err, fs.ErrNotExist) {
			return f, err
		}
		f, err = os.OpenFile(path, flags|os.O_CREATE|os.O_EXCL, 0o640)
		if errors.Is(err, fs.ErrExist) {
			continue // made meanwhile
		}
		if err != nil {
			return nil, err
		}
		if err := d.giveAway(f); err != nil {
			f.Close()
			return nil, err
		}
		return f, nil
	}
}

// giveAway gives a new file of root's to the user who owns the directory.
func (d *DirFS) giveAway(f *os.File) error {
	if os.Geteuid() != 0 {
		return nil
	}
	dir, err := os.Stat(d.dir)
	if err != nil {
		return err
	}
	owner := dir.Sys().(*syscall.Stat_t)
	return f.Chown(int(owner.Uid), int(owner.Gid))
}

func (d *DirFS) Rename(oldName, newName string) error {
	return os.Rename(filepath.Join(d.dir, oldName), filepath.Join(d.dir, newName))
}

func (d *DirFS) Remove(name string) error { return os.Remove(filepath.Join(d.dir, name)) }

func (d *DirFS) List() ([]FileInfo, error) {
	entries, err := os.ReadDir(d.dir)
	if err != nil {
		return nil, err
	}
	var files []FileInfo
	for _, e := range entries {
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if info.Mode().IsRegular() {
			files = append(files, FileInfo{e.Name(), info.Size()})
		}
	}
	return files, nil
}

func (d *DirFS) SyncDir() error {
	f, err := os.Open(d.dir)
	if err != nil {
		return err
	}
	err = f.Sync()
	return errors.Join(err, f.Close())
}

func (d *DirFS) Free() (int64, error) {
	_, free, err := Space(d.dir)
	return free, err
}

// Space returns the bytes of the file system that a path is on, and how many of them are free for users other than root
// (statfs(2)).
func Space(path string) (size, free int64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return 0, 0, &fs.PathError{Op: "statfs", Path: path, Err: err}
	}
	return int64(st.Blocks) * int64(st.Bsize), int64(st.Bavail) * int64(st.Bsize), nil
}

func (d *DirFS) Lock() (io.Closer, error) {
	f, writable, err := d.openLock()
	if err != nil {
		if f != nil {
			f.Close()
		}
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		pid, _ := io.ReadAll(io.LimitReader(f, 20))
		f.Close()
		return nil, fmt.Errorf("%s: in use by process %s: stop it, or choose another data_dir: %w",
			d.dir, strings.TrimSpace(string(pid)), err)
	}
	if !writable {
		return f, nil
	}
	err = f.Truncate(0)
	if err == nil {
		_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	if err != nil && !errors.Is(err, unix.ENOSPC) { // a full disk hides the pid, and nothing more
		f.Close()
		return nil, err
	}
	return f, nil
}

// openLock opens what is locked. On a file system that is read-only the file may be missing; then the
// directory is.
func (d *DirFS) openLock() (f *os.File, writable bool, err error) {
	name := filepath.Join(d.dir, lockName)
	f, err = d.open(name, true)
	if err == nil {
		return f, true, nil
	}
	if errors.Is(err, fs.ErrPermission) {
		return nil, false, fmt.Errorf("%w: make %s writable for the user that holdfast runs as", err, d.dir)
	}
	if !errors.Is(err, unix.EROFS) && !errors.Is(err, unix.ENOSPC) {
		return nil, false, err
	}
	if f, err = d.open(name, false); err != nil {
		f, err = os.Open(d.dir)
	}
	return f, false, err
}

type osFile struct {
	*os.File
	direct *os.File // the same file, past the page cache; nil if that is not possible
}

func (f *osFile) WriteAt(b []byte, at int64) (int, error) {
	if f.direct != nil && aligned(b, at) {
		n, err := f.direct.WriteAt(b, at)
		if !errors.Is(err, unix.EINVAL) {
			return n, err
		}
		f.direct.Close() // its sectors are larger than ours
		f.direct = nil
	}
	return f.File.WriteAt(b, at)
}

// aligned reports whether O_DIRECT takes b at that offset.
func aligned(b []byte, at int64) bool {
	return len(b) > 0 && len(b)%sector == 0 && at%sector == 0 && uintptr(unsafe.Pointer(&b[0]))%sector == 0
}

func (f *osFile) Close() error {
	err := f.File.Close()
	if f.direct != nil {
		err = errors.Join(err, f.direct.Close())
	}
	return err
}

func (f *osFile) Datasync() error {
	if err := f.retry("fdatasync", unix.Fdatasync); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := f.retry("fstat", func(fd int) error { return unix.Fstat(fd, &st) }); err != nil {
		return err
	}
	if st.Nlink == 0 { // durable, but without a name
		return &fs.PathError{Op: "fdatasync", Path: f.Name(), Err: fs.ErrNotExist}
	}
	return nil
}

func (f *osFile) Allocate(size int64) error {
	err := f.retry("fallocate", func(fd int) error { return unix.Fallocate(fd, 0, 0, size) })
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
		return nil
	}
	return err
}

// retry makes a system call until no signal interrupts it.
func (f *osFile) retry(op string, call func(fd int) error) error {
	for {
		switch err := call(int(f.Fd())); err {
		case unix.EINTR:
		case nil:
			return nil
		default:
			return &fs.PathError{Op: op, Path: f.Name(), Err: err}
		}
	}
}

// isDamage reports whether err means that the file is corrupt. A file that may not be opened, as after a restore by
// another user, or not now, is not: nothing in it is lost.
func isDamage(err error) bool {
	for _, other := range []error{fs.ErrPermission, unix.EMFILE, unix.ENFILE, unix.ENOMEM, unix.EINTR} {
		if errors.Is(err, other) {
			return false
		}
	}
	return true
}
