package journal

import (
	"slices"
	"time"
)

const (
	// How long acknowledgements wait for a commit to ride in: many for ackDelay, less than ackMany
	// for ackIdle, because they are not worth a write of their own.
	ackDelay = time.Second
	ackIdle  = 15 * time.Second
	ackMany  = 64

	// maxPendingLosses is how many losses by Drop may wait for a commit.
	maxPendingLosses = 256
)

// ackQueue is what readers have acknowledged and lost that is not on disk. Guarded by Journal.mu.
type ackQueue struct {
	dirty         []*Reader    // whose position on disk is old
	since         time.Time    // when the first of them became dirty
	count         int          // acknowledgements since
	pendingLosses []readerLoss // in no batch yet; their readers are dirty
	flushNow      bool         // pendingLosses do not wait for other entries
	logging       []readerLoss // in batches that are being written
	failed        bool         // the last commit did
	retryAt       time.Time    // after a failed commit: when to write again
}

type readerLoss struct {
	reader *Reader
	Loss
	ackState // the reader's position behind it
}

// mark makes r dirty, and returns true if it is the only one: then the committer has to know.
func (q *ackQueue) mark(r *Reader) (wake bool) {
	if r.reg.dirty {
		return false
	}
	r.reg.dirty = true
	if q.dirty = append(q.dirty, r); len(q.dirty) > 1 {
		return false
	}
	q.since = time.Now()
	return true
}

// note counts an acknowledgement of r, and returns true if the committer has to know.
func (q *ackQueue) note(r *Reader) (wake bool) {
	wake = q.mark(r)
	q.count++
	return wake || q.count == ackMany
}

// lose takes a loss that is to be written now.
func (q *ackQueue) lose(l readerLoss) {
	q.pendingLosses, q.flushNow = append(q.pendingLosses, l), true
}

// drop takes a loss that goes with the next commit. It becomes one with the last loss if that is before, the message
// that the reader was owed before l, or ends there.
func (q *ackQueue) drop(l readerLoss, before uint64) {
	q.count = max(q.count, ackMany-1) // a loss does not wait for ackIdle
	if n := len(q.pendingLosses); n > 0 {
		if last := &q.pendingLosses[n-1]; last.reader == l.reader && last.follows(&l.Loss, before) {
			last.extend(&l.Loss)
			last.ackState = l.ackState
			return
		}
	}
	q.pendingLosses = append(q.pendingLosses, l)
}

// crowded reports whether no further loss may be dropped before a commit.
func (q *ackQueue) crowded() bool { return len(q.pendingLosses) >= maxPendingLosses }

// hurry makes acknowledgements due now. It returns false if there are none.
func (q *ackQueue) hurry() bool {
	if len(q.dirty) == 0 {
		return false
	}
	q.count, q.since = ackMany, time.Time{}
	return true
}

// wait returns how long a commit may wait that may wait most for its entries.
func (q *ackQueue) wait(most time.Duration) time.Duration {
	if q.flushNow {
		most = min(most, 0)
	} else if len(q.dirty) > 0 {
		delay := ackIdle
		if q.count >= ackMany {
			delay = ackDelay
		}
		most = min(most, delay-time.Since(q.since))
	}
	if !q.retryAt.IsZero() {
		most = max(most, time.Until(q.retryAt))
	}
	return most
}

// done reports whether a journal that closes has nothing more to write here. The next process finds again what could not
// be written.
func (q *ackQueue) done() bool { return len(q.dirty) == 0 || !q.retryAt.IsZero() }

// collect adds a record of each loss and of each dirty reader to b. next and now are sequence number and boot time of
// the records.
func (q *ackQueue) collect(b *batch, next uint64, now int64) {
	q.retryAt = time.Time{}
	for _, l := range q.pendingLosses {
		if l.reader.reg.removed {
			continue
		}
		b.losses = append(b.losses, l)
		q.logging = append(q.logging, l)
		b.acks = append(b.acks, readerAck{l.reader, l.ackState})
		if l.reader.settledSince(&l.ackState) == 0 {
			l.reader.reg.dirty = false // this record has all
		}
		b.frame(kindLoss, next, now, appendLossRecord(beginFrame(b.buf), l.reader.id, &l.Loss, &l.ackState))
	}
	clear(q.pendingLosses)
	q.pendingLosses, q.flushNow = q.pendingLosses[:0], false
	for _, r := range q.dirty {
		if !r.reg.dirty {
			continue
		}
		a, ok := r.takeAck()
		if !ok {
			continue
		}
		b.acks = append(b.acks, readerAck{r, a})
		b.frame(kindAck, next, now, appendAck(beginFrame(b.buf), r.id, &a))
	}
	clear(q.dirty)
	q.dirty, q.count = q.dirty[:0], 0
}

// again takes what a failed batch has back, before anything newer of the same readers. It returns true if the committer
// has to know.
func (q *ackQueue) again(b *batch) (wake bool) {
	q.failed, q.retryAt = true, time.Now().Add(retryDelay)
	for _, a := range b.acks {
		wake = q.mark(a.reader) || wake
	}
	q.logging = q.logging[:len(q.logging)-len(b.losses)]
	q.pendingLosses = append(b.losses, q.pendingLosses...)
	q.flushNow = len(q.pendingLosses) > 0
	b.losses = nil
	return wake
}

// written forgets the losses of a batch that is on disk.
func (q *ackQueue) written(b *batch) { q.logging = q.logging[len(b.losses):] }

// list returns all losses that are not on disk, oldest first.
func (q *ackQueue) list() []readerLoss { return append(slices.Clip(q.logging), q.pendingLosses...) }
