package journal

import (
	"errors"
	"io"
	"io/fs"
	"sync"
)

// memFS is a directory in memory that never fails, for fuzzing.
type memFS struct {
	mu    sync.Mutex
	files map[string]*memFile
}

type memFile struct {
	mu   sync.Mutex
	data []byte
}

func (m *memFS) Open(name string, write bool) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f := m.files[name]
	if f == nil {
		if !write {
			return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
		}
		f = &memFile{}
		m.files[name] = f
	}
	return f, nil
}

func (m *memFS) Rename(oldName, newName string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	f := m.files[oldName]
	if f == nil {
		return fs.ErrNotExist
	}
	delete(m.files, oldName)
	m.files[newName] = f
	return nil
}

func (m *memFS) Remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.files[name] == nil {
		return fs.ErrNotExist
	}
	delete(m.files, name)
	return nil
}

func (m *memFS) List() (infos []FileInfo, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for name, f := range m.files {
		infos = append(infos, FileInfo{name, int64(len(f.data))})
	}
	return infos, nil
}

func (m *memFS) SyncDir() error           { return nil }
func (m *memFS) Free() (int64, error)     { return 1 << 40, nil }
func (m *memFS) Lock() (io.Closer, error) { return io.NopCloser(nil), nil }

func (f *memFile) ReadAt(b []byte, at int64) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if at < 0 {
		return 0, errors.New("negative offset")
	}
	if at >= int64(len(f.data)) {
		return 0, io.EOF
	}
	n := copy(b, f.data[at:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (f *memFile) WriteAt(b []byte, at int64) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if more := at + int64(len(b)) - int64(len(f.data)); more > 0 {
		f.data = append(f.data, make([]byte, more)...)
	}
	return copy(f.data[at:], b), nil
}

func (f *memFile) Close() error         { return nil }
func (f *memFile) Datasync() error      { return nil }
func (f *memFile) Allocate(int64) error { return nil }
