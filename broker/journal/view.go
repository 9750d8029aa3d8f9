package journal

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// View is a journal as it stood at one moment, for looking at it without taking it: no lock, no
// write, beside a running process that goes on appending, dropping and recycling. It is recovered by
// the code that opens a journal, so it shows what the next Open will find.
//
// What was acknowledged since the last commit still shows as waiting: it is not on disk yet.
// A View holds state and retained messages in memory, as the journal itself does, and no backlog.
type View struct {
	j      *Journal
	dir    *DirFS
	r      *recovered
	holder int // pid of the process that has the journal open, 0 without
	files  []FileInfo

	// Progress, if set, is called during long reads with the bytes that are done of a total.
	Progress func(done, total int64)
	// Recycled counts segments that a running process took out of the log while they were read.
	Recycled int
}

// viewTries is how often a directory that changes under the view is read again.
const viewTries = 20

// Inspect looks at the journal in dir. It fails if there is none, or none that this user can read.
func Inspect(dir string) (*View, error) {
	if err := checkJournalDir(dir); err != nil {
		return nil, err
	}
	return inspect(&DirFS{dir})
}

func inspect(d *DirFS) (*View, error) {
	var v *View
	for range viewTries {
		before, err := d.List()
		if err != nil {
			return nil, fmt.Errorf("journal: %w", err)
		}
		v = &View{j: newView(viewFS{d}), dir: d, holder: lockHolder(d.dir), files: before}
		if v.r, err = v.j.recover(v.j.readStart()); err != nil {
			return nil, fmt.Errorf("journal: %s: %w", d.dir, err)
		}
		after, err := d.List()
		if err != nil {
			return nil, fmt.Errorf("journal: %w", err)
		}
		// Damage that shows while a process writes may be a file that was renamed or half written.
		if sameNames(before, after) && (v.holder == 0 || len(v.j.recovery.Aside) == 0) {
			return v, nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	if len(v.j.recovery.Aside) > 0 { // at every try
		return v, nil
	}
	return nil, fmt.Errorf("journal: %s: files change faster than they can be read: try again under less load", d.dir)
}

// Records calls f for the records that are on disk, as View.Records does, beside the journal that goes on. It takes
// no memory beside a buffer: the readers of a message are numbers, and none of them waits.
func (j *Journal) Records(sel Select, f func(*Record) error) error {
	v := &View{j: newView(j.fs), holder: os.Getpid()}
	j.mu.Lock()
	for _, s := range j.segments {
		v.j.segments = append(v.j.segments, &segment{header: s.header, end: s.end, next: s.next, earlier: s.earlier})
	}
	j.mu.Unlock()
	return v.Records(sel, f)
}

// newView returns a journal in memory that nothing runs in.
func newView(f FS) *Journal {
	opts := Options{FS: f}
	if v, ok := f.(viewFS); ok {
		opts.Beside = viewFS{&DirFS{filepath.Dir(filepath.Clean(v.dir))}}
	}
	opts.setDefaults()
	return newJournal(opts)
}

// checkJournalDir returns an error with the remedy if dir is no journal.
func checkJournalDir(dir string) error {
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("journal: %s: no such directory: name the data_dir of a gateway that has run", dir)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("journal: %s: permission denied: call as the user that the gateway runs as, or as root", dir)
	case err != nil:
		return fmt.Errorf("journal: %w", err)
	case !info.IsDir():
		return fmt.Errorf("journal: %s: is no directory: name the data_dir of a gateway", dir)
	}
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("journal: %s: permission denied: call as the user that the gateway runs as, or as root", dir)
	}
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	for _, e := range entries {
		_, seg := parseName(e.Name(), segSuffix)
		_, snap := parseName(e.Name(), snapSuffix)
		if seg || snap || e.Name() == lockName || strings.HasSuffix(e.Name(), quarantineSuffix) {
			return nil
		}
	}
	return fmt.Errorf("journal: %s: holds no journal: name the data_dir of a gateway that has run", dir)
}

func sameNames(a, b []FileInfo) bool {
	names := func(fs []FileInfo) (n []string) {
		for _, f := range fs {
			n = append(n, f.Name)
		}
		slices.Sort(n)
		return n
	}
	return slices.Equal(names(a), names(b))
}

// viewFS is a directory that is only read. What recovery would rename or remove stays.
type viewFS struct{ *DirFS }

