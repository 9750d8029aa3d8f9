package journal

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

const (
	keepInterval = time.Minute // how often max_age is looked at
	retryDelay   = time.Second // after a failure

	// mostRetryDelay is the longest time between attempts to write a checkpoint that fails.
	mostRetryDelay = 30 * time.Second
)

// preallocatedSegment is a file for a future segment: its name is durable, its blocks are reserved.
type preallocatedSegment struct {
	id      uint64
	file    File
	written int64 // how much of it was written in an earlier life
}

// maintainer is the goroutine that keeps the log within its limits: it writes checkpoints, reclaims and compacts
// segments, and preallocates the next one before the committer needs it.
type maintainer struct {
	j         *Journal
	lastID    uint64    // of a segment
	snapshots uint64    // number of the newest checkpoint
	free      []string  // names of files that hold nothing needed
	files     int       // segment files in total
	most      int       // as many as max_size allows
	least     int       // as many as there may be in any case, so that a loss can be written down
	unsynced  bool      // a checkpoint's name may not be durable
	compacts  bool      // not while the journal opens
	noSpace   time.Time // when a file could not be created although the file system reported space
	noSpaceAt int64     // the space reported then; with more of it, or later, another attempt is made
	retired   []retired
	start     startRecord // in the file beside the journal

	// Of the last attempt to write a checkpoint, if it failed: why, when, when to try again, and the space there was.
	snapErr    error
	snapFailed time.Time
	snapDelay  time.Duration
	snapSpace  int64
}

// reserved is how many of the files that max_size and keep_free allow are reserved back: one to write down what
// was dropped, one to compact into.
const reserved = 2

func (k *maintainer) run() {
	j := k.j
	defer j.ended.Done()
	timer := time.NewTimer(keepInterval)
	defer timer.Stop()
	k.compacts = true
	for {
		err := k.housekeeping()
		if err != nil {
			j.complaints.tell(j.log, "journal: housekeeping failed", err)
			timer.Reset(retryDelay)
		} else {
			timer.Reset(keepInterval)
		}
		select {
		case <-j.housekeeping:
		case <-timer.C:
		case <-j.stop:
			j.closeErr = errors.Join(k.snapshotNow(), k.syncNames())
			if j.closeErr == nil {
				j.closeErr = k.noteStart(true) // a checkpoint has the epoch
			}
			for _, s := range j.preallocated {
				s.file.Close()
			}
			return
		}
	}
}

// housekeeping is one round: a checkpoint if one is due, then the limits, reclaiming and preallocation.
func (k *maintainer) housekeeping() error {
	j := k.j
	j.mu.Lock()
	waited := j.waitingForSegment // before the checkpoint
	j.mu.Unlock()
	short := k.limit(0) == ReasonFree
	j.mu.Lock()
	every := j.every
	if len(j.preallocated) > 0 && !short && !waited {
		every *= 2 // wait for the sync of the next files' names
	}
	due := j.snapshotDue(every)
	j.mu.Unlock()
	var err error
	if due {
		err = k.snapshot()
	}
	if j.counters.commits.Load() > 0 && (due && err == nil || !k.start.Used) {
		err = errors.Join(err, k.noteStart(true))
	}
	k.expire()
	k.trim()
	k.reclaim()
	j.mu.Lock()
	if waited && len(j.preallocated) > 0 { // for the checkpoint, which was tried
		j.waitingForSegment, j.mayTakeLast = false, true
		j.room.Broadcast()
	}
	j.mu.Unlock()
	err = errors.Join(err, k.prepare(), k.giveBack())
	if k.unsynced {
		err = errors.Join(err, k.syncNames())
	}
	return err
}

// giveBack removes files that are not needed soon, or at a limit not at all.
func (k *maintainer) giveBack() error {
	for len(k.free) > 2*k.j.every || len(k.free) > 0 && k.limit(0) != "" {
		if err := k.j.fs.Remove(k.free[len(k.free)-1]); err != nil {
			return err
		}
		k.free = k.free[:len(k.free)-1]
		k.files--
	}
	return nil
}

