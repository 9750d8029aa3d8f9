package journal

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

const (
	keepInterval = time.Minute // how often max_age is looked at
	retryDelay   = time.Second // after a failure
)

// maintainer is the goroutine that keeps the log within its limits: it writes checkpoints, reclaims and compacts
// segments, and preallocates the next one before the committer needs it. Its fields are its own: no lock guards them.
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
	attempt   attempt     // the last one to write a checkpoint
}

// newMaintainer returns the maintainer of a journal that was recovered. start is the record that was beside it, or nil.
func newMaintainer(j *Journal, r *recovered, start *startRecord) *maintainer {
	k := &maintainer{
		j: j, lastID: r.lastID, free: r.free, snapshots: r.lastSnapshot, files: r.files,
		most: int(j.opts.MaxSize / j.opts.SegmentSize),
	}
	k.least = k.files + 1 // whatever the limits have become
	j.checkpoints.every = max(1, min(k.most/16, 4))
	if start != nil {
		k.start.Next = start.Next
	}
	return k
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

func (k *maintainer) run() {
	j := k.j
	defer j.running.ended.Done()
	timer := time.NewTimer(keepInterval)
	defer timer.Stop()
	k.compacts = true
	for {
		err := k.housekeeping()
		if err != nil {
			j.log.complain("journal: housekeeping failed", err)
			timer.Reset(retryDelay)
		} else {
			timer.Reset(keepInterval)
		}
		select {
		case <-j.running.housekeeping:
		case <-timer.C:
		case <-j.running.stop:
			j.running.closeErr = errors.Join(k.snapshotNow(), k.syncNames())
			if j.running.closeErr == nil {
				j.running.closeErr = k.noteStart(true) // a checkpoint has the epoch
			}
			for _, s := range j.preallocated.segments {
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
	waited := j.preallocated.waitingForSegment // before the checkpoint
	j.mu.Unlock()
	short := k.limit(0) == ReasonFree
	j.mu.Lock()
	every := j.checkpoints.every
	if len(j.preallocated.segments) > 0 && !short && !waited {
		every *= 2 // wait for the sync of the next files' names
	}
	due := j.checkpoints.due(j.segments, every)
	j.mu.Unlock()
	var err error
	if due {
		err = k.snapshot()
	}
	if j.figures.commits.Load() > 0 && (due && err == nil || !k.start.Used) {
		err = errors.Join(err, k.noteStart(true))
	}
	k.expire()
	k.trim()
	k.reclaim()
	j.mu.Lock()
	if waited && len(j.preallocated.segments) > 0 { // for the checkpoint, which was tried
		j.preallocated.waitingForSegment, j.preallocated.mayTakeLast = false, true
		j.room.Broadcast()
	}
	j.mu.Unlock()
	err = errors.Join(err, k.prepare(), k.giveBack())
	if k.unsynced {
		err = errors.Join(err, k.syncNames())
	}
	return err
}

// syncNames makes all names durable.
func (k *maintainer) syncNames() error {
	k.j.figures.syncs.Add(1)
	err := k.j.fs.SyncDir()
	if err != nil {
		k.j.figures.failures.Add(1)
		return fmt.Errorf("names of files: %w", err)
	}
	k.unsynced = false
	return nil
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
