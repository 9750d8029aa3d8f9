// Package simdisk is a disk in memory for tests of the journal. It behaves as a Linux file system on a
// card does when the power is cut: of what was written since the last fdatasync any subset of the
// 512-byte sectors survives, in any of the versions written; of what was done to the directory since
// its last fsync a prefix survives.
//
// It promises that every operation takes its place in one order, that any one of them can be made to
// fail, and that after a failed fdatasync the pages are gone from the disk's point of view although
// the cache still shows them. It is for tests only, and keeps everything it was ever told.
package simdisk

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"syscall"

	"holdfast/broker/journal"
)

// Sector is what a disk writes whole or not at all, in bytes.
const Sector = 512

// Op names an operation.
type Op string

// The operations that Disk.Fail is asked about.
const (
	Open     Op = "open"
	Create   Op = "create"
	Read     Op = "read"
	Write    Op = "write"
	Datasync Op = "datasync"
	Allocate Op = "allocate"
	Rename   Op = "rename"
	Remove   Op = "remove"
	List     Op = "list"
	SyncDir  Op = "syncdir"
)

// Disk is a journal.FS. All methods are safe for concurrent use.
type Disk struct {
	// Fail, if set, is asked before each operation; its error is the operation's. Set it before use.
	Fail func(op Op, name string) error
	// Size is the disk's size in bytes; 0 means that it is never full.
	Size int64

	mu     sync.Mutex
	files  map[string]*inode // as programs see it
	image  *image            // as it was before trace
	trace  []step
	inodes int
	locked bool
	others int64 // bytes that others take
}

// inode is a file as programs see it.
type inode struct {
	id   int
	data []byte
}

// step is an operation that changes what survives.
type step struct {
	op       Op
	inode    int
	name, to string
	offset   int64
	data     []byte
	failed   bool // of a datasync
}

// New returns an empty disk.
func New() *Disk { return fromImage(newImage()) }

func fromImage(m *image) *Disk {
	d := &Disk{files: map[string]*inode{}, image: m, inodes: m.inodes}
	for name, id := range m.names {
		d.files[name] = &inode{id, append([]byte(nil), m.files[id].data...)}
	}
	return d
}

// Now returns how many changes were made so far: a moment that Replay can be brought to.
func (d *Disk) Now() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.trace)
}

// Flush makes all that was done so far durable, and forgets how it came about.
func (d *Disk) Flush() {
	d.mu.Lock()
	defer d.mu.Unlock()
	m := newImage()
	m.inodes = d.inodes
	for name, f := range d.files {
		m.names[name] = f.id
		m.files[f.id] = &stored{slices.Clone(f.data)}
	}
	d.image, d.trace = m, nil
}

func (d *Disk) fail(op Op, name string) error {
	if d.Fail == nil {
		return nil
	}
	if err := d.Fail(op, name); err != nil {
		return &fs.PathError{Op: string(op), Path: name, Err: err}
	}
	return nil
}

// Others sets how many bytes of the disk others take, at most all that is left. It returns how many that is.
func (d *Disk) Others(bytes int64) int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.others = 0
	d.others = max(0, min(bytes, d.Size-d.used()))
	return d.others
}

func (d *Disk) used() (n int64) {
	n = d.others
	for _, f := range d.files {
		n += int64(len(f.data))
	}
	return n
}

func (d *Disk) Open(name string, write bool) (journal.File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.fail(Open, name); err != nil {
		return nil, err
	}
	f := d.files[name]
	if f == nil {
		if !write {
			return nil, &fs.PathError{Op: string(Open), Path: name, Err: fs.ErrNotExist}
		}
		if err := d.fail(Create, name); err != nil {
			return nil, err
		}
		d.inodes++
		f = &inode{id: d.inodes}
		d.files[name] = f
		d.trace = append(d.trace, step{op: Create, inode: f.id, name: name})
	}
	return &file{d, f, name}, nil
}

func (d *Disk) Rename(oldName, newName string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.fail(Rename, oldName); err != nil {
		return err
	}
	f := d.files[oldName]
	if f == nil {
		return &fs.PathError{Op: string(Rename), Path: oldName, Err: fs.ErrNotExist}
	}
	delete(d.files, oldName)
	d.files[newName] = f
	d.trace = append(d.trace, step{op: Rename, name: oldName, to: newName})
	return nil
}

