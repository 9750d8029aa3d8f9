package bus

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/warthog618/go-gpiocdev"
	"golang.org/x/sys/unix"
)

// Edge is a change of an input line from inactive to active, or back, after its debounce.
type Edge struct {
	Rising bool      // became active
	Time   time.Time // when the kernel saw it, with the monotonic clock
	Seq    uint32    // of the edges of this line since it was opened, from 1; what is missing was lost
}

// edgeBuffer is how many edges the kernel keeps for a reader that is late: 0.1 s at 10 kHz.
const edgeBuffer = 1024

// Edges opens a line as an input and calls edge for every change to active, and to inactive if both.
// Calls come from one goroutine, in order; edge must not wait for anything slow, nor close the line.
//
// Several may open a line, if they want it set up in the same way: the kernel gives it once. When one of them finds
// that the line is broken, it is broken for all.
func (s *Set) Edges(name string, o LineOptions, both bool, edge func(Edge)) (Line, error) {
	sim, err := s.simulates(name)
	if err != nil {
		return nil, err
	}
	at := fmt.Sprintf("%v %s %d", sim != nil, o.Chip, o.Offset)
	s.mu.Lock()
	defer s.mu.Unlock()
	shared := s.edges[at]
	if shared == nil || shared.useless() {
		shared = &sharedLine{o: o, both: both, forget: func(l *sharedLine) {
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.edges[at] == l {
				delete(s.edges, at)
			}
		}}
		if shared.line, err = openEdges(sim, o, both, shared.edge); err != nil {
			return nil, err
		}
		if s.edges == nil {
			s.edges = map[string]*sharedLine{}
		}
		s.edges[at] = shared
	} else if shared.o != o || shared.both != both {
		return nil, fmt.Errorf("line %d: %w: another sensor has it with another bias, debounce or active_low, or as another kind of input: give both the same", o.Offset, ErrBusy)
	}
	shared.mu.Lock()
	defer shared.mu.Unlock()
	u := &lineUser{shared: shared, edge: edge, from: shared.seq}
	if len(shared.users) == 0 {
		u.from = 0 // edges may have come already: they count as lost
	}
	shared.users = append(slices.Clone(shared.users), u)
	return u, nil
}

func openEdges(sim Simulator, o LineOptions, both bool, edge func(Edge)) (Line, error) {
	if sim != nil {
		return simulatedLine(sim, nil, o, func(sim LineSimulator) (Line, error) { return sim.Edges(o, both, edge) })
	}
	opts := append(o.request(), gpiocdev.AsInput, gpiocdev.WithEventBufferSize(edgeBuffer),
		gpiocdev.WithEventHandler(func(e gpiocdev.LineEvent) {
			edge(Edge{Rising: e.Type == gpiocdev.LineEventRisingEdge, Time: kernelTime(e.Timestamp), Seq: e.LineSeqno})
		}))
	if both {
		opts = append(opts, gpiocdev.WithBothEdges)
	} else {
		opts = append(opts, gpiocdev.WithRisingEdge)
	}
	return requested(o, opts)
}

// kernelTime is the time of an edge that the kernel stamped with CLOCK_MONOTONIC (include/uapi/linux/gpio.h,
// gpio_v2_line_event).
func kernelTime(stamp time.Duration) time.Time {
	var ts unix.Timespec
	err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	now := time.Now()
	if err != nil {
		return now
	}
	ago := time.Duration(ts.Nano()) - stamp
	if ago < 0 || ago > time.Hour { // before Linux 5.7 the clock was another one
		return now
	}
	return now.Add(-ago)
}

// sharedLine is a line whose edges go to several users.
type sharedLine struct {
	o      LineOptions
	both   bool
	line   Line
	forget func(*sharedLine) // from the Set. Not called with mu held

	mu     sync.Mutex
	users  []*lineUser // replaced, never changed
	seq    uint32      // of the last edge
	closed bool
	broken error
}

type lineUser struct {
	shared *sharedLine
	edge   func(Edge)
	from   uint32 // the last edge before it was there
}

// useless reports whether a line cannot have any more users.
func (l *sharedLine) useless() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.closed || l.broken != nil
}

func (l *sharedLine) edge(e Edge) {
	l.mu.Lock()
	users := l.users
	if e.Seq == 0 { // the kernel has numbers since Linux 5.10
		e.Seq = l.seq + 1
	}
	l.seq = e.Seq
	l.mu.Unlock()
	for _, u := range users {
		own := e
		own.Seq -= u.from
		u.edge(own)
	}
}

// Value is 1 if the line is active. After an error the line is closed, so that it can be opened anew.
func (u *lineUser) Value() (int, error) {
	l := u.shared
	l.mu.Lock()
	broken := l.broken
	l.mu.Unlock()
	if broken != nil {
		return 0, broken
	}
	v, err := l.line.Value()
	if err == nil {
		return v, nil
	}
	err = fmt.Errorf("line %d: %w", l.o.Offset, classify(err))
	l.mu.Lock()
	l.broken = err
	l.mu.Unlock()
	l.forget(l)
	return 0, err
}

// Close ends the calls of edge of this user; one may be under way. The last one gives the line back.
func (u *lineUser) Close() error {
	l := u.shared
	l.mu.Lock()
	l.users = slices.DeleteFunc(slices.Clone(l.users), func(x *lineUser) bool { return x == u })
	last := len(l.users) == 0 && !l.closed
	l.closed = l.closed || last
	l.mu.Unlock()
	if !last {
		return nil
	}
	l.forget(l)
	return l.line.Close()
}
