package journal

import (
	"errors"
	"fmt"
	"time"
)

const (
	// zeroAhead is how many zero bytes a small commit into space that was never written puts behind
	// itself, so that the next ones overwrite blocks that the file system has already allocated and
	// need no commit of its own journal.
	zeroAhead = 64 << 10
	// smallCommit is the largest commit, in bytes, that writes zeros ahead: larger ones pay for
	// their blocks anyway.
	smallCommit = 32 << 10
)

// committer is the goroutine that writes. It owns the current segment's position.
type committer struct {
	j             *Journal
	seg           *segment // nil until the first commit: a recovered file is never written to
	file          File
	offset        int64         // of the next batch
	written       int64         // everything before it was written once, so its blocks exist
	clock         clockReading  // the last one on disk
	syncTime      time.Duration // of a commit, smoothed
	lastBatchSize int           // entries of the last commit

	// The segment before, where its last synchronised batch ends, and the number after its last.
	previous     uint64
	previousEnd  int64
	previousNext uint64
	next         uint64 // one past the newest sequence number that is on disk
}

// newCommitter returns the committer of a journal that was recovered.
func newCommitter(j *Journal) *committer {
	c := &committer{j: j, next: j.queue.nextSeq}
	if s := j.segments.newest(); s != nil {
		c.previous, c.previousEnd, c.previousNext = s.id, s.end, s.next
	}
	return c
}

func (c *committer) run() {
	j := c.j
	defer j.running.ended.Done()
	defer close(j.running.done)
	defer j.opts.Progress(false)
	defer j.running.committing.waits()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		j.running.committing.works()
		j.mu.Lock()
		wait, last := j.due()
		if wait > 0 {
			j.mu.Unlock()
			timer.Reset(wait)
			j.running.committing.waits()
			j.opts.Progress(false)
			select {
			case <-j.running.wake:
			case <-timer.C:
			}
			continue
		}
		j.opts.Progress(true)
		if c.lastBatchSize > 1 && !last {
			c.gather(timer)
		}
		for len(j.queue.free) == 0 {
			j.room.Wait()
		}
		b := j.queue.take()
		j.collectAcks(b)
		j.room.Broadcast()
		j.mu.Unlock()

		c.lastBatchSize = len(b.items)
		if len(b.frames) > 0 {
			if b.err = c.commit(b); b.err != nil {
				j.writeAgain(b)
			}
		}
		j.running.done <- b
		if last {
			c.leave()
			return
		}
	}
}

// due returns how long the pending batch may still wait, and whether it is the last one. Called with mu
// held.
func (j *Journal) due() (wait time.Duration, last bool) {
	b := j.queue.pending
	if j.closing {
		return 0, len(b.items) == 0 && j.acks.done()
	}
	wait = time.Hour
	if len(b.items) > 0 {
		if b.urgent {
			return 0, false
		}
		// A little longer than asked for, so that sensors of that period share.
		wait = j.opts.CommitEvery + j.opts.CommitEvery/16 - time.Duration(j.clock.bootTime()-b.since)
	}
	return j.acks.wait(wait), false
}

// gather waits, for at most an eighth of a commit, until the batch is as large as the last one was: the
// publishers that have just received acknowledgements are about to send again. Without it, publishers
// split into two halves that take turns. Called, and returns, with mu held.
func (c *committer) gather(timer *time.Timer) {
	j := c.j
	limit := time.Now().Add(max(c.syncTime/8, 20*time.Microsecond))
	for len(j.queue.pending.items) < c.lastBatchSize && len(j.queue.pending.buf) <= j.opts.maxBatch()/2 && !j.closing {
		wait := time.Until(limit)
		if wait <= 0 {
			break
		}
		j.queue.gathering = c.lastBatchSize
		j.mu.Unlock()
		timer.Reset(wait)
		select {
		case <-j.running.wake:
		case <-timer.C:
		}
		j.mu.Lock()
		j.queue.gathering = 0
	}
}

// collectAcks adds what readers have acknowledged and lost since the last commit. Called with mu held.
func (j *Journal) collectAcks(b *batch) { j.acks.collect(b, j.queue.nextSeq, j.clock.bootTime()) }

// writeAgain returns the acknowledgements and losses of a failed batch to the next one.
func (j *Journal) writeAgain(b *batch) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.acks.again(b) {
		j.running.wakeCommitter()
	}
	j.room.Broadcast() // Drop waits for no failed disk
}

