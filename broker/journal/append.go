package journal

import (
	"context"
	"fmt"
	"sync/atomic"

	"holdfast/broker"
)

// Owed names a reader that needs a message.
type Owed struct {
	Reader *Reader
	QoS    byte // of the delivery: 1 or 2
	Retain bool // RETAIN flag of the delivery [MQTT-3.3.1-12]
}

// Change sets one key of the durable state, or deletes it if Value is nil. Keys that start with
// "journal/" are taken.
type Change struct {
	Key   string
	Value []byte
}

// Entry is what becomes durable together, or not at all.
type Entry struct {
	Message  *broker.Message // nil for changes alone; not to be changed after Append
	Owed     []Owed          // readers, each at most once; not to be changed before Done
	Retained bool            // Message becomes the retained value of its topic; an empty payload removes it
	Changes  []Change
	Lazy     bool      // may wait Options.CommitEvery for others
	Limited  bool      // Changes count against Options.MaxState: they are a client's
	Done     Completer // nil if no caller waits
	Tag      uint64    // for Done
	From     string    // the publisher of Message, for Held; empty if that does not matter. It is not on disk.
}

// Completer receives the result of an entry.
type Completer interface {
	// Committed is called once for each entry that Append took, in the order of the Append calls, by
	// one goroutine, after a nil error's entry is durable and offered to its readers. seq is the
	// message's sequence number. It must not block; it may call Append with changes alone.
	Committed(e *Entry, seq uint64, err error)
}

// queue is the way into the log: the batch that Append fills, and empty ones for when the committer has taken it.
// Guarded by Journal.mu, but crowded may be read without.
type queue struct {
	pending   *batch
	free      []*batch
	gathering int         // how many entries the committer waits for; 0 for any
	crowded   atomic.Bool // pending takes more than half of a commit
	nextSeq   uint64      // of the next message
}

func (q *queue) init() {
	for range 4 { // pending, being written, queued for the completer, being completed
		q.free = append(q.free, newBatch())
	}
	q.pending = q.takeFree()
}

func (q *queue) takeFree() *batch {
	b := q.free[len(q.free)-1]
	q.free = q.free[:len(q.free)-1]
	return b
}

// add puts e, of at most size bytes, into the pending batch of at most limit bytes, and reports whether the committer
// has to look at it now.
func (q *queue) add(e *Entry, size, limit int, boot int64) (wake bool) {
	b, seq := q.pending, q.nextSeq
	if e.Message != nil {
		q.nextSeq++
	}
	b.add(e, size, seq, boot)
	if len(b.buf) > limit/2 && !q.crowded.Load() {
		q.crowded.Store(true)
	}
	if e.Lazy && len(b.items) > 1 && !b.urgent {
		return false
	}
	b.urgent = b.urgent || !e.Lazy
	return len(b.items) >= q.gathering
}

// take returns the pending batch and begins another. One must be free.
func (q *queue) take() *batch {
	b := q.pending
	q.pending = q.takeFree()
	q.crowded.Store(false)
	b.nextSeq = q.nextSeq
	return b
}

// putBack takes a batch that is completed for use again.
func (q *queue) putBack(b *batch) {
	b.reset()
	q.free = append(q.free, b)
}

// Append adds an entry to the next commit. It blocks while more bytes are pending than one commit takes,
// except for changes alone. An entry with neither Message nor Changes costs nothing on disk and
// completes in its turn. After an error Done is not called.
func (j *Journal) Append(e Entry) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.append(&e)
}

// append is called with mu held.
func (j *Journal) append(e *Entry) error {
	limit, size := j.opts.maxBatch(), e.size()
	if e.Message != nil {
		if size > limit/2 {
			return fmt.Errorf("%w: %d bytes, want at most %d", ErrTooLarge, size, limit/2)
		}
		for !j.closing && len(j.queue.pending.buf)+size > limit {
			j.waitForCommit()
		}
		if j.preallocated.full && len(e.Owed) > 0 {
			j.figures.refused.Add(1)
			return ErrFull
		}
	} else if e.Limited && size > limit {
		return fmt.Errorf("%w: changes of %d bytes, want at most %d", ErrTooLarge, size, limit)
	}
	if e.Limited && j.state.grows(e.Changes, j.opts.MaxState) {
		j.figures.refusedState.Add(1)
		return ErrState
	}
	if j.closing {
		return ErrClosed
	}
	j.state.coming += e.stateSize()
	if j.queue.add(e, size, limit, j.clock.bootTime()) {
		j.running.wakeCommitter()
	}
	return nil
}

// waitForCommit has the pending batch written now, and waits for a sign that there is room. Called with mu held.
func (j *Journal) waitForCommit() {
	j.queue.pending.urgent = true
	j.running.wakeCommitter()
	j.room.Wait()
}

// size is the most bytes that the entry takes on disk.
func (e *Entry) size() int {
	size := 64
	if m := e.Message; m != nil {
		size += len(m.Topic) + len(m.Payload) + len(m.Properties) + 10*len(e.Owed)
	}
	for _, c := range e.Changes {
		size += len(c.Key) + len(c.Value) + 20
	}
	return size
}

// AppendDurable appends e and returns when it is on disk, or the reason for which it will not be. After the end
// of ctx it returns at once, and e may become durable all the same. e.Done is not used.
func (j *Journal) AppendDurable(ctx context.Context, e Entry) error {
	done := make(committed, 1)
	e.Done = done
	if err := j.Append(e); err != nil {
		return err
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// committed has room for the outcome of one entry.
type committed chan error

// Committed implements Completion.
func (c committed) Committed(_ *Entry, _ uint64, err error) { c <- err }

// Crowded reports whether WaitForRoom would wait.
func (j *Journal) Crowded() bool { return j.queue.crowded.Load() }

// WaitForRoom returns when less than half of a commit is pending, or the journal closes. Append does not block for
// changes alone: a caller that appends many of them calls WaitForRoom in between, without a lock.
func (j *Journal) WaitForRoom() {
	j.mu.Lock()
	defer j.mu.Unlock()
	for !j.closing && j.queue.crowded.Load() {
		j.waitForCommit()
	}
}