// snapshotDue reports whether that many segments are newer than the last checkpoint. Called with mu held.
func (j *Journal) snapshotDue(segments int) bool {
	n := len(j.segments)
	if n == 0 || j.resnap {
		return j.resnap
	}
	if len(j.snaps) < 2 {
		segments = 1
	}
	return n >= segments && (len(j.snaps) == 0 || j.snaps[len(j.snaps)-1].segment < j.segments[n-segments].id)
}

// snapshot writes a checkpoint. Its name is durable no later than that of any file that it makes
// free: names change on disk in the order of their renames. So one sync serves both.
//
// After a failure it waits before the next attempt, longer each time, or until there is more space.
func (k *maintainer) snapshot() error {
	if k.snapErr != nil && time.Since(k.snapFailed) < k.snapDelay && k.space() <= k.snapSpace && !k.canSacrifice() {
		return k.snapErr
	}
	return k.snapshotNow()
}

func (k *maintainer) snapshotNow() error {
	j := k.j
	k.unsynced = true
	err := j.writeSnapshot(k.snapshots + 1)
	j.mu.Lock()
	named := len(j.snaps) > 0 && j.snaps[len(j.snaps)-1].n > k.snapshots
	j.mu.Unlock()
	if named {
		k.snapshots++
	}
	if noSpace(err) && k.sacrifice() {
		return k.snapshotNow()
	}
	if k.snapErr = err; err == nil {
		k.snapDelay = 0
		return nil
	}
	k.snapFailed, k.snapSpace = time.Now(), k.space()
	k.snapDelay = min(max(2*k.snapDelay, retryDelay), mostRetryDelay)
	return err
}

// snapshotTwice brings both checkpoints up to date.
func (k *maintainer) snapshotTwice() error {
	if err := k.snapshot(); err != nil {
		return err
	}
	return k.snapshot()
}

// sacrifice makes room for a checkpoint, without which nothing more would become free. It removes an unused file, but
// leaves one to write to unless a commit waits for a segment; as a last resort it removes the older checkpoint, for
// which all segments after it are kept.
func (k *maintainer) sacrifice() bool {
	free, preallocated, older := k.sacrifices()
	switch {
	case free:
		last := len(k.free) - 1
		if k.j.fs.Remove(k.free[last]) != nil {
			return false
		}
		k.free = k.free[:last]
		k.files--
		return true
	case preallocated:
		return k.givePreallocated()
	}
	return older && k.syncNames() == nil && k.forgetOlder()
}

func (k *maintainer) canSacrifice() bool {
	free, preallocated, older := k.sacrifices()
	return noSpace(k.snapErr) && (free || preallocated || older)
}

func (k *maintainer) sacrifices() (free, preallocated, older bool) {
	j := k.j
	j.mu.Lock()
	defer j.mu.Unlock()
	all := len(k.free) + len(j.preallocated)
	enough := all > 1 || all > 0 && j.waitingForSegment
	return enough && len(k.free) > 0, enough && len(j.preallocated) > 0, j.waitingForSegment && len(j.snaps) > 1
}

// givePreallocated removes the last of the next files.
func (k *maintainer) givePreallocated() bool {
	j := k.j
	j.mu.Lock()
	last := len(j.preallocated) - 1
	if last < 0 { // it was taken meanwhile
		j.mu.Unlock()
		return false
	}
	s := j.preallocated[last]
	j.preallocated = j.preallocated[:last]
	j.mu.Unlock()
	s.file.Close()
	if k.j.fs.Remove(segmentName(s.id)) != nil {
		k.free = append(k.free, segmentName(s.id))
		return false
	}
	k.files--
	return true
}

