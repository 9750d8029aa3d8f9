package outbox

import (
	"cmp"
	"slices"
	"time"

	"holdfast/broker/journal"
)

// scheduler returns the pending messages of all queues in the order in which to send them. It is for the
// goroutine of Run; depth is safe for concurrent use.
type scheduler struct {
	queues    []*Queue // highest priority first
	liveFirst bool
	share     int // percent of the window that is for the backlog, if liveFirst
	rate      limiter
	lateRate  limiter // of the backlog, if liveFirst
	ready     chan struct{}

	turns [][]*journal.Reader // of queues, since attach
	late  int                 // messages of the backlog that are out
	bytes int                 // in them
}

func newScheduler(o *Options) *scheduler {
	s := &scheduler{queues: o.Queues, liveFirst: o.LiveFirst, share: o.Share, ready: make(chan struct{}, 1)}
	if len(s.queues) == 0 {
		s.queues = []*Queue{NewQueue(0, nil, o.Reader)}
	}
	s.queues = slices.SortedStableFunc(slices.Values(s.queues), func(a, b *Queue) int { return cmp.Compare(b.priority, a.priority) })
	s.rate, s.lateRate = newLimiter(o.Rate, 100), newLimiter(o.Rate, o.Share)
	return s
}

func (s *scheduler) depth() (n uint64) {
	for _, q := range s.queues {
		n += q.depth()
	}
	return n
}

// attach begins a connection.
func (s *scheduler) attach(few uint64) error {
	s.turns, s.late, s.bytes = s.turns[:0], 0, 0
	for _, q := range s.queues {
		if s.liveFirst {
			if err := q.rotate(few); err != nil {
				return err
			}
		}
		readers := q.all()
		s.turns = append(s.turns, readers)
		for _, r := range readers {
			r.Notify(func() { signal(s.ready) })
			r.Attach()
		}
	}
	return nil
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (s *scheduler) detach() {
	for _, readers := range s.turns {
		for _, r := range readers {
			r.Detach()
		}
	}
}

// next returns the next message, if there is one and it may go now, or how long a rate keeps it back. window and
// bytes are what may be in flight, of which the backlog takes its share.
func (s *scheduler) next(window, bytes int) (d journal.Delivery, ok bool, wait time.Duration, err error) {
	if wait = s.rate.wait(); wait > 0 {
		return d, false, wait, nil
	}
	if !s.liveFirst {
		for _, readers := range s.turns {
			for _, r := range readers {
				if d, ok, err = r.TryNext(); ok || err != nil {
					return s.take(d, false), ok, 0, err
				}
			}
		}
		return d, false, 0, nil
	}
	for _, readers := range s.turns {
		if d, ok, err = readers[len(readers)-1].TryNext(); ok || err != nil {
			return s.take(d, false), ok, 0, err
		}
	}
	if s.late >= max(1, window*s.share/100) || s.late > 0 && s.bytes >= bytes*s.share/100 {
		return d, false, 0, nil
	}
	if wait = s.lateRate.wait(); wait > 0 {
		return d, false, wait, nil
	}
	for _, readers := range s.turns {
		for _, r := range readers[:len(readers)-1] {
			if d, ok, err = r.TryNext(); ok || err != nil {
				return s.take(d, true), ok, 0, err
			}
		}
	}
	return d, false, 0, nil
}

// take counts a message that next has returned.
func (s *scheduler) take(d journal.Delivery, late bool) journal.Delivery {
	if d.Message == nil {
		return d
	}
	n := sizeOf(&d)
	s.rate.take(n)
	if late {
		s.lateRate.take(n)
		s.late++
		s.bytes += n
	}
	return d
}

// isLate reports whether d is of the backlog.
func (s *scheduler) isLate(d *journal.Delivery) bool {
	return s.liveFirst && !slices.ContainsFunc(s.turns, func(readers []*journal.Reader) bool { return readers[len(readers)-1] == d.Reader })
}

// leave counts a message that is not in flight any more, for whatever reason. It is called once for each.
func (s *scheduler) leave(d *journal.Delivery) {
	if s.isLate(d) {
		s.late--
		s.bytes -= sizeOf(d)
	}
}

// sizeOf returns the bytes that a message counts as, in flight and against a rate.
func sizeOf(d *journal.Delivery) int {
	return len(d.Message.Topic) + len(d.Message.Payload) + len(d.Message.Properties)
}
