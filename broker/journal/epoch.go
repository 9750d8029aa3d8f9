package journal

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"strings"
	"time"
)

// Epoch names one start of the process on one journal. Number is larger than any that the journal or the file
// beside it has seen; Nonce is random, so that no two starts have the same Epoch even where both went back in time.
// The zero Epoch is that of all starts before there were epochs.
type Epoch struct{ Number, Nonce uint64 }

func (e Epoch) String() string { return fmt.Sprintf("%d-%016x", e.Number, e.Nonce) }

const (
	// startFile is beside the journal's directory and has the journal's position. It is written at
	// the start, after the first commit, with checkpoints and at the end: never for a message.
	startFile = "journal.start"
	// startsKey holds the journal's identity and its epochs: 16 bytes, then for each epoch the first sequence
	// number, number and nonce as varints. It is in front of each segment and in checkpoints.
	startsKey    = "journal/starts"
	maxStarts    = 64 // epochs that are remembered; records of older ones count as the present one's
	identitySize = 16

	// interruptionKey holds the newest Interruption: epoch, first, wall and boot time in ns and synced as varints,
	// then the 16 bytes of the boot.
	interruptionKey = "journal/interruption"
	// lossesEach is how many losses an epoch numbers. After an interruption numbers go on behind its epoch times that,
	// so that no loss gets the ID of one that the journal has forgotten.
	lossesEach = 1 << 32
)

// Interruption is a start that found an unknown number of messages lost (Recovery.Unknown). What the journal held
// before it may be older than what was done since: numbers may have been given, and messages handed out, that it
// does not know of. It is on disk before anything of that start is. The zero Interruption is none.
type Interruption struct {
	Epoch uint64 // Number of the start's
	First uint64 // the first sequence number that the start gave out
	Time  Time   // of the start; how long ago it was at least: Journal.Waited
}

// Interruption returns the newest one.
func (j *Journal) Interruption() Interruption { return j.epochs.interruption }

// encode is for interruptionKey. boot is that of the start.
func (i *Interruption) encode(boot [16]byte) (b []byte) {
	synced := uint64(0)
	if i.Time.Synced {
		synced = 1
	}
	for _, v := range []uint64{i.Epoch, i.First, uint64(i.Time.Wall.UnixNano()), uint64(i.Time.Boot), synced} {
		b = binary.AppendUvarint(b, v)
	}
	return append(b, boot[:]...)
}

// decodeInterruption returns the zero Interruption for bytes that are none. boot is the one that runs.
func decodeInterruption(b []byte, boot [16]byte) Interruption {
	p := parser{b: b}
	i := Interruption{Epoch: p.uvarint(), First: p.uvarint()}
	i.Time.Wall, i.Time.Boot, i.Time.Synced = time.Unix(0, int64(p.uvarint())), time.Duration(p.uvarint()), p.uvarint() == 1
	if p.err != nil || len(p.b) != len(boot) {
		return Interruption{}
	}
	if boot == ([16]byte{}) || !bytes.Equal(p.b, boot[:]) {
		i.Time.Boot, i.Time.Earlier = 0, true
	}
	return i
}

// epochs are the starts that the journal has seen. They do not change after Open.
type epochs struct {
	identity     []byte  // of the journal; nil if it has none yet
	starts       []begun // ascending, the present one last
	interruption Interruption
}

// begun is an epoch and the first sequence number that it gave out.
type begun struct {
	first uint64
	epoch Epoch
}

// load takes in the value of startsKey.
func (e *epochs) load(value []byte) {
	if len(value) < identitySize {
		return
	}
	e.identity = slices.Clone(value[:identitySize])
	p := parser{b: value[identitySize:]}
	for len(p.b) > 0 && p.err == nil {
		s := begun{p.uvarint(), Epoch{p.uvarint(), p.uvarint()}}
		if p.err == nil {
			e.starts = append(e.starts, s)
		}
	}
}

// encode returns the value of startsKey.
func (e *epochs) encode() []byte {
	b := slices.Clone(e.identity)
	for _, s := range e.starts {
		for _, v := range []uint64{s.first, s.epoch.Number, s.epoch.Nonce} {
			b = binary.AppendUvarint(b, v)
		}
	}
	return b
}

// begin adds a start whose first sequence number is next, and forgets those of which the log, whose oldest number is
// oldest, holds nothing.
func (e *epochs) begin(epoch Epoch, next, oldest uint64) {
	e.starts = slices.DeleteFunc(e.starts, func(s begun) bool { return s.first >= next }) // nothing of theirs is left
	e.starts = append(e.starts, begun{next, epoch})
	for len(e.starts) > maxStarts || len(e.starts) > 1 && e.starts[1].first <= oldest {
		e.starts = e.starts[1:]
	}
}

// next is a number above all that the journal and the record beside it, which may be nil, have seen.
func (e *epochs) next(w *startRecord) (n uint64) {
	for _, s := range e.starts {
		n = max(n, s.epoch.Number)
	}
	if w != nil {
		n = max(n, w.Epoch.Number)
	}
	return n + 1
}

