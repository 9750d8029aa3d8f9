package journal

import (
	"sync/atomic"
	"time"
)

// pace records since when a goroutine has been at one piece of work. Reading it takes no lock.
type pace struct {
	begun time.Time    // with the monotonic clock
	since atomic.Int64 // ns since begun, 0 while it waits for work
}

func (p *pace) works() { p.since.Store(max(1, int64(time.Since(p.begun)))) }
func (p *pace) waits() { p.since.Store(0) }

func (p *pace) at() time.Duration {
	since := p.since.Load()
	if since == 0 {
		return 0
	}
	return time.Since(p.begun) - time.Duration(since)
}

// Stalled returns how long the journal has been at one commit, or at one round of completions; 0
// while there is nothing to do. It takes no lock, so that it returns even when the journal is stuck.
func (j *Journal) Stalled() time.Duration { return max(j.committing.at(), j.completing.at()) }

// StatsNow returns Stats, and false if the journal does not answer within a second.
func (j *Journal) StatsNow() (s Stats, ok bool) {
	for range 100 {
		if j.mu.TryLock() {
			defer j.mu.Unlock()
			return j.stats(), true
		}
		time.Sleep(10 * time.Millisecond)
	}
	return s, false
}
