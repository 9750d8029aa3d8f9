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

	"golang.org/x/sys/unix"
)

// FS is every operation that the journal makes on storage, so that a test can fail or cut any one of
// them. Names are relative to the journal's directory. Implementations are safe for concurrent use.
type FS interface {
	// Open opens a file for reading and writing; create makes it where it is missing.
	Open(name string, create bool) (File, error)
	// Rename replaces newName if it exists. It lasts through a power cut only after SyncDir.
	Rename(oldName, newName string) error
	Remove(name string) error
	// List returns the names and sizes of the regular files, in any order.
	List() ([]FileInfo, error)
	// SyncDir makes creations, renames and removals durable.
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
	// Datasync makes what was written durable: fdatasync(2). After an error nothing is known of what
	// was written since the last success.
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

// DirFS is the operating system's file system below one directory.
type DirFS struct{ dir string }

// NewDirFS makes dir, readable by its owner and group only, and returns it as an FS.
func NewDirFS(dir string) (*DirFS, error) {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, err
	}
	return &DirFS{dir}, nil
}

func (d *DirFS) Open(name string, create bool) (File, error) {
	flag := os.O_RDWR
	if create {
		flag |= os.O_CREATE
	}
	f, err := os.OpenFile(filepath.Join(d.dir, name), flag, 0o640)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
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
	var st unix.Statfs_t
	if err := unix.Statfs(d.dir, &st); err != nil {
		return 0, &fs.PathError{Op: "statfs", Path: d.dir, Err: err}
	}
	return int64(st.Bavail) * int64(st.Bsize), nil
}

func (d *DirFS) Lock() (io.Closer, error) {
	name := filepath.Join(d.dir, lockName)
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o640)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		pid, _ := io.ReadAll(io.LimitReader(f, 20))
		f.Close()
		return nil, fmt.Errorf("%s: in use by process %s: stop it, or choose another data_dir: %w",
			d.dir, strings.TrimSpace(string(pid)), err)
	}
	err = f.Truncate(0)
	if err == nil {
		_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

type osFile struct{ *os.File }

func (f osFile) Datasync() error {
	for {
		err := unix.Fdatasync(int(f.Fd()))
		if err != unix.EINTR {
			if err != nil {
				return &fs.PathError{Op: "fdatasync", Path: f.Name(), Err: err}
			}
			return nil
		}
	}
}

func (f osFile) Allocate(size int64) error {
	for {
		err := unix.Fallocate(int(f.Fd()), 0, 0, size)
		switch err {
		case unix.EINTR:
		case nil, unix.EOPNOTSUPP, unix.ENOSYS:
			return nil
		default:
			return &fs.PathError{Op: "fallocate", Path: f.Name(), Err: err}
		}
	}
}
