package journal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Recovery is what Open found.
type Recovery struct {
	Messages uint64   // read from the tail of the log
	Torn     int64    // bytes of a last batch that was never acknowledged
	Damaged  int64    // bytes that had been synchronised and cannot be read
	Aside    []string // quarantined: corrupt files, renamed and kept
	Foreign  []string // files that are none of the journal's, left alone
	Rewound  bool     // the journal is older than the file beside it, or another one
	Unknown  []string // why an unknown number of messages is lost; empty if all that is lost is known
}

// Recovery returns what Open found.
func (j *Journal) Recovery() Recovery { return j.recovery }

// recovered is what recovery passes to the maintainer.
type recovered struct {
	lastID       uint64   // the highest segment id seen
	lastSnapshot uint64   // the highest checkpoint number seen
	free         []string // segment files that hold nothing
	files        int      // segment files in total
}

// recover brings memory to the state of the log: the newest checkpoint that can be read, and what the
// log holds after it. It changes nothing on disk but the names of corrupt files.
func (j *Journal) recover(start *startRecord) (*recovered, error) {
	files, err := j.fs.List()
	if err != nil {
		return nil, err
	}
	r := &recovered{}
	var snaps, segs []uint64
	sizes := map[uint64]int64{}
	for _, f := range files {
		if n, ok := parseName(f.Name, snapSuffix); ok {
			snaps = append(snaps, n)
			r.lastSnapshot = max(r.lastSnapshot, n)
		} else if n, ok := parseName(f.Name, segSuffix); ok {
			segs = append(segs, n)
			sizes[n] = f.Size
			r.lastID = max(r.lastID, n)
		} else if strings.HasSuffix(f.Name, snapSuffix+tempSuffix) {
			if err := j.fs.Remove(f.Name); err != nil { // never finished, so never relied on
				j.log.Warn("journal: an unfinished snapshot cannot be removed", "file", f.Name, "error", err)
			}
		} else if f.Name != lockName && !strings.HasSuffix(f.Name, quarantineSuffix) {
			j.recovery.Foreign = append(j.recovery.Foreign, f.Name)
		}
	}
	slices.Sort(segs)
	slices.Sort(snaps)
	at, err := j.loadSnapshot(snaps)
	if err != nil {
		return nil, err
	}
	behind := j.queue.nextSeq // what is known of until here
	if last := j.segments.newest(); last != nil {
		behind = last.next // a checkpoint's next number counts what was not on disk yet
	}
	known := map[uint64]*segment{}
	ends := map[*segment]int64{} // by the checkpoint
	dead := map[uint64]bool{}    // of which nothing is left
	for _, s := range j.segments {
		known[s.id], ends[s] = s, s.end
		if size, ok := sizes[s.id]; ok && j.holdsNothing(s, size) {
			dead[s.id] = true
			if why := j.unknownHeader(s); why != nil {
				j.quarantine(s.name(), why)
			} else {
				r.free = append(r.free, s.name())
			}
		}
		if size, ok := sizes[s.id]; ok {
			s.end = max(headerSize, min(s.end, size)) // records that were cut off are missing, and noticed
		}
	}
	there := slices.DeleteFunc(slices.Clone(segs), func(id uint64) bool { return dead[id] })
	left := map[uint64]bool{}
	for _, id := range there {
		left[id] = true
	}
	if _, ok := slices.BinarySearch(segs, at.segment); at.segment > 0 && !ok {
		dead[at.segment] = true
	}
	tail, err := j.openTail(there, sizes, known, at, r)
	if err != nil {
		return nil, err
	}
	for i, t := range tail {
		if (i > 0 || len(j.checkpoints.kept) > 0) && !t.compacted && behind < t.previousNext && t.segment.next == t.base {
			j.unknownLoss(behind, t.previousNext-1)
		}
		t.replay(j)
		behind = max(behind, t.segment.next)
	}
	j.writeOff(ends, left)
	r.files = len(r.free) + len(j.segments)
	cut := len(j.checkpoints.kept) == 0 && len(j.segments) > 0 && (j.segments[0].previous != 0 || j.segments[0].compacted)
	if cut {
		j.log.Error("journal: no snapshot: sessions and retained messages that are older than the log are gone",
			"oldest_segment", j.segments[0].name())
	}
	if cut || len(j.losses.found)+len(j.recovery.Aside)+len(dead) > 0 || j.recovery.Damaged > 0 || !j.readers.countsFit() {
		j.recount(ends)
	}
	if last := j.segments.newest(); last != nil {
		j.queue.nextSeq = max(j.queue.nextSeq, last.next)
	}
	j.judge(start, at, dead)
	if j.recovery.Damaged > 0 || len(j.recovery.Aside) > 0 {
		j.log.Error("journal: damage found", "bytes", j.recovery.Damaged, "set_aside", j.recovery.Aside)
	}
	j.figures.damaged.Store(uint64(j.recovery.Damaged))
	j.placeBoots()
	return r, nil
}