// has reports whether the journal has seen that start.
func (e *epochs) has(epoch Epoch) bool {
	return slices.ContainsFunc(e.starts, func(s begun) bool { return s.epoch == epoch })
}

// isOf reports whether a record is of this journal, or may be.
func (e *epochs) isOf(w *startRecord) bool {
	return e.identity == nil || bytes.Equal(e.identity, w.Journal)
}

// startRecord is the content of startFile: one line of JSON with its CRC-32C in front.
type startRecord struct {
	Version int       `json:"version"`
	Journal []byte    `json:"journal"`        // identity
	Epoch   Epoch     `json:"epoch"`          // of the newest start
	Used    bool      `json:"used,omitempty"` // the journal has a record of that epoch
	Next    uint64    `json:"next"`           // every sequence number below was on disk
	Time    time.Time `json:"time"`           // by a clock that may be wrong
}

func (r *startRecord) encode() []byte {
	b, _ := json.Marshal(r) // of plain fields: cannot fail
	return fmt.Appendf(nil, "%08x %s\n", crc32.Checksum(b, castagnoli), b)
}

// decodeStart returns false for bytes that are no record.
func decodeStart(b []byte) (*startRecord, bool) {
	sum, text, ok := bytes.Cut(bytes.TrimRight(b, "\n"), []byte(" "))
	r := &startRecord{}
	if !ok || string(sum) != fmt.Sprintf("%08x", crc32.Checksum(text, castagnoli)) || json.Unmarshal(text, r) != nil {
		return nil, false
	}
	return r, r.Version == 1 && len(r.Journal) == identitySize
}

// readStart returns the record beside the journal; nil if there is none that can be read.
func (j *Journal) readStart() *startRecord {
	if j.opts.Beside == nil {
		return nil
	}
	f, err := j.opts.Beside.Open(startFile, false)
	if err != nil {
		return nil
	}
	defer f.Close()
	b, err := io.ReadAll(io.NewSectionReader(f, 0, 4096))
	r, ok := decodeStart(b)
	if err != nil || !ok {
		j.log.Warn("journal: the file beside it cannot be read; whether the journal went back in time is not known", "file", startFile, "error", err)
		return nil
	}
	return r
}

// writeStart replaces the file beside the journal, durably.
func (j *Journal) writeStart(r startRecord) error {
	beside := j.opts.Beside
	f, err := beside.Open(startFile+tempSuffix, true)
	if err == nil {
		b := r.encode()
		for len(b) < sector { // over a longer one that was left half written
			b = append(b, '\n')
		}
		if _, err = f.WriteAt(b, 0); err == nil {
			err = f.Datasync()
		}
		if e := f.Close(); err == nil {
			err = e
		}
	}
	if err == nil {
		err = beside.Rename(startFile+tempSuffix, startFile)
	}
	if err == nil {
		err = beside.SyncDir()
	}
	if err != nil {
		return fmt.Errorf("%s: %w", startFile, err)
	}
	return nil
}

// beginEpoch gives this start its epoch. No goroutine runs yet.
func (j *Journal) beginEpoch(w *startRecord) {
	if j.opts.Beside == nil {
		return
	}
	if j.epochs.identity == nil {
		j.epochs.identity = make([]byte, identitySize)
		rand.Read(j.epochs.identity)
		if j.queue.nextSeq > 1 && len(j.recovery.Unknown) == 0 {
			j.epochs.starts = []begun{{1, Epoch{}}} // by a version without epochs
		}
	}
	e := Epoch{Number: j.epochs.next(w)}
	var nonce [8]byte
	rand.Read(nonce[:])
	e.Nonce = binary.LittleEndian.Uint64(nonce[:])
	oldest := j.queue.nextSeq
	if len(j.segments) > 0 {
		oldest = min(oldest, j.segments[0].base)
	}
	j.epochs.begin(e, j.queue.nextSeq, oldest)
	j.state.keys[startsKey] = j.epochs.encode()
	if len(j.recovery.Unknown) > 0 {
		i := Interruption{e.Number, j.queue.nextSeq, j.Now()}
		j.epochs.interruption = i
		j.state.keys[interruptionKey] = i.encode(j.clock.bootID)
	}
}

// Epoch returns this start's epoch; zero without Options.Beside.
func (j *Journal) Epoch() Epoch {
	if len(j.epochs.starts) == 0 {
		return Epoch{}
	}
	return j.epochs.starts[len(j.epochs.starts)-1].epoch
}

// EpochOf returns the epoch in which the message was appended: with seq, it names the message for good. For messages
// from before the epochs that are remembered it returns the present one.
func (j *Journal) EpochOf(seq uint64) Epoch {
	for _, s := range slices.Backward(j.epochs.starts) {
		if s.first <= seq {
			return s.epoch
		}
	}
	return j.Epoch()
}

