package simdisk

import (
	"maps"
	"math/rand/v2"
	"slices"
)

// image is what is on the disk for good.
type image struct {
	names  map[string]int // inode by name
	files  map[int]*stored
	inodes int // highest inode number
}

// stored is a file's content on the disk for good.
type stored struct{ data []byte }

func newImage() *image { return &image{names: map[string]int{}, files: map[int]*stored{}} }

func (m *image) clone() *image {
	c := &image{names: maps.Clone(m.names), files: make(map[int]*stored, len(m.files)), inodes: m.inodes}
	for id, f := range m.files {
		c.files[id] = &stored{slices.Clone(f.data)}
	}
	return c
}

func (m *image) file(id int) *stored {
	f := m.files[id]
	if f == nil {
		f = &stored{}
		m.files[id] = f
	}
	return f
}

// enter applies a change of the directory.
func (m *image) enter(s step) {
	switch s.op {
	case Create:
		m.names[s.name] = s.inode
		m.file(s.inode)
		m.inodes = max(m.inodes, s.inode)
	case Rename:
		m.names[s.to] = m.names[s.name]
		delete(m.names, s.name)
	case Remove:
		delete(m.names, s.name)
	}
}

// write applies bytes of a write or an allocation.
func (f *stored) write(s step) {
	end := s.offset + int64(len(s.data))
	if more := end - int64(len(f.data)); more > 0 {
		f.data = append(f.data, make([]byte, more)...)
	}
	copy(f.data[s.offset:], s.data)
}

// Replay walks through what was done to a disk, from the beginning, and makes the states that a power
// cut could have left at any moment of it.
type Replay struct {
	trace  []step
	at     int
	image  *image         // what is durable
	dir    []step         // changes of the directory since its last fsync
	writes map[int][]step // by inode: since its last fdatasync
}

// Replay begins before the first operation. The disk must not be used meanwhile.
func (d *Disk) Replay() *Replay {
	return &Replay{trace: d.trace, image: d.image.clone(), writes: map[int][]step{}}
}

// At is the moment that Replay stands at, as in Disk.Now.
func (r *Replay) At() int { return r.at }

// Next goes one operation ahead. It says false at the end.
func (r *Replay) Next(rng *rand.Rand) bool {
	if r.at == len(r.trace) {
		return false
	}
	s := r.trace[r.at]
	r.at++
	switch s.op {
	case Create, Rename, Remove:
		r.dir = append(r.dir, s)
	case SyncDir:
		for _, e := range r.dir {
			r.image.enter(e)
		}
		r.dir = nil
	case Write, Allocate:
		r.writes[s.inode] = append(r.writes[s.inode], s)
	case Datasync:
		f, kind := r.image.file(s.inode), rng.IntN(kinds)
		for _, w := range r.writes[s.inode] {
			if s.failed {
				survive(f, w, rng, kind)
			} else {
				f.write(w)
			}
		}
		delete(r.writes, s.inode)
	}
	return true
}

// How much of what was not synchronised survives.
const (
	nothing = iota
	everything
	someWrites
	someSectors
	kinds
)

// Cut returns a disk as it may be when the power comes back. The rest of the trace is forgotten.
func (r *Replay) Cut(rng *rand.Rand) *Disk {
	m := r.image.clone()
	for _, s := range r.dir[:rng.IntN(len(r.dir)+1)] {
		m.enter(s)
	}
	kind := rng.IntN(kinds)
	for _, id := range slices.Sorted(maps.Keys(r.writes)) {
		f := m.file(id)
		for _, w := range r.writes[id] {
			survive(f, w, rng, kind)
		}
	}
	for id := range m.files {
		if !slices.Contains(slices.Collect(maps.Values(m.names)), id) {
			delete(m.files, id)
		}
	}
	return fromImage(m)
}

// survive applies the part of a write that the disk may have done.
func survive(f *stored, w step, rng *rand.Rand, kind int) {
	switch {
	case kind == nothing || kind == someWrites && rng.IntN(2) == 0:
	case kind == everything || kind == someWrites:
		if w.op == Allocate {
			w = step{offset: w.offset}
		}
		f.write(w)
	case w.op == Allocate:
		if rng.IntN(2) == 0 {
			f.write(step{offset: w.offset})
		}
	default:
		// Writes of the same sector come in order, so that leaving out any subset of them gives every
		// version that the page cache may have held when it was last written back.
		for at := int64(0); at < int64(len(w.data)); {
			n := Sector - (w.offset+at)%Sector
			n = min(n, int64(len(w.data))-at)
			if rng.IntN(2) == 0 {
				f.write(step{offset: w.offset + at, data: w.data[at : at+n]})
			}
			at += n
		}
	}
}
