package bridge

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"holdfast/broker/journal"
)

// maxReaders is how many readers of the journal a lane has at most: outages that come faster than their
// backlogs go make no more of them.
const maxReaders = 4

// Lane is what waits for a bridge with one priority. It has one reader of the journal, and with live-first
// others beside it: each time a connection begins with a backlog, what comes from then on is owed to an
// empty reader, so that the journal keeps, bounds and recovers the two as it does any others. A reader
// that is empty again takes the next turn.
type Lane struct {
	priority int
	more     func(n int) (*journal.Reader, error)
	live     atomic.Pointer[journal.Reader]

	mu      sync.Mutex
	readers []*journal.Reader // oldest messages first, the live one last
}

// NewLane returns a lane of these readers. What comes is owed to the last one; all that waits in the
// others has to be older, in their order. more opens the lane's nth reader, from 2 on; nil opens none.
func NewLane(priority int, more func(n int) (*journal.Reader, error), readers ...*journal.Reader) *Lane {
	l := &Lane{priority: priority, more: more, readers: readers}
	l.live.Store(readers[len(readers)-1])
	return l
}

// Live is the reader that new messages are owed to.
func (l *Lane) Live() *journal.Reader { return l.live.Load() }

// Priority is what NewLane was given.
func (l *Lane) Priority() int { return l.priority }

func (l *Lane) all() []*journal.Reader {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.readers)
}

func (l *Lane) depth() (n uint64) {
	for _, r := range l.all() {
		n += r.Depth()
	}
	return n
}

// turn has what comes owed to an empty reader, if more than few messages wait in the live one. If there is
// none, live messages go on waiting behind those of the last outage.
func (l *Lane) turn(few uint64) error {
	if l.Live().Depth() <= few {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	last := len(l.readers) - 1
	i := slices.IndexFunc(l.readers[:last], func(r *journal.Reader) bool { return r.Depth() == 0 })
	switch {
	case i >= 0:
		next := l.readers[i]
		l.readers = append(slices.Delete(l.readers, i, i+1), next)
	case len(l.readers) < maxReaders && l.more != nil:
		r, err := l.more(len(l.readers) + 1)
		if err != nil {
			return err
		}
		l.readers = append(l.readers, r)
	default:
		return nil
	}
	l.live.Store(l.readers[len(l.readers)-1])
	return nil
}

// feed hands out what waits in all lanes, in the order in which it is to be sent. All but the lanes' live
// readers is for Run.
type feed struct {
	lanes     []*Lane // highest priority first
	liveFirst bool
	share     int // percent of the window that is for what has waited, if liveFirst
	rate      limiter
	lateRate  limiter // of what has waited, if liveFirst
	ready     chan struct{}

	turns [][]*journal.Reader // of lanes, since attach
	late  int                 // messages of the backlog that are out
	bytes int                 // in them
}

func newFeed(o *Options) *feed {
	f := &feed{lanes: o.Lanes, liveFirst: o.LiveFirst, share: o.Share, ready: make(chan struct{}, 1)}
	if len(f.lanes) == 0 {
		f.lanes = []*Lane{NewLane(0, nil, o.Reader)}
	}
	f.lanes = slices.SortedStableFunc(slices.Values(f.lanes), func(a, b *Lane) int { return cmp.Compare(b.priority, a.priority) })
	f.rate, f.lateRate = newLimiter(o.Rate, 100), newLimiter(o.Rate, o.Share)
	return f
}

func (f *feed) depth() (n uint64) {
	for _, l := range f.lanes {
		n += l.depth()
	}
	return n
}

// attach begins a connection.
func (f *feed) attach(few uint64) error {
	f.turns, f.late, f.bytes = f.turns[:0], 0, 0
	for _, l := range f.lanes {
		if f.liveFirst {
			if err := l.turn(few); err != nil {
				return err
			}
		}
		readers := l.all()
		f.turns = append(f.turns, readers)
		for _, r := range readers {
			r.Notify(func() { signal(f.ready) })
			r.Attach()
		}
	}
	return nil
}

func (f *feed) detach() {
	for _, readers := range f.turns {
		for _, r := range readers {
			r.Detach()
		}
	}
}

// next returns the next message, if there is one and it may go now, or how long a rate keeps it back. window and
// bytes are what may be in flight, of which the backlog takes its share.
func (f *feed) next(window, bytes int) (d journal.Delivery, ok bool, wait time.Duration, err error) {
	if wait = f.rate.wait(); wait > 0 {
		return d, false, wait, nil
	}
	if !f.liveFirst {
		for _, readers := range f.turns {
			for _, r := range readers {
				if d, ok, err = r.TryNext(); ok || err != nil {
					return f.take(d, false), ok, 0, err
				}
			}
		}
		return d, false, 0, nil
	}
	for _, readers := range f.turns {
		if d, ok, err = readers[len(readers)-1].TryNext(); ok || err != nil {
			return f.take(d, false), ok, 0, err
		}
	}
	if f.late >= max(1, window*f.share/100) || f.late > 0 && f.bytes >= bytes*f.share/100 {
		return d, false, 0, nil
	}
	if wait = f.lateRate.wait(); wait > 0 {
		return d, false, wait, nil
	}
	for _, readers := range f.turns {
		for _, r := range readers[:len(readers)-1] {
			if d, ok, err = r.TryNext(); ok || err != nil {
				return f.take(d, true), ok, 0, err
			}
		}
	}
	return d, false, 0, nil
}

// take counts what is handed out.
func (f *feed) take(d journal.Delivery, late bool) journal.Delivery {
	if d.Message == nil {
		return d
	}
	n := sizeOf(&d)
	f.rate.take(n)
	if late {
		f.lateRate.take(n)
		f.late++
		f.bytes += n
	}
	return d
}

// isLate says whether d is of the backlog.
func (f *feed) isLate(d *journal.Delivery) bool {
	return f.liveFirst && !slices.ContainsFunc(f.turns, func(readers []*journal.Reader) bool { return readers[len(readers)-1] == d.Reader })
}

// leave is called once for each message that is not out any more, whatever became of it.
func (f *feed) leave(d *journal.Delivery) {
	if f.isLate(d) {
		f.late--
		f.bytes -= sizeOf(d)
	}
}

// sizeOf is what a message counts in bytes, in flight and against a rate.
func sizeOf(d *journal.Delivery) int {
	return len(d.Message.Topic) + len(d.Message.Payload) + len(d.Message.Properties)
}