// forgetOlder removes the older checkpoint. The newer one is durable.
func (k *maintainer) forgetOlder() bool {
	j := k.j
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.fs.Remove(snapshotName(j.snaps[0].n)) != nil {
		return false
	}
	j.snaps = slices.Delete(j.snaps, 0, 1)
	return true
}

// noSpace reports whether err is that the file system, or the user's quota of it, is full.
func noSpace(err error) bool { return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) }

// space returns the bytes that the file system has left, 0 if that is not known.
func (k *maintainer) space() int64 {
	free, err := k.j.fs.Free()
	if err != nil {
		return 0
	}
	return free
}

// syncNames makes all names durable.
func (k *maintainer) syncNames() error {
	k.j.counters.syncs.Add(1)
	err := k.j.fs.SyncDir()
	if err != nil {
		k.j.counters.failures.Add(1)
		return fmt.Errorf("names of files: %w", err)
	}
	k.unsynced = false
	return nil
}

// recoveryNeeds reports whether a checkpoint ends before s does: the older one, or the newer one where segments at the
// end of the log were lost in between. Called with mu held.
func (j *Journal) recoveryNeeds(s *segment) bool {
	return len(j.snaps) == 0 || !s.compacted && slices.ContainsFunc(j.snaps, func(m snapshotMark) bool { return s.id >= m.segment })
}

// reclaimable reports whether neither a reader nor a recovery from either checkpoint needs s. Called
// with mu held.
func (j *Journal) reclaimable(s *segment) bool {
	if j.recoveryNeeds(s) {
		return false
	}
	for id, in := range s.owed {
		if r, ok := j.byID[id]; ok && r.durable.cursor() <= in.last {
			return false
		}
	}
	return true
}

// reclaim removes segments that are not needed from the log.
func (k *maintainer) reclaim() {
	j := k.j
	j.mu.Lock()
	defer j.mu.Unlock()
	k.free = append(k.free, j.unused...)
	j.unused = nil
	kept := j.segments[:0]
	for _, s := range j.segments {
		if j.reclaimable(s) {
			s.gone = true
			k.free = append(k.free, s.name())
		} else {
			kept = append(kept, s)
		}
	}
	clear(j.segments[len(kept):])
	j.segments = kept
	for len(k.retired) > 0 && len(j.snaps) > 1 && k.retired[0].snapshot < j.snaps[0].n {
		k.free = append(k.free, k.retired[0].name)
		k.retired = k.retired[1:]
	}
}

// begin makes room before the first commit, so that a loss that has to happen is on disk with it: a
// journal whose process dies again and again just after opening does not grow.
func (k *maintainer) begin() {
	k.reclaim()
	_ = k.makeRoom() // run tries again, and logs the error
}

// first records this start in the file beside the journal. The losses that recovery found are on disk before that: the
// next start would not find them again.
func (k *maintainer) first() {
	if k.j.opts.Beside == nil {
		return
	}
	var err error
	if len(k.j.recovery.Unknown) > 0 {
		err = errors.Join(k.snapshot(), k.syncNames())
	}
	if err == nil {
		err = k.noteStart(false)
	}
	if err != nil {
		k.j.log.Warn("journal: a journal that goes back in time may not be noticed", "error", err)
	}
}

// prepare preallocates a segment, or returns why it cannot. It uses the reserve only when a
// commit cannot go on without it, and returns it afterwards. That commit records what was dropped
// (committer.roll), so there is always a file that can be used again.
func (k *maintainer) prepare() error {
	j := k.j
	failed := k.makeRoom()
	j.mu.Lock()
	need, waitingForSegment := len(j.preallocated) == 0, j.waitingForSegment
	j.mu.Unlock()
	if !need {
		return failed
	}
	preallocated, err := k.next(waitingForSegment)
	if noSpace(err) && j.opts.WhenFull == DropOldest { // limit did not report that
		if failed = k.makeRoom(); len(k.free) > 0 || waitingForSegment {
			preallocated, err = k.next(waitingForSegment)
		}
	}
	if preallocated == nil && err == nil {
		return failed
	}
	last := k.limit(0) != "" && len(k.free) == 0
	j.mu.Lock()
	defer j.mu.Unlock()
	j.preallocated, j.preallocateErr, j.waitingForSegment, j.lastPreallocated, j.mayTakeLast = preallocated, err, false, last, false
	j.full = j.full && len(preallocated) == 0
	j.room.Broadcast()
	return errors.Join(failed, err)
}

