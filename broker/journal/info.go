package journal

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Info is a summary of a journal.
type Info struct {
	Dir      string
	Format   int   // version of the newest segment, 0 without one
	Size     int64 // bytes of the log's segments
	Unused   int64 // bytes of files that hold nothing needed and wait for use
	Segments int
	Messages uint64 // sequence numbers given out: one less than the next
	Holder   int    // pid of the process that has it open, 0 without
	Readers  []ReaderView
	Retained int
	State    int // keys
	Losses   int // ranges
	Lost     uint64
	Snapshot SnapshotView // the newest that can be read; its Number is 0 without one
	Clock    Time         // of the newest record; zero without one
	Recovery Recovery     // what the next Open will find; nothing was renamed
	Aside    []string     // corrupt files, quarantined earlier
	Ledger   Ledger
	Capacity int64 // bytes of the file system that the journal is on; 0 if it does not say
}

// ReaderView is a reader and its oldest pending message.
type ReaderView struct {
	ReaderInfo
	Oldest     uint64 // sequence number, 0 if nothing waits or the message is damaged
	OldestTime Time
}

// SnapshotView is a checkpoint on disk.
type SnapshotView struct {
	Number uint64
	Size   int64
	Time   time.Time
}

// Info summarises the journal. It reads at most a segment for each reader.
func (v *View) Info() Info {
	j := v.j
	info := Info{
		Dir: v.dir.dir, Segments: len(j.segments), Messages: j.queue.nextSeq - 1, Holder: v.holder,
		Retained: len(j.state.retained), State: len(j.state.keys), Losses: len(j.losses.ranges), Recovery: j.recovery,
		Ledger: j.figures.before,
	}
	info.Capacity, _, _ = Space(v.dir.dir) // 0 if it is unknown
	logged := map[string]bool{}
	for _, s := range j.segments {
		logged[s.name()] = true
	}
	for _, f := range v.files {
		_, seg := parseName(f.Name, segSuffix)
		switch {
		case logged[f.Name]:
			info.Size += f.Size
		case seg:
			info.Unused += f.Size
		case strings.HasSuffix(f.Name, quarantineSuffix):
			info.Aside = append(info.Aside, f.Name)
		}
		if n := len(j.checkpoints.kept); n > 0 && f.Name == snapshotName(j.checkpoints.kept[n-1].n) {
			info.Snapshot = SnapshotView{Number: j.checkpoints.kept[n-1].n, Size: f.Size}
			if st, err := os.Stat(filepath.Join(v.dir.dir, f.Name)); err == nil {
				info.Snapshot.Time = st.ModTime()
			}
		}
	}
	for _, l := range j.losses.ranges {
		info.Lost += l.Count
	}
	if n := len(j.segments); n > 0 {
		_ = v.walk(j.segments[n-1], func(r *Record) error { info.Clock = r.Time; return nil }, nil)
		info.Format = v.format(j.segments[n-1])
	}
	for _, r := range j.Readers() {
		rv := ReaderView{ReaderInfo: r}
		if r.Depth > 0 {
			rv.Oldest, rv.OldestTime = v.oldest(j.readers.byName[r.Name])
		}
		info.Readers = append(info.Readers, rv)
	}
	return info
}

// format is the version in the header of s, from the copy that is whole; 0 if it cannot be read.
func (v *View) format(s *segment) int {
	f, ok, err := v.openSegment(s)
	if !ok || err != nil {
		return 0
	}
	defer f.Close()
	b := make([]byte, 2*headerCopy)
	if n, _ := f.ReadAt(b, 0); n == len(b) && string(b[:8]) != magic {
		b = b[headerCopy:]
	}
	return int(binary.LittleEndian.Uint32(b[8:]))
}

// errStop ends a walk early.
var errStop = errors.New("stop")

func (v *View) oldest(r *Reader) (seq uint64, t Time) {
	for _, s := range v.j.segments {
		if in, ok := s.owed[r.id]; !ok || in.last < r.backlog.cursor() {
			continue
		}
		_ = v.walk(s, func(rec *Record) error {
			if slices.ContainsFunc(rec.Owed, func(o RecordOwed) bool { return o.Reader == r.reg.name && o.Waits }) {
				seq, t = rec.Seq, rec.Time
				return errStop
			}
			return nil
		}, nil)
		if seq != 0 {
			break
		}
	}
	return seq, t
}

// SegmentView is one file of the log.
type SegmentView struct {
	Name       string
	Base, Next uint64            // sequence numbers from Base to Next-1
	From, To   Time              // of its beginning and its newest record; To is zero if it is not known
	Used       int64             // bytes
	Size       int64             // of the file
	Waiting    map[string]uint64 // messages by reader
	Unused     bool              // holds nothing needed
}

// Segments lists the segment files in the order of the log, and then those that are unused. It reads
// those with a reader's position, and the newest.
func (v *View) Segments() []SegmentView {
	sizes := map[string]int64{}
	for _, f := range v.files {
		sizes[f.Name] = f.Size
	}
	var views []SegmentView
	for i, s := range v.j.segments {
		sv := SegmentView{
			Name: s.name(), Base: s.base, Next: s.next, Used: s.end, Size: sizes[s.name()], From: s.since(s.clock, s.clock.boot),
		}
		last := i == len(v.j.segments)-1
		switch {
		case s.wall != 0:
			sv.To = Time{Wall: time.Unix(0, s.wall), Synced: true}
		case !last:
			next := v.j.segments[i+1].clock
			sv.To = v.j.segments[i+1].since(next, next.boot)
		}
		var exact bool
		if sv.Waiting, exact = v.waiting(s); !exact || last {
			sv.Waiting = map[string]uint64{}
			_ = v.walk(s, func(r *Record) error {
				sv.To = r.Time
				for _, o := range r.Owed {
					if o.Waits {
						sv.Waiting[o.Reader]++
					}
				}
				return nil
			}, nil)
		}
		views = append(views, sv)
	}
	for _, name := range v.r.free {
		views = append(views, SegmentView{Name: name, Size: sizes[name], Unused: true})
	}
	return views
}

// waiting counts what is pending for readers in s. It is exact if no reader's position is in the middle of s.
func (v *View) waiting(s *segment) (counts map[string]uint64, exact bool) {
	counts, exact = map[string]uint64{}, true
	for id, in := range s.owed {
		r, ok := v.j.readers.byID[id]
		switch {
		case !ok || r.reg.durable.cursor() > in.last:
		case r.reg.durable.top <= s.base:
			counts[r.reg.name] = in.count
		default:
			exact = false
		}
	}
	return counts, exact
}