func (v viewFS) Open(name string, write bool) (File, error) {
	if write {
		return nil, &fs.PathError{Op: "open", Path: name, Err: syscall.EROFS}
	}
	return v.DirFS.Open(name, false)
}

func (viewFS) Rename(string, string) error { return nil }
func (viewFS) Remove(string) error         { return nil }
func (viewFS) SyncDir() error              { return nil }

// lockHolder returns the process that has the journal in dir open, 0 if none has. Trying the lock
// would for a moment keep a gateway from starting, so the kernel is asked (proc_locks(5)).
func lockHolder(dir string) int {
	info, err := os.Stat(filepath.Join(dir, lockName))
	if err != nil {
		return 0
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0
	}
	locks, err := os.ReadFile("/proc/locks")
	if err != nil {
		return 0
	}
	inode := ":" + strconv.FormatUint(st.Ino, 10)
	for sc := bufio.NewScanner(bytes.NewReader(locks)); sc.Scan(); {
		f := strings.Fields(sc.Text()) // 1: FLOCK  ADVISORY  WRITE 1234 08:01:5678 0 EOF
		if len(f) >= 6 && f[1] == "FLOCK" && strings.HasSuffix(f[5], inode) {
			pid, _ := strconv.Atoi(f[4])
			return pid
		}
	}
	return 0
}

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
		Dir: v.dir.dir, Segments: len(j.segments), Messages: j.nextSeq - 1, Holder: v.holder,
		Retained: len(j.retained), State: len(j.state), Losses: len(j.losses), Recovery: j.recovery,
		Ledger: j.before,
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
		if n := len(j.snaps); n > 0 && f.Name == snapshotName(j.snaps[n-1].n) {
			info.Snapshot = SnapshotView{Number: j.snaps[n-1].n, Size: f.Size}
			if st, err := os.Stat(filepath.Join(v.dir.dir, f.Name)); err == nil {
				info.Snapshot.Time = st.ModTime()
			}
		}
	}
	for _, l := range j.losses {
		info.Lost += l.Count
	}
	if n := len(j.segments); n > 0 {
		_ = v.walk(j.segments[n-1], func(r *Record) error { info.Clock = r.Time; return nil }, nil)
		info.Format = v.format(j.segments[n-1])
	}
	for _, r := range j.Readers() {
		rv := ReaderView{ReaderInfo: r}
		if r.Depth > 0 {
			rv.Oldest, rv.OldestTime = v.oldest(j.readers[r.Name])
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
		if in, ok := s.owed[r.id]; !ok || in.last < r.cursor() {
			continue
		}
		_ = v.walk(s, func(rec *Record) error {
			if slices.ContainsFunc(rec.Owed, func(o RecordOwed) bool { return o.Reader == r.name && o.Waits }) {
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
		r, ok := v.j.byID[id]
		switch {
		case !ok || r.durable.cursor() > in.last:
		case r.durable.top <= s.base:
			counts[r.name] = in.count
		default:
			exact = false
		}
	}
	return counts, exact
}

// Losses returns what was dropped, oldest first.
func (v *View) Losses() []Loss { return v.j.Losses() }

// Range is Journal.Range.
func (v *View) Range(prefix string, f func(key string, value []byte) bool) { v.j.Range(prefix, f) }

// Readers returns all readers, by name.
func (v *View) Readers() []ReaderInfo { return v.j.Readers() }

// Holder is the process that has the journal open, 0 if none has.
func (v *View) Holder() int { return v.holder }

func (v *View) total(segments []*segment) (n int64) {
	for _, s := range segments {
		n += s.end
	}
	return n
}

func (v *View) progress(done, total int64) {
	if v.Progress != nil {
		v.Progress(done, total)
	}
}

// openSegment opens the file of s, and returns false if it holds something else by now.
func (v *View) openSegment(s *segment) (File, bool, error) {
	f, err := v.j.fs.Open(s.name(), false)
	if errors.Is(err, fs.ErrNotExist) && v.holder != 0 {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	if !v.still(f, s) {
		f.Close()
		return nil, false, nil
	}
	return f, true, nil
}

// still reports whether the file of s still holds it: a running process may have given it to another
// segment. A header that cannot be read does not count as that.
func (v *View) still(f io.ReaderAt, s *segment) bool {
	if v.holder == 0 {
		return true
	}
	b := make([]byte, headerSize)
	if _, err := f.ReadAt(b, 0); err != nil {
		return true // damage, which the caller will meet
	}
	h, err := decodeHeader(b)
	return err != nil || h.salt == s.salt && h.id == s.id
}