// next returns the next files, or none if a limit forbids to create any and no commit needs one. One file that can be
// used again always stays: other programs may take space that was given back to the disk.
func (k *maintainer) next(waitingForSegment bool) (preallocated []*preallocatedSegment, err error) {
	if len(k.free) > 0 {
		n := k.j.every
		if k.limit(1) != "" {
			n = 1
		}
		if preallocated, err = k.recycle(n); len(preallocated) > 0 || err != nil {
			return preallocated, err
		}
	}
	if k.limit(0) == "" || waitingForSegment && (k.limit(reserved) == "" || k.files < k.least) {
		preallocated, err = k.create(k.j.every)
		if !waitingForSegment || !noSpace(err) {
			return preallocated, err
		}
	}
	if !waitingForSegment {
		return nil, nil
	}
	full := noSpace(err) || k.limit(reserved) == ReasonFree
	if full && k.j.opts.WhenFull == DropOldest && k.rescue() {
		if preallocated, err = k.recycle(1); len(preallocated) > 0 || err != nil {
			return preallocated, err
		}
	}
	if err == nil {
		err = fmt.Errorf("%w: no space for another segment", ErrFull)
	}
	return nil, err
}

// rescue frees a file for a commit that cannot go on without one, where other programs have left no space to create one.
func (k *maintainer) rescue() bool {
	if k.snapErr == nil && k.seize() {
		return true
	}
	for range 3 {
		k.seize() // for the checkpoints
		_ = k.snapshotTwice()
		_ = k.reclaimSpace(ReasonFree, true)
		if len(k.free) > 0 || k.seize() {
			return true
		}
	}
	return false
}

// seize takes the oldest file of the log in which no reader has anything pending. The log does not record that yet: the
// commit that will record it needs the file. A crash before that commit leaves the messages missing, and counted as
// damage.
func (k *maintainer) seize() bool {
	j := k.j
	j.mu.Lock()
	defer j.mu.Unlock()
	for i, s := range j.segments {
		if j.recoveryNeeds(s) {
			return false
		}
		if !j.waitsFor(s) {
			s.gone = true
			j.segments = slices.Delete(j.segments, i, i+1)
			k.free = append(k.free, s.name())
			return true
		}
	}
	return false
}

// makeRoom reclaims space where a limit forbids to create another file and none is left, or has new messages
// refused.
func (k *maintainer) makeRoom() error {
	j := k.j
	limit := k.limit(0)
	j.mu.Lock()
	out := limit != "" && len(j.preallocated) == 0 && len(k.free) == 0
	j.full = out && j.opts.WhenFull == RefuseNew
	j.mu.Unlock()
	if !out && (k.limit(1) == "" || k.limitWithout(len(k.free), 0) == "") { // what is free is given back
		return nil
	}
	err := k.reclaimSpace(cmp.Or(limit, k.limit(1), ReasonFree), false) // others may have taken space just now
	k.reclaim()
	return err
}

// limit returns the limit that forbids to create another file if use of the reserved files may
// be used; empty if none does.
func (k *maintainer) limit(use int) string { return k.limitWithout(0, use) }