func (d *Disk) Remove(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.fail(Remove, name); err != nil {
		return err
	}
	if d.files[name] == nil {
		return &fs.PathError{Op: string(Remove), Path: name, Err: fs.ErrNotExist}
	}
	delete(d.files, name)
	d.trace = append(d.trace, step{op: Remove, name: name})
	return nil
}

func (d *Disk) List() ([]journal.FileInfo, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.fail(List, "."); err != nil {
		return nil, err
	}
	var infos []journal.FileInfo
	for name, f := range d.files {
		infos = append(infos, journal.FileInfo{Name: name, Size: int64(len(f.data))})
	}
	return infos, nil
}

func (d *Disk) SyncDir() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.fail(SyncDir, "."); err != nil {
		return err
	}
	d.trace = append(d.trace, step{op: SyncDir})
	return nil
}

func (d *Disk) Free() (int64, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.Size == 0 {
		return 1 << 50, nil
	}
	return d.Size - d.used(), nil
}

// Lock takes the disk until the result is closed.
func (d *Disk) Lock() (io.Closer, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.locked {
		return nil, errors.New("in use")
	}
	d.locked = true
	return unlock{d}, nil
}

type unlock struct{ d *Disk }

func (u unlock) Close() error {
	u.d.mu.Lock()
	defer u.d.mu.Unlock()
	u.d.locked = false
	return nil
}

// file is an open file. It stays usable when its name is gone.
type file struct {
	d    *Disk
	node *inode
	name string
}

func (f *file) ReadAt(p []byte, at int64) (int, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if err := f.d.fail(Read, f.name); err != nil {
		return 0, err
	}
	if at >= int64(len(f.node.data)) {
		return 0, io.EOF
	}
	n := copy(p, f.node.data[at:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *file) WriteAt(p []byte, at int64) (int, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	end := at + int64(len(p))
	if err := f.d.fail(Write, f.name); err != nil {
		return 0, err
	}
	if err := f.d.grow(f.node, end); err != nil {
		return 0, err
	}
	copy(f.node.data[at:], p)
	f.d.trace = append(f.d.trace, step{op: Write, inode: f.node.id, offset: at, data: append([]byte(nil), p...)})
	return len(p), nil
}

// grow makes a file at least size bytes long, if the disk has them.
func (d *Disk) grow(f *inode, size int64) error {
	more := size - int64(len(f.data))
	if more <= 0 {
		return nil
	}
	if d.Size > 0 && d.used()+more > d.Size {
		return syscall.ENOSPC
	}
	f.data = append(f.data, make([]byte, more)...)
	return nil
}

func (f *file) Datasync() error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	err := f.d.fail(Datasync, f.name)
	f.d.trace = append(f.d.trace, step{op: Datasync, inode: f.node.id, failed: err != nil})
	return err
}

func (f *file) Allocate(size int64) error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if err := f.d.fail(Allocate, f.name); err != nil {
		return err
	}
	if err := f.d.grow(f.node, size); err != nil {
		return &fs.PathError{Op: string(Allocate), Path: f.name, Err: err}
	}
	f.d.trace = append(f.d.trace, step{op: Allocate, inode: f.node.id, offset: size})
	return nil
}

func (f *file) Close() error { return nil }

// Rot changes one byte of a file, as an old card does. It says false if there is no such byte.
func (d *Disk) Rot(name string, at int64, with byte) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	f := d.files[name]
	if f == nil || at >= int64(len(f.data)) {
		return false
	}
	f.data[at] ^= with
	d.trace = append(d.trace, step{op: Write, inode: f.id, offset: at, data: []byte{f.data[at]}}, step{op: Datasync, inode: f.id})
	return true
}

// Random returns a source of the given seed, for Replay.Cut.
func Random(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, seed)) }

// Trace describes the operations from one moment to another, one in a line.
func (d *Disk) Trace(from, to int) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var b strings.Builder
	for i := max(0, from); i < min(to, len(d.trace)); i++ {
		s := &d.trace[i]
		fmt.Fprintf(&b, "%d: %s inode %d %s %s at %d, %d bytes", i, s.op, s.inode, s.name, s.to, s.offset, len(s.data))
		if s.failed {
			b.WriteString(", failed")
		}
		b.WriteByte('\n')
	}
	return b.String()
}
