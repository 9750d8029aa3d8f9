package outbox

import (
	"slices"
	"sync"
	"sync/atomic"

	"holdfast/broker/journal"
)

// maxReaders is how many readers of the journal a queue has at most: outages that come faster than their
// backlogs drain make no more of them.
const maxReaders = 4

// Queue is the pending messages of one priority. It has one reader of the journal, and with live-first others beside
// it: each time a connection begins with a backlog, new messages are owed to an empty reader from then on, so that the
// journal keeps, bounds and recovers the two as it does any others. A reader that is empty again is used next time.
// Its methods are safe for concurrent use.
type Queue struct {
	priority int
	more     func(n int) (*journal.Reader, error)
	live     atomic.Pointer[journal.Reader]

	mu      sync.Mutex
	readers []*journal.Reader // oldest messages first, the live one last
}

// NewQueue returns a queue of these readers. New messages are owed to the last one; all that is pending in the
// others has to be older, in their order. more opens the queue's nth reader, from 2 on; nil opens none.
func NewQueue(priority int, more func(n int) (*journal.Reader, error), readers ...*journal.Reader) *Queue {
	q := &Queue{priority: priority, more: more, readers: readers}
	q.live.Store(readers[len(readers)-1])
	return q
}

// Live returns the reader that new messages are owed to.
func (q *Queue) Live() *journal.Reader { return q.live.Load() }

// Priority returns the queue's priority.
func (q *Queue) Priority() int { return q.priority }

func (q *Queue) all() []*journal.Reader {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.Clone(q.readers)
}

func (q *Queue) depth() (n uint64) {
	for _, r := range q.all() {
		n += r.Depth()
	}
	return n
}

// rotate makes an empty reader the live one if more than few messages are pending in the present one. If there is
// none, new messages queue behind those of the last outage.
func (q *Queue) rotate(few uint64) error {
	if q.Live().Depth() <= few {
		return nil
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	last := len(q.readers) - 1
	i := slices.IndexFunc(q.readers[:last], func(r *journal.Reader) bool { return r.Depth() == 0 })
	switch {
	case i >= 0:
		next := q.readers[i]
		q.readers = append(slices.Delete(q.readers, i, i+1), next)
	case len(q.readers) < maxReaders && q.more != nil:
		r, err := q.more(len(q.readers) + 1)
		if err != nil {
			return err
		}
		q.readers = append(q.readers, r)
	default:
		return nil
	}
	q.live.Store(q.readers[len(q.readers)-1])
	return nil
}
