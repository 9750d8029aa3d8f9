package gateway

import (
	"slices"
	"sync"
	"time"
)

// stuckAfter is how long a loop may be at one piece of work. Cards have been seen to stall for many seconds.
const stuckAfter = 30 * time.Second

// progress knows of the loops that do the gateway's work whether each is waiting for something to do, or since
// when it has been at it. A loop tells when it begins and ends to wait, so that nobody has to wake it up to
// find out. One that waits is well, whatever it waits for: an upstream, a hung bus, the next reading.
type progress struct {
	begun time.Time // with the monotonic clock: the machine's may jump

	mu    sync.Mutex
	loops map[*loop]struct{}
}

type loop struct {
	name string
	busy time.Duration // when it began, since begun
}

func newProgress() *progress {
	return &progress{begun: time.Now(), loops: map[*loop]struct{}{}}
}

// loop returns what a loop calls with true when it has something to do, and with false before it waits and when
// it ends.
func (p *progress) loop(name string) func(busy bool) {
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

// stuck names the loops that have been at one piece of work for longer than that.
func (p *progress) stuck(longer time.Duration) (names []string) {
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
