package journal

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"slices"
	"strconv"
	"strings"
)

// A segment begins with 4 KiB of header: two copies of the same bytes, half a header apart, so that
// one corrupt sector does not cost the segment. The header is written together with the segment's
// first batch; a prepared segment, or one whose first batch was never synchronised, holds an older
// header or none.
//
//	 0  magic     8 bytes "HOLDFAST"
//	 8  version   u32
//	12  salt      u32
//	16  id        u64  the number in the name
//	24  base      u64  sequence number that deltas count from
//	32  previous  u64  id of the segment before
//	40  end       u64  where its last synchronised batch ends: bytes behind it are a stale tail
//	48  wall      i64  ns
//	56  boot      i64  ns of boot time
//	64  synced    u8   whether the clock was synchronised
//	65  compacted u8   since version 2: whether the segment holds what was left of older ones; then
//	                   end and next are its own
//	66  zeros
//	72  boot id   16 bytes
//	88  next      u64  one past the newest sequence number of the segment before
//	96  crc       u32  CRC-32C of bytes 0 to 96
const (
	headerSize       = 4096
	headerCopy       = headerSize / 2
	headerUsed       = 100
	headerCRC        = 96
	magic            = "HOLDFAST"
	version          = 3
	oldest           = 1 // version that is still read
	segSuffix        = ".seg"
	snapSuffix       = ".snap"
	quarantineSuffix = ".damaged"
	tempSuffix       = ".tmp"
)

type header struct {
	salt         uint32
	id, base     uint64
	previous     uint64
	previousEnd  int64
	previousNext uint64
	clock        clockReading
	compacted    bool
	bootID       [16]byte
}

func (h *header) encode() []byte {
	b := make([]byte, headerSize)
	copy(b, magic)
	binary.LittleEndian.PutUint32(b[8:], version)
	binary.LittleEndian.PutUint32(b[12:], h.salt)
	binary.LittleEndian.PutUint64(b[16:], h.id)
	binary.LittleEndian.PutUint64(b[24:], h.base)
	binary.LittleEndian.PutUint64(b[32:], h.previous)
	binary.LittleEndian.PutUint64(b[40:], uint64(h.previousEnd))
	copy(b[48:], appendClock(nil, h.clock))
	if h.compacted {
		b[65] = 1
	}
	copy(b[72:], h.bootID[:])
	binary.LittleEndian.PutUint64(b[88:], h.previousNext)
	binary.LittleEndian.PutUint32(b[headerCRC:], crc32.Checksum(b[:headerCRC], castagnoli))
	copy(b[headerCopy:], b[:headerUsed])
	return b
}

var (
	// errUnused means that a segment holds no header at all.
	errUnused = errors.New("no header")
	// errNewer means that a file is whole, but of a newer version. It is left as it is.
	errNewer = errors.New("written by a newer holdfast: install that version again")
)

func decodeHeader(b []byte) (header, error) {
	err := errUnused
	for _, at := range []int{0, headerCopy} {
		if len(b) < at+headerUsed {
			break
		}
		c := b[at : at+headerUsed]
		if len(bytes.TrimLeft(c, "\x00")) == 0 {
			continue
		}
		if string(c[:8]) != magic {
			err = fmt.Errorf("magic: got %q, want %q", c[:8], magic)
			continue
		}
		if got, want := crc32.Checksum(c[:headerCRC], castagnoli), binary.LittleEndian.Uint32(c[headerCRC:]); got != want {
			err = fmt.Errorf("header checksum: got %08x, want %08x", got, want)
			continue
		}
		if v := binary.LittleEndian.Uint32(c[8:]); v < oldest || v > version {
			return header{}, fmt.Errorf("format version: got %d, want %d to %d: %w", v, oldest, version, errNewer)
		}
		p := parser{b: c[48:65]}
		h := header{
			salt:        binary.LittleEndian.Uint32(c[12:]),
			id:          binary.LittleEndian.Uint64(c[16:]),
			base:        binary.LittleEndian.Uint64(c[24:]),
			previous:    binary.LittleEndian.Uint64(c[32:]),
			previousEnd: int64(binary.LittleEndian.Uint64(c[40:])),
			clock:       p.clock(),
			compacted:   c[65] == 1,

			previousNext: binary.LittleEndian.Uint64(c[88:]),
		}
		copy(h.bootID[:], c[72:])
		return h, nil
	}
	return header{}, err
}

// owedIn counts the messages of one segment that one reader is owed.
type owedIn struct {
	count uint64
	last  uint64 // sequence number
	bytes uint64 // of their frames; less if some were settled (maintainer.measure)
}

// segment is one file of the log. Its header does not change once the first batch is in; the rest is
// guarded by Journal.mu.
type segment struct {
	header
	end  int64             // where the last synchronised batch ends
	next uint64            // one past its newest sequence number
	wall int64             // wall time of its newest record in ns; 0 if the clock was not synchronised
	owed map[uint64]owedIn // by reader id

	newest  int64            // boot time of its newest record as far as it was read or written, in ns; 0 if unknown
	earlier *bootEnd         // of the boot it is from, if that is not the one that runs; set while opening
	clocks  []clockReading   // of its clock records, while opening
	gone    bool             // taken out of the log: the file may hold something else by now
	from    map[string]int64 // bytes by publisher, of those that have the most; of this process alone

	missing map[uint64]uint64 // messages by reader that were found missing while opening, and are owed no more

	corrupt  bool   // part of it cannot be read; the maintainer's
	measured uint64 // settled messages of its readers when bytes was counted again; the maintainer's
}

// segmentList is the log, oldest segment first. Guarded by Journal.mu.
type segmentList []*segment

// newest returns the last segment, nil if there is none.
func (l segmentList) newest() *segment {
	if len(l) == 0 {
		return nil
	}
	return l[len(l)-1]
}

// owedBehind is how many messages a reader is owed in the segments after s.
func (l segmentList) owedBehind(reader uint64, s *segment) (n uint64) {
	for _, other := range l {
		if other.base > s.base {
			n += other.owed[reader].count
		}
	}
	return n
}

// without returns the list without s.
func (l segmentList) without(s *segment) segmentList {
	return slices.DeleteFunc(l, func(o *segment) bool { return o == s })
}

func segmentName(id uint64) string { return fmt.Sprintf("%016x", id) + segSuffix }

func (s *segment) name() string { return segmentName(s.id) }

func snapshotName(n uint64) string { return fmt.Sprintf("%016x", n) + snapSuffix }

// note adds a message of a frame with a body of length bytes.
func (s *segment) note(reader, seq uint64, length int) {
	in := s.owed[reader]
	s.owed[reader] = owedIn{in.count + 1, seq, in.bytes + uint64(align(frameHeader+length))}
}

// parseName returns the number in the name of a segment or checkpoint.
func parseName(name, suffix string) (uint64, bool) {
	stem, ok := strings.CutSuffix(name, suffix)
	if !ok || len(stem) != 16 || strings.ToLower(stem) != stem {
		return 0, false
	}
	n, err := strconv.ParseUint(stem, 16, 64)
	return n, err == nil
}

// newSalt returns an unpredictable salt.
func newSalt() uint32 {
	var b [4]byte
	rand.Read(b[:]) // never fails: crypto/rand ends the process instead
	return binary.LittleEndian.Uint32(b[:])
}

// bootID identifies this boot of the kernel; zeros where it does not say.
func bootID() (id [16]byte) {
	text, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return id
	}
	b, err := hex.DecodeString(strings.ReplaceAll(strings.TrimSpace(string(text)), "-", ""))
	if err == nil {
		copy(id[:], b)
	}
	return id
}
