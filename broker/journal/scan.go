package journal

import (
	"encoding/binary"
	"errors"
	"io"
	"math/bits"
)

const scanChunk = 64 << 10

// region is a part of a segment, from and to in bytes, in which nothing is readable.
type region struct{ from, to int64 }

// scanner walks the frames of a segment from offset to limit. It steps over damage, 8 bytes at a
// time, and reports it. It holds one buffer, no larger than the largest frame plus 64 KiB.
type scanner struct {
	file    io.ReaderAt
	base    uint64
	salt    uint32
	sparse  bool  // most sequence numbers are missing: the segment is a compacted one
	offset  int64 // of the next frame
	limit   int64
	buf     []byte // bytes of the file from bufAt
	bufAt   int64
	damaged func(region) // called before the frame that follows the damage; may be nil
	bad     int64        // where the current damage began, -1 without
}

func newScanner(f io.ReaderAt, h *header, from, limit int64, damaged func(region)) *scanner {
	return &scanner{file: f, base: h.base, salt: h.salt, sparse: h.compacted, offset: from, limit: limit, damaged: damaged, bad: -1}
}

// view returns at least n bytes at offset, or as many as there are before limit.
func (s *scanner) view(n int) []byte {
	if have := s.bufAt + int64(len(s.buf)) - s.offset; s.offset >= s.bufAt && have >= int64(n) {
		return s.buf[s.offset-s.bufAt:]
	}
	want := int64(max(n, scanChunk))
	if s.offset+want > s.limit {
		want = s.limit - s.offset
	}
	if int64(cap(s.buf)) < want {
		s.buf = make([]byte, want)
	}
	s.buf, s.bufAt = s.buf[:want], s.offset
	got, err := s.file.ReadAt(s.buf, s.bufAt)
	if err != nil && !errors.Is(err, io.EOF) {
		got = s.bySector()
	}
	clear(s.buf[got:])
	return s.buf
}

// bySector reads what the disk still gives, a sector at a time; the rest counts as damage.
func (s *scanner) bySector() int {
	for at := 0; at < len(s.buf); at += sector {
		part := s.buf[at:min(at+sector, len(s.buf))]
		if n, err := s.file.ReadAt(part, s.bufAt+int64(at)); err != nil && !errors.Is(err, io.EOF) {
			for i := range part[n:] {
				part[n+i] = 0xff
			}
		}
	}
	return len(s.buf)
}

// next returns the next good frame; ok is false at the limit. The body is valid until the next call.
func (s *scanner) next() (f frame, ok bool) {
	for s.offset+frameHeader <= s.limit {
		b := s.view(frameHeader)
		if binary.LittleEndian.Uint64(b) == 0 {
			if s.bad < 0 {
				// The end of a batch, or space that was never used: the next batch begins on a sector.
				s.offset = padSector(s.offset + 1)
			} else {
				s.offset += frameAlign
			}
			continue
		}
		if length, plausible := s.frameLength(b); plausible {
			b = s.view(frameHeader + length)
			if f, ok = openFrame(b[:frameHeader+length], s.base, s.salt); ok {
				f.offset = s.offset
				s.endDamage(s.offset)
				s.offset += int64(align(frameHeader + length))
				return f, true
			}
		}
		if s.bad < 0 {
			s.bad = s.offset
		}
		s.offset += frameAlign
	}
	s.endDamage(s.limit)
	return frame{}, false
}

func (s *scanner) endDamage(at int64) {
	if s.bad >= 0 && s.damaged != nil {
		s.damaged(region{s.bad, at})
	}
	s.bad = -1
}

// frameLength returns the length of the body of the frame at the front of b, which holds at least
// frameHeader bytes. It is false where there cannot be a frame: sequence numbers do not grow faster
// than headers fit.
func (s *scanner) frameLength(b []byte) (int, bool) {
	word := binary.LittleEndian.Uint32(b[4:]) ^ s.salt
	delta := binary.LittleEndian.Uint32(b[8:]) ^ bits.RotateLeft32(s.salt, 16)
	k := kind(word >> 24 & 0xf)
	length := int(word & maxBody)
	ok := word>>29 == 0 && k >= kindMessage && k <= kindLast &&
		frameHeader+int64(length) <= s.limit-s.offset && (s.sparse || int64(delta) <= s.limit/frameHeader)
	return length, ok
}