// quarantineName returns the name for a quarantined file. An earlier one of that name stays.
func quarantineName(files []FileInfo, name string) string {
	to := name + quarantineSuffix
	for n := 2; slices.ContainsFunc(files, func(f FileInfo) bool { return f.Name == to }); n++ {
		to = fmt.Sprintf("%s.%d%s", name, n, quarantineSuffix)
	}
	return to
}

// quarantine renames a corrupt file, so that a person can look at it.
func (j *Journal) quarantine(name string, why error) {
	files, _ := j.fs.List()
	to := quarantineName(files, name)
	j.log.Error("journal: damaged file quarantined", "file", name, "as", to, "error", why)
	j.recovery.Aside = append(j.recovery.Aside, to)
	if err := errors.Join(j.fs.Rename(name, to), j.fs.SyncDir()); err != nil {
		j.log.Error("journal: cannot quarantine", "file", name, "error", err)
	}
}

// loadSnapshot loads the newest checkpoint that is whole.
func (j *Journal) loadSnapshot(snaps []uint64) (position, error) {
	for i := len(snaps) - 1; i >= 0; i-- {
		name := snapshotName(snaps[i])
		b, err := j.readFile(name)
		var at position
		if err == nil {
			fresh := newJournal(j.opts)
			if at, err = fresh.decodeSnapshot(b); err == nil {
				j.adopt(fresh)
				j.checkpoints.size.Store(int64(len(b)))
				for _, n := range slices.Backward(snaps[:i]) {
					if reach := j.reach(n); reach > 0 && len(j.checkpoints.kept) == 0 {
						j.checkpoints.kept = append(j.checkpoints.kept, snapshotMark{n, reach})
					} else {
						j.checkpoints.stale = append(j.checkpoints.stale, n)
					}
				}
				j.checkpoints.kept = append(j.checkpoints.kept, snapshotMark{snaps[i], at.segment})
				return at, nil
			}
		}
		if errors.Is(err, errNewer) || !isDamage(err) {
			return position{}, fmt.Errorf("%s: %w", name, err)
		}
		j.quarantine(name, err)
	}
	return position{}, nil
}

// adopt takes over what a checkpoint holds.
func (j *Journal) adopt(fresh *Journal) {
	j.queue.nextSeq, j.figures.before = fresh.queue.nextSeq, fresh.figures.before
	j.state, j.readers, j.segments, j.losses = fresh.state, fresh.readers, fresh.segments, fresh.losses
	for _, r := range j.readers.byID {
		r.j = j
	}
}

// reach returns the segment that checkpoint n ends in, 0 if it cannot be read. It does not check the checkpoint
// itself, which matters only if the newer one is corrupt.
func (j *Journal) reach(n uint64) uint64 {
	f, err := j.fs.Open(snapshotName(n), false)
	if err != nil {
		return 0
	}
	defer f.Close()
	b := make([]byte, 12+binary.MaxVarintLen64)
	got, _ := f.ReadAt(b, 0)
	if got < 12 || snapshotVersion(b) == 0 {
		return 0
	}
	segment, _ := binary.Uvarint(b[12:got])
	return segment
}

// mostAtOnce bounds the memory that is reserved at once by a file's size. A larger file takes more as it is read.
const mostAtOnce = 64 << 20

func (j *Journal) readFile(name string) ([]byte, error) {
	files, err := j.fs.List()
	if err != nil {
		return nil, err
	}
	size := int64(0)
	for _, f := range files {
		if f.Name == name {
			size = f.Size
		}
	}
	f, err := j.fs.Open(name, false)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b := bytes.NewBuffer(make([]byte, 0, min(size, mostAtOnce)+bytes.MinRead))
	_, err = b.ReadFrom(io.NewSectionReader(f, 0, 1<<40))
	return b.Bytes(), err
}