// limitWithout returns what limit will return when that many files have been removed.
func (k *maintainer) limitWithout(files, use int) string {
	if k.files-files >= k.most-reserved+use-k.snapshotFiles() {
		return ReasonSize
	}
	free, err := k.j.fs.Free()
	if err == nil && free < k.j.opts.KeepFree+int64(1+reserved-use-files)*k.j.opts.SegmentSize {
		return ReasonFree
	}
	if files == 0 && use < reserved && time.Since(k.noSpace) < retryDelay && free <= k.noSpaceAt {
		return ReasonFree
	}
	return ""
}

// snapshotFiles is how many segments' worth of max_size the two checkpoints on disk take, at most a quarter of all.
func (k *maintainer) snapshotFiles() int {
	return min(int(2*k.j.snapSize.Load()/k.j.opts.SegmentSize), k.most/4)
}

// recycle preallocates files of settled segments, at most n of them: none, without an error, where all that were free
// are gone.
func (k *maintainer) recycle(n int) (preallocated []*preallocatedSegment, err error) {
	for len(preallocated) < n && len(k.free) > 0 {
		k.lastID++
		to := segmentName(k.lastID)
		last := len(k.free) - 1
		err = k.j.fs.Rename(k.free[last], to)
		if errors.Is(err, fs.ErrNotExist) { // another program removed it, or a read-only disk did not create it
			k.free = k.free[:last]
			k.files--
			err = nil
			continue
		}
		if err != nil {
			break
		}
		k.free = k.free[:last]
		var s *preallocatedSegment
		if s, err = k.open(to, k.lastID); err != nil {
			k.free = append(k.free, to)
			break
		}
		s.written = k.j.opts.SegmentSize
		preallocated = append(preallocated, s)
	}
	if len(preallocated) == 0 && err == nil {
		return nil, nil
	}
	return k.named(preallocated, err)
}

// create preallocates new files: one, and more as far as the limits leave room, at most n of them.
func (k *maintainer) create(n int) (preallocated []*preallocatedSegment, err error) {
	for len(preallocated) == 0 || len(preallocated) < n && k.limit(0) == "" {
		var s *preallocatedSegment
		if s, err = k.createOne(); err != nil {
			break
		}
		preallocated = append(preallocated, s)
	}
	if len(preallocated) > 0 {
		err = nil // the next attempt finds out whether there is space
	}
	return k.named(preallocated, err)
}

func (k *maintainer) createOne() (*preallocatedSegment, error) {
	k.lastID++
	name := segmentName(k.lastID)
	s, err := k.open(name, k.lastID)
	if err == nil {
		k.files++
		return s, nil
	}
	full := noSpace(err) // by a quota, perhaps: a limit like others
	if rm := k.j.fs.Remove(name); rm != nil && !errors.Is(rm, fs.ErrNotExist) {
		k.files++
		k.free = append(k.free, name)
	}
	if full {
		k.noSpace, k.noSpaceAt = time.Now(), k.space()
	}
	return nil, err
}

// newFile returns one file for a segment, with a durable name.
func (k *maintainer) newFile() (*preallocatedSegment, error) {
	preallocated, err := k.recycle(1)
	if len(preallocated) == 0 && err == nil {
		preallocated, err = k.create(1)
	}
	if err != nil {
		return nil, err
	}
	return preallocated[0], nil
}

// open opens a segment's file and reserves its blocks.
func (k *maintainer) open(name string, id uint64) (*preallocatedSegment, error) {
	f, err := k.j.fs.Open(name, true)
	if err != nil {
		return nil, err
	}
	if err := f.Allocate(k.j.opts.SegmentSize); err != nil {
		f.Close()
		return nil, err
	}
	return &preallocatedSegment{id: id, file: f}, nil
}

// named makes the names of files durable, if there was no error with any of them; otherwise it returns the files to
// k.free.
func (k *maintainer) named(preallocated []*preallocatedSegment, err error) ([]*preallocatedSegment, error) {
	if err == nil {
		err = k.syncNames()
	}
	if err == nil {
		return preallocated, nil
	}
	for _, s := range preallocated {
		s.file.Close()
		k.free = append(k.free, segmentName(s.id))
	}
	return nil, err
}

