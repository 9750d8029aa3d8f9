package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync/atomic"
	"time"
)

// mostRetryDelay is the longest time between attempts to write a checkpoint that fails.
const mostRetryDelay = 30 * time.Second

// checkpoints are those on disk. Guarded by Journal.mu, but size may be read without.
type checkpoints struct {
	kept   []snapshotMark // oldest first, at most two
	stale  []uint64       // that were not removed in time
	wanted bool           // memory holds changes that failed to reach the log
	every  int            // segments between two; as many files are preallocated together. It does not change after Open.
	size   atomic.Int64   // bytes of the newest
}

// snapshotMark names a checkpoint on disk and the segment it ends in.
type snapshotMark struct{ n, segment uint64 }

// newest returns the number of the last checkpoint, 0 if there is none.
func (c *checkpoints) newest() uint64 {
	if len(c.kept) == 0 {
		return 0
	}
	return c.kept[len(c.kept)-1].n
}

// due reports whether that many segments of the log are newer than the last checkpoint.
func (c *checkpoints) due(log segmentList, segments int) bool {
	n := len(log)
	if n == 0 || c.wanted {
		return c.wanted
	}
	if len(c.kept) < 2 {
		segments = 1
	}
	return n >= segments && (len(c.kept) == 0 || c.kept[len(c.kept)-1].segment < log[n-segments].id)
}

// need reports whether a checkpoint ends before s does: the older one, or the newer one where segments at the
// end of the log were lost in between.
func (c *checkpoints) need(s *segment) bool {
	return len(c.kept) == 0 || !s.compacted && slices.ContainsFunc(c.kept, func(m snapshotMark) bool { return s.id >= m.segment })
}

// add enters the newest checkpoint, and returns the numbers of those that are to be removed.
func (c *checkpoints) add(m snapshotMark) (stale []uint64) {
	c.kept = append(c.kept, m)
	for len(c.kept) > 2 {
		c.stale = append(c.stale, c.kept[0].n)
		c.kept = c.kept[1:]
	}
	stale, c.stale = c.stale, nil
	return stale
}

// attempt is the last one to write a checkpoint.
type attempt struct {
	err   error         // nil if it succeeded
	ended time.Time     // if it failed, as the rest
	delay time.Duration // until the next one
	space int64         // bytes that the file system had left
}

// end notes the result. space is what the file system has left.
func (a *attempt) end(err error, space func() int64) {
	if a.err = err; err == nil {
		a.delay = 0
		return
	}
	a.ended, a.space = time.Now(), space()
	a.delay = min(max(2*a.delay, retryDelay), mostRetryDelay)
}

// vain reports whether another one now would fail as well: the delay is not over, and there is no more space.
func (a *attempt) vain(space func() int64) bool {
	return a.err != nil && time.Since(a.ended) < a.delay && space() <= a.space
}

// snapshot writes a checkpoint. Its name is durable no later than that of any file that it makes
// free: names change on disk in the order of their renames. So one sync serves both.
//
// After a failure it waits before the next attempt, longer each time, or until there is more space.
func (k *maintainer) snapshot() error {
	if k.attempt.vain(k.space) && !k.canSacrifice() {
		return k.attempt.err
	}
	return k.snapshotNow()
}

func (k *maintainer) snapshotNow() error {
	j := k.j
	k.unsynced = true
	err := j.writeSnapshot(k.snapshots + 1)
	j.mu.Lock()
	named := j.checkpoints.newest()
	j.mu.Unlock()
	if named > k.snapshots {
		k.snapshots++
	}
	if noSpace(err) && k.sacrifice() {
		return k.snapshotNow()
	}
	k.attempt.end(err, k.space)
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
		return k.removeFree() == nil
	case preallocated:
		return k.givePreallocated()
	}
	return older && k.syncNames() == nil && k.forgetOlder()
}

func (k *maintainer) canSacrifice() bool {
	free, preallocated, older := k.sacrifices()
	return noSpace(k.attempt.err) && (free || preallocated || older)
}

func (k *maintainer) sacrifices() (free, preallocated, older bool) {
	j := k.j
	j.mu.Lock()
	defer j.mu.Unlock()
	all := len(k.free) + len(j.preallocated.segments)
	enough := all > 1 || all > 0 && j.preallocated.waitingForSegment
	return enough && len(k.free) > 0, enough && len(j.preallocated.segments) > 0, j.preallocated.waitingForSegment && len(j.checkpoints.kept) > 1
}

// forgetOlder removes the older checkpoint. The newer one is durable.
func (k *maintainer) forgetOlder() bool {
	j := k.j
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.fs.Remove(snapshotName(j.checkpoints.kept[0].n)) != nil {
		return false
	}
	j.checkpoints.kept = slices.Delete(j.checkpoints.kept, 0, 1)
	return true
}

// writeSnapshot writes checkpoint n. The file has its name only when it is whole and on disk. The name itself
// is durable after the next SyncDir.
func (j *Journal) writeSnapshot(n uint64) error {
	j.mu.Lock()
	m, segment := j.encodeSnapshot()
	again := j.checkpoints.wanted
	j.checkpoints.wanted = false
	j.mu.Unlock()
	name := snapshotName(n)
	m.seal()
	size, err := j.writeFile(name+tempSuffix, m)
	if err == nil {
		err = j.fs.Rename(name+tempSuffix, name)
	}
	if err != nil {
		j.figures.failures.Add(1)
		if rm := j.fs.Remove(name + tempSuffix); rm != nil && !errors.Is(rm, fs.ErrNotExist) {
			err = errors.Join(err, rm) // the next attempt has the same name
		}
		j.mu.Lock()
		j.checkpoints.wanted = j.checkpoints.wanted || again
		j.mu.Unlock()
		return fmt.Errorf("snapshot: %w", err)
	}
	j.checkpoints.size.Store(size)
	j.mu.Lock()
	stale := j.checkpoints.add(snapshotMark{n, segment})
	j.mu.Unlock()
	for _, n := range stale {
		if rm := j.fs.Remove(snapshotName(n)); rm != nil && !errors.Is(rm, fs.ErrNotExist) {
			err = errors.Join(err, rm)
		}
	}
	return err
}
