package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"time"
)

// preallocation is the files for the next segments. The maintainer puts them here, the committer takes them. Guarded by
// Journal.mu.
type preallocation struct {
	segments          []*preallocatedSegment
	err               error    // why there are none
	last              bool     // no other can follow the last of them
	waitingForSegment bool     // the committer waits for one
	mayTakeLast       bool     // although a checkpoint is due: it was tried
	unused            []string // files that a failed commit left without anything durable
	full              bool     // RefuseNew, and no space but the reserve
}

// preallocatedSegment is a file for a future segment: its name is durable, its blocks are reserved.
type preallocatedSegment struct {
	id      uint64
	file    File
	written int64 // how much of it was written in an earlier life
}

// put enters files for the next segments, or why there are none.
func (p *preallocation) put(segments []*preallocatedSegment, err error, last bool) {
	p.segments, p.err, p.waitingForSegment, p.last, p.mayTakeLast = segments, err, false, last, false
	p.full = p.full && len(segments) == 0
}

// take returns the first of the files. refuse means RefuseNew.
func (p *preallocation) take(refuse bool) *preallocatedSegment {
	s := p.segments[0]
	p.segments = p.segments[1:]
	// What was taken in so far fits into this file. More is refused from now on, not after the next roll.
	p.full = p.full || len(p.segments) == 0 && p.last && refuse
	return s
}

// takeBack returns the last of the files, nil if there is none.
func (p *preallocation) takeBack() *preallocatedSegment {
	last := len(p.segments) - 1
	if last < 0 {
		return nil
	}
	s := p.segments[last]
	p.segments = p.segments[:last]
	return s
}

// takeError returns why there are no files, once.
func (p *preallocation) takeError() error {
	if len(p.segments) > 0 {
		return nil
	}
	err := p.err
	p.err = nil
	return err
}

// takePreallocated waits until a segment is preallocated. While a checkpoint is due, it does not return the last one
// before the maintainer has tried to write the checkpoint, which may need the space.
func (j *Journal) takePreallocated() (*preallocatedSegment, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for len(j.preallocated.segments) == 0 || len(j.preallocated.segments) == 1 && !j.preallocated.mayTakeLast && j.checkpoints.due(j.segments, j.checkpoints.every) {
		if err := j.preallocated.takeError(); err != nil {
			j.running.wakeMaintainer()
			return nil, err
		}
		j.preallocated.waitingForSegment = true
		j.running.wakeMaintainer()
		j.room.Wait()
	}
	s := j.preallocated.take(j.opts.WhenFull == RefuseNew)
	j.running.wakeMaintainer()
	return s, nil
}

// prepare preallocates a segment, or returns why it cannot. It uses the reserve only when a
// commit cannot go on without it, and returns it afterwards. That commit records what was dropped
// (committer.roll), so there is always a file that can be used again.
func (k *maintainer) prepare() error {
	j := k.j
	failed := k.makeRoom()
	j.mu.Lock()
	need, waitingForSegment := len(j.preallocated.segments) == 0, j.preallocated.waitingForSegment
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
	j.preallocated.put(preallocated, err, last)
	j.room.Broadcast()
	return errors.Join(failed, err)
}

// next returns the next files, or none if a limit forbids to create any and no commit needs one. One file that can be
// used again always stays: other programs may take space that was given back to the disk.
func (k *maintainer) next(waitingForSegment bool) (preallocated []*preallocatedSegment, err error) {
	if len(k.free) > 0 {
		n := k.j.checkpoints.every
		if k.limit(1) != "" {
			n = 1
		}
		if preallocated, err = k.recycle(n); len(preallocated) > 0 || err != nil {
			return preallocated, err
		}
	}
	if k.limit(0) == "" || waitingForSegment && (k.limit(reserved) == "" || k.files < k.least) {
		preallocated, err = k.create(k.j.checkpoints.every)
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

// givePreallocated removes the last of the next files.
func (k *maintainer) givePreallocated() bool {
	j := k.j
	j.mu.Lock()
	s := j.preallocated.takeBack()
	j.mu.Unlock()
	if s == nil { // it was taken meanwhile
		return false
	}
	s.file.Close()
	if k.j.fs.Remove(segmentName(s.id)) != nil {
		k.free = append(k.free, segmentName(s.id))
		return false
	}
	k.files--
	return true
}

// giveBack removes files that are not needed soon, or at a limit not at all.
func (k *maintainer) giveBack() error {
	for len(k.free) > 2*k.j.checkpoints.every || len(k.free) > 0 && k.limit(0) != "" {
		if err := k.removeFree(); err != nil {
			return err
		}
	}
	return nil
}

// removeFree removes one file that holds nothing needed. There must be one.
func (k *maintainer) removeFree() error {
	last := len(k.free) - 1
	if err := k.j.fs.Remove(k.free[last]); err != nil {
		return err
	}
	k.free = k.free[:last]
	k.files--
	return nil
}
