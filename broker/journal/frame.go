package journal

import (
	"encoding/binary"
	"hash/crc32"
	"math/bits"
)

// A frame is a record in a segment. All integers are little-endian.
//
//	 0  crc    u32  CRC-32C of bytes 4 to 16+length, its register started with the segment's salt
//	 4  word   u32  length of the body (24 bits), kind (4 bits), batch start (1 bit); XOR salt
//	 8  delta  u32  sequence number less the segment's base; XOR salt rotated by 16
//	12  time   u32  milliseconds of boot time since the segment was begun
//	16  body
//	    zeros up to the next multiple of 8
//
// The salt makes frames of the file's earlier life, and frames forged inside a payload, fail; hiding
// word and delta behind it keeps such bytes from even looking like a frame, so that searching for
// the next good frame after damage stays cheap.
const (
	frameHeader = 16
	frameAlign  = 8
	sector      = 512 // what a disk writes whole; every batch begins on one
	maxBody     = 1<<24 - 1

	flagBatchStart = 1 << 28
)

// kind is the type of a frame's body.
type kind byte

const (
	kindMessage kind = 1 + iota // a message, whom it is owed to, and changes of state with it
	kindState                   // changes of state alone
	kindAck                     // what one reader has acknowledged
	kindLoss                    // messages that were dropped for one reader
	kindClock                   // wall time against boot time, whenever it steps
	kindLast    = kindClock
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// frame is a decoded frame. body points into the buffer it was read to.
type frame struct {
	kind       kind
	batchStart bool
	seq        uint64
	millis     uint32 // since the segment was begun
	body       []byte
	offset     int64 // in the segment
}

func align(n int) int { return (n + frameAlign - 1) &^ (frameAlign - 1) }

func padSector[T int | int64](n T) T { return (n + sector - 1) &^ (sector - 1) }

// beginFrame makes room for a frame's header. The body is appended next, then endFrame is called.
func beginFrame(b []byte) []byte { return append(b, make([]byte, frameHeader)...) }

// endFrame fills the body that began behind the header at start up to the alignment.
func endFrame(b []byte) []byte {
	for len(b)%frameAlign != 0 {
		b = append(b, 0)
	}
	return b
}

// seal writes the header of the frame at the front of b, whose body is length bytes long.
func seal(b []byte, length int, k kind, batchStart bool, delta, millis, salt uint32) {
	word := uint32(length) | uint32(k)<<24
	if batchStart {
		word |= flagBatchStart
	}
	binary.LittleEndian.PutUint32(b[4:], word^salt)
	binary.LittleEndian.PutUint32(b[8:], delta^bits.RotateLeft32(salt, 16))
	binary.LittleEndian.PutUint32(b[12:], millis)
	binary.LittleEndian.PutUint32(b, crc32.Update(salt, castagnoli, b[4:frameHeader+length]))
}

// openFrame decodes and checks the frame that fills b.
func openFrame(b []byte, base uint64, salt uint32) (frame, bool) {
	if crc32.Update(salt, castagnoli, b[4:]) != binary.LittleEndian.Uint32(b) {
		return frame{}, false
	}
	word := binary.LittleEndian.Uint32(b[4:]) ^ salt
	delta := binary.LittleEndian.Uint32(b[8:]) ^ bits.RotateLeft32(salt, 16)
	return frame{
		kind:       kind(word >> 24 & 0xf),
		batchStart: word&flagBatchStart != 0,
		seq:        base + uint64(delta),
		millis:     binary.LittleEndian.Uint32(b[12:]),
		body:       b[frameHeader:],
	}, true
}