// commit makes the batch durable. After a failed write or sync the content of the file is unknown, and the
// kernel has dropped the pages: commit tries the same batch in a new segment, once.
func (c *committer) commit(b *batch) error {
	now := c.j.clock.read()
	b.clock = now
	if c.clock.stepped(now) {
		b.prepend(kindClock, b.frames[0].seq, b.frames[0].boot, appendClock(nil, now))
	}
	err := c.write(b, now)
	if err == nil || errors.Is(err, ErrFull) {
		return err
	}
	c.j.log.complain("journal: commit failed, trying a new segment", err)
	c.leave()
	if err = c.write(b, now); err != nil {
		c.leave()
		return fmt.Errorf("%w: %w", ErrFailed, err)
	}
	return nil
}

func (c *committer) write(b *batch, now clockReading) error {
	need := padSector(int64(len(b.buf) - headerSize))
	if c.seg == nil || c.offset+need > c.j.opts.SegmentSize || !c.fits(b, now) {
		if err := c.roll(b, now); err != nil {
			return err
		}
		need = padSector(int64(len(b.buf) - headerSize))
	}
	b.seal(c.seg)
	from := int64(headerSize)
	first := c.offset == headerSize
	if first {
		copy(b.buf, c.seg.encode())
		from = 0
	}
	end := c.offset + need
	size := end
	if end > c.written && need <= smallCommit {
		size = min(end+zeroAhead, c.j.opts.SegmentSize)
	}
	data, whole := len(b.buf), int(headerSize+size-c.offset)
	b.buf = grow(b.buf, whole-data)[:whole]
	clear(b.buf[data:])
	at := c.offset - (headerSize - from)
	start := time.Now()
	_, err := c.file.WriteAt(b.buf[from:], at)
	c.j.figures.written.Add(uint64(int64(len(b.buf)) - from))
	b.buf = b.buf[:data]
	if err == nil {
		err = c.file.Datasync()
		c.j.figures.syncs.Add(1)
	}
	if err != nil {
		c.j.figures.failures.Add(1)
		return err
	}
	c.j.figures.commits.Add(1)
	c.syncTime += (time.Since(start) - c.syncTime) / 8
	b.seg, b.offset, b.end = c.seg, c.offset, end
	c.offset, c.written = end, max(c.written, size)
	c.clock, c.next = now, b.nextSeq
	return nil
}

// fits reports whether the batch's numbers can be stored relative to the segment's.
func (c *committer) fits(b *batch, now clockReading) bool {
	return b.nextSeq-c.seg.base < 1<<31 && now.boot-c.seg.clock.boot < 1<<31*int64(time.Millisecond)
}

// roll begins the next segment, in a preallocated file.
func (c *committer) roll(b *batch, now clockReading) error {
	s, err := c.j.takePreallocated()
	if err != nil {
		return err
	}
	c.leave()
	c.j.mu.Lock()
	readers := c.j.allReaders()
	c.j.collectAcks(b) // with what was dropped to make room
	c.j.mu.Unlock()
	base := b.frames[0].seq
	if readers != nil {
		b.prepend(kindState, base, b.frames[0].boot, readers)
	}
	c.seg = &segment{
		header: header{
			salt: newSalt(), id: s.id, base: base, clock: now, bootID: c.j.clock.bootID,
			previous: c.previous, previousEnd: c.previousEnd, previousNext: c.previousNext,
		},
		end: headerSize, next: base, owed: map[uint64]owedIn{},
	}
	// A record may be a little older than its segment: times count from the batch's first.
	if since := b.frames[0].boot; since < now.boot {
		c.seg.clock.wall -= now.boot - since
		c.seg.clock.boot = since
	}
	c.file, c.offset, c.written = s.file, headerSize, s.written
	return nil
}

// allReaders returns the changes that register all readers, for the front of a segment, and marks them dirty, so that
// what they acknowledged is written again. So the log alone contains what each reader is owed if no checkpoint
// can be read. Readers that take more than an eighth of a segment are left out. Called with
// mu held.
func (j *Journal) allReaders() []byte {
	var changes []Change
	for _, r := range j.readers.byName {
		changes = append(changes, r.reg.change(r.id))
	}
	var start []Change
	if j.opts.Beside != nil {
		start = []Change{{startsKey, j.state.keys[startsKey]}}
	}
	body := appendChanges(nil, append(changes, start...))
	if len(changes) == 0 || int64(len(body)) > j.opts.SegmentSize/8 {
		if start == nil {
			return nil
		}
		return appendChanges(nil, start)
	}
	for _, r := range j.readers.byName {
		j.acks.mark(r)
	}
	return body
}

// leave closes the current segment, which keeps what was synchronised.
func (c *committer) leave() {
	if c.seg == nil {
		return
	}
	if c.offset > headerSize {
		c.previous, c.previousEnd, c.previousNext = c.seg.id, c.offset, c.next
	} else { // it holds nothing, and the segment before it stays the last
		c.j.mu.Lock()
		c.j.preallocated.unused = append(c.j.preallocated.unused, c.seg.name())
		c.j.mu.Unlock()
	}
	c.file.Close()
	c.seg, c.file = nil, nil
}