// noteStart writes the journal's position to the file beside it.
func (k *maintainer) noteStart(used bool) error {
	j := k.j
	if j.opts.Beside == nil {
		return nil
	}
	j.mu.Lock()
	if s := j.segments.newest(); s != nil {
		k.start.Next = max(k.start.Next, s.next)
	}
	j.mu.Unlock()
	k.start.Version, k.start.Journal, k.start.Epoch, k.start.Used, k.start.Time = 1, j.epochs.identity, j.Epoch(), used, time.Now().UTC()
	return j.writeStart(k.start)
}

// judge compares what was recovered with the file beside the journal, and records a loss of an unknown number of
// messages where they differ. at is where the checkpoint ends; dead are segments of which nothing is left.
func (j *Journal) judge(w *startRecord, at position, dead map[uint64]bool) {
	j.epochs.load(j.state.keys[startsKey])
	j.epochs.interruption = decodeInterruption(j.state.keys[interruptionKey], j.clock.bootID)
	unknown := func(format string, args ...any) {
		if len(j.recovery.Unknown) == 0 {
			j.losses.jump(j.epochs.next(w) * lossesEach)
		}
		j.recovery.Unknown = append(j.recovery.Unknown, fmt.Sprintf(format, args...))
	}
	empty := len(j.checkpoints.kept) == 0 && len(j.segments) == 0
	if w != nil && (w.Used || w.Next > 1) {
		switch {
		case empty:
			unknown("it is empty, and was in use until %s", w.Time.Format(time.RFC3339))
		case !j.epochs.isOf(w):
			j.recovery.Rewound = true
			unknown("it is another gateway's: got identity %x, want %x", j.epochs.identity, w.Journal)
		case w.Used && !j.epochs.has(w.Epoch):
			j.recovery.Rewound = true
			unknown("it went back in time: it does not have start %v of %s", w.Epoch, w.Time.Format(time.RFC3339))
		case j.queue.nextSeq < w.Next:
			j.recovery.Rewound = true
			unknown("it went back in time: it ends at message %d, and had %d or more", j.queue.nextSeq-1, w.Next-1)
		}
		if j.epochs.isOf(w) && j.queue.nextSeq < w.Next {
			j.unknownLoss(j.queue.nextSeq, w.Next-1)
			j.queue.nextSeq = w.Next // so that no number is given twice
		}
	}
	if len(j.checkpoints.kept) == 0 && slices.ContainsFunc(j.recovery.Aside, func(name string) bool { return strings.Contains(name, snapSuffix) }) {
		unknown("no snapshot can be read: sessions, retained messages and what only they told are gone")
	} else if n := len(j.segments); len(j.checkpoints.kept) == 0 && n > 0 && j.segments[0].previous != 0 && !j.segments[0].compacted {
		unknown("there is no snapshot, and the log begins in its middle")
	}
	if dead[at.segment] {
		unknown("the segment that the snapshot ends in (%s) is missing or holds nothing: what came after is not known", segmentName(at.segment))
	}
	if empty && len(j.recovery.Unknown) == 0 && len(j.recovery.Aside) > 0 {
		unknown("none of its files can be read")
	}
	if len(j.recovery.Unknown) == 0 {
		return
	}
	lost := func(r *Reader, name string) {
		j.findLoss(r, Loss{Reader: name, First: j.queue.nextSeq, Last: j.queue.nextSeq, Reason: ReasonUnknown})
	}
	for _, r := range j.readers.byID {
		lost(r, r.reg.name)
	}
	if len(j.readers.byID) == 0 {
		lost(nil, "")
	}
	j.checkpoints.wanted = true
	j.log.Error("journal: an unknown number of messages is lost", "why", j.recovery.Unknown, "from", j.queue.nextSeq, "of_readers", len(j.readers.byID))
}

// unknownHeader returns what is wrong with the header of a segment's file, nil if it is a header, or empty.
func (j *Journal) unknownHeader(s *segment) error {
	f, err := j.fs.Open(s.name(), false)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err = readHeader(f); errors.Is(err, errUnused) {
		return nil
	}
	return err
}

// holdsNothing reports whether the file of a segment that a checkpoint names holds none of its frames: it was
// zeroed, or it is a copy from another time.
func (j *Journal) holdsNothing(s *segment, size int64) bool {
	if s.end <= headerSize {
		return false
	}
	f, err := j.fs.Open(s.name(), false)
	if err != nil {
		return false // its readers find the damage
	}
	defer f.Close()
	if h, err := readHeader(f); err == nil && h.id == s.id && h.salt == s.salt {
		var first [sector]byte
		if n, _ := f.ReadAt(first[:], headerSize); n > 0 && len(bytes.TrimLeft(first[:n], "\x00")) > 0 {
			return false
		}
	}
	_, ok := newScanner(f, &s.header, headerSize, min(s.end, size), nil).next()
	return !ok
}
