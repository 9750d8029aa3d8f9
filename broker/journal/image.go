package journal

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"unsafe"
)

// image is a checkpoint in memory. Long strings are not copied: with much state a copy would need as much memory again.
type image struct {
	b    []byte // everything else
	refs []imageRef
}

// imageRef is a string that stands in front of image.b[at:]. It is not changed.
type imageRef struct {
	at int
	v  []byte
}

// longString is how many bytes a string has that is not copied; a reference takes 32.
const longString = 128

// appendLong is appendString for what does not change as long as the image is in use.
func appendLong[T string | []byte](m *image, s T) {
	if len(s) < longString {
		m.b = appendString(m.b, s)
		return
	}
	m.b = binary.AppendUvarint(m.b, uint64(len(s)))
	m.refer(s2b(s))
}

func (m *image) refer(v []byte) { m.refs = append(m.refs, imageRef{len(m.b), v}) }

// s2b returns the bytes of s without a copy.
func s2b[T string | []byte](s T) []byte {
	switch s := any(s).(type) {
	case string:
		return unsafe.Slice(unsafe.StringData(s), len(s))
	case []byte:
		return s
	}
	panic("unreachable")
}

// parts calls f for each part of the image in order.
func (m *image) parts(f func(b []byte) error) error {
	from := 0
	for _, r := range m.refs {
		if err := errors.Join(f(m.b[from:r.at]), f(r.v)); err != nil {
			return err
		}
		from = r.at
	}
	return f(m.b[from:])
}

// seal enters the checksum.
func (m *image) seal() {
	sum, skip := uint32(0), 12
	_ = m.parts(func(b []byte) error {
		sum, skip = crc32.Update(sum, castagnoli, b[skip:]), 0
		return nil
	})
	binary.LittleEndian.PutUint32(m.b[8:], sum)
}

// writeBuffer is how much of a checkpoint is written at once.
const writeBuffer = 64 << 10

func (j *Journal) writeFile(name string, m *image) (size int64, err error) {
	f, err := j.fs.Open(name, true)
	if err != nil {
		return 0, err
	}
	buf := make([]byte, 0, writeBuffer)
	flush := func() error {
		_, err := f.WriteAt(buf, size)
		j.figures.written.Add(uint64(len(buf)))
		size += int64(len(buf))
		buf = buf[:0]
		return err
	}
	err = m.parts(func(b []byte) error {
		for len(b) > 0 {
			n := copy(buf[len(buf):cap(buf)], b)
			buf, b = buf[:len(buf)+n], b[n:]
			if len(buf) == cap(buf) {
				if err := flush(); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err == nil && len(buf) > 0 {
		err = flush()
	}
	if err == nil {
		j.figures.syncs.Add(1)
		err = f.Datasync()
	}
	return size, errors.Join(err, f.Close())
}
