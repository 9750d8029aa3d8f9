// Package progress tracks whether each loop that does the gateway's work makes progress.
package progress

import (
	"slices"
	"sync"
	"time"
)

// StuckAfter is how long a loop may be at one piece of work. Cards have been seen to stall for many seconds.
const StuckAfter = 30 * time.Second

// Progress tracks of each loop whether it is idle, or since when it has been busy. A loop
// reports when it begins and ends to wait, so that no check has to wake it up. An idle loop is well,
// whatever it waits for: an upstream, a hung bus, the next reading. Methods are safe for concurrent use.
type Progress struct {
	begun time.Time // with the monotonic clock: the machine's may jump

	mu    sync.Mutex
	loops map[*loop]struct{}
}

type loop struct {
	name string
	busy time.Duration // when it began, since begun
}

// New returns a Progress without loops.
func New() *Progress {
	return &Progress{begun: time.Now(), loops: map[*loop]struct{}{}}
}

// Loop returns a function that a loop calls with true when it has something to do, and with false before it waits
// and when it ends.
func (p *Progress) Loop(name string) func(busy bool) {
	l := &loop{name: name}
	return func(busy bool) {
		p.mu.Lock()
		defer p.mu.Unlock()
		if !busy {
			delete(p.loops, l)
			return
		}
		l.busy = time.Since(p.begun)
		p.loops[l] = struct{}{}
	}
}

// Stuck returns the names of the loops that have been at one piece of work for longer than that.
func (p *Progress) Stuck(longer time.Duration) (names []string) {
	now := time.Since(p.begun)
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.loops {
		if now-l.busy > longer {
			names = append(names, l.name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}