// takePreallocated waits until a segment is preallocated. While a checkpoint is due, it does not return the last one
// before the maintainer has tried to write the checkpoint, which may need the space.
func (j *Journal) takePreallocated() (*preallocatedSegment, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for len(j.preallocated) == 0 || len(j.preallocated) == 1 && !j.mayTakeLast && j.snapshotDue(j.every) {
		if err := j.preallocateErr; err != nil && len(j.preallocated) == 0 {
			signal(j.housekeeping)
			j.preallocateErr = nil
			return nil, err
		}
		j.waitingForSegment = true
		signal(j.housekeeping)
		j.room.Wait()
	}
	s := j.preallocated[0]
	j.preallocated = j.preallocated[1:]
	// What was taken in so far fits into this file. More is refused from now on, not after the next roll.
	j.full = j.full || len(j.preallocated) == 0 && j.lastPreallocated && j.opts.WhenFull == RefuseNew
	signal(j.housekeeping)
	return s, nil
}

// age returns how old the newest message of s is, at least. Called with mu held.
func (j *Journal) age(s *segment) time.Duration {
	later := j.segments[slices.Index(j.segments, s):]
	var t Time
	switch {
	case s.newest != 0:
		t = s.since(s.clock, s.newest)
	case len(later) > 1: // not read: it is older than what follows
		t = later[1].since(later[1].clock, later[1].clock.boot)
	default:
		return 0
	}
	t.Synced = false
	for _, o := range later {
		if o.earlier == nil || o.earlier.unsure {
			break
		}
		if o.wall != 0 {
			t.Wall, t.Synced = time.Unix(0, o.wall), true
			break
		}
	}
	return j.Waited(t)
}

// oldest returns the oldest segment in which a reader has something pending, if it may be dropped. Called with mu
// held.
func (j *Journal) oldest() *segment {
	for _, s := range j.segments {
		if j.recoveryNeeds(s) {
			return nil
		}
		if j.waitsFor(s) {
			return s
		}
	}
	return nil
}

// waitsFor reports whether a reader has something pending in s. Called with mu held.
func (j *Journal) waitsFor(s *segment) bool {
	for id, in := range s.owed {
		if r, ok := j.byID[id]; ok && r.waitsBefore(in.last) {
			return true
		}
	}
	return false
}

// drop settles all that some readers are owed in s. All that they are owed before s must have been
// dropped. It reports whether there was anything.
func (k *maintainer) drop(s *segment, whose func(*Reader) bool, reason string) bool {
	j := k.j
	debts := map[uint64]*debt{}
	j.mu.Lock()
	for id, in := range s.owed {
		if r, ok := j.byID[id]; ok && whose(r) && r.waitsBefore(in.last) {
			debts[id] = r.debt()
		}
	}
	j.mu.Unlock()
	if len(debts) == 0 {
		return false
	}
	if err := j.count(s, debts); err != nil {
		j.log.Error("journal: a dropped segment cannot be read, the numbers of what is lost are not known", "segment", s.name(), "error", err)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, d := range debts {
		j.loseSegment(d.reader, s, Loss{Reason: reason, Numbers: d.numbers})
	}
	return true
}

// expire drops segments whose newest message is certainly older than max_age (Waited).
func (k *maintainer) expire() {
	j := k.j
	if j.opts.MaxAge <= 0 {
		return
	}
	for {
		j.mu.Lock()
		s := j.oldest()
		old := s != nil && j.age(s) > j.opts.MaxAge
		j.mu.Unlock()
		if !old {
			return
		}
		k.drop(s, func(*Reader) bool { return true }, ReasonAge)
		j.mu.Lock()
		settled := !j.waitsFor(s)
		j.mu.Unlock()
		if !settled {
			return
		}
	}
}
