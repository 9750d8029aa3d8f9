package sensors

import (
	"sync/atomic"
	"time"
)

// Counts are totals of one sensor since it was started.
type Counts struct {
	Taken    uint64 // readings that succeeded
	Failures uint64 // readings that did not, late ones included
	Missed   uint64 // readings that were not tried: the one before, or others on the bus, took too long
	LeftOut  uint64 // readings of a Source that came faster than its limit
	Behind   bool   // it misses a tenth of its readings or more
}

type counts struct {
	taken, failures, missed, leftOut atomic.Uint64
	behind                           atomic.Bool
}

// Counts returns the totals of all sensors, by name. It waits for nothing.
func (s *Supervisor) Counts() map[string]Counts {
	all := map[string]Counts{}
	s.counts.Range(func(name, c any) bool {
		n := c.(*counts)
		all[name.(string)] = Counts{n.taken.Load(), n.failures.Load(), n.missed.Load(), n.leftOut.Load(), n.behind.Load()}
		return true
	})
	return all
}

const (
	paceTime  = 30 * time.Second // least time over which a pace is judged
	paceSlots = 10               // least number of slots
	paceShare = 10               // one in so many missed is too many
)

// pace is how many readings of a sensor were taken and missed lately.
type pace struct {
	begun         time.Time
	taken, missed uint64
}

// add notes one reading that was taken, and others after it that were missed. When there have been enough it reports
// whether too many were missed, and begins again.
func (p *pace) add(missed uint64, now time.Time, every time.Duration) (behind, known bool) {
	if p.begun.IsZero() {
		p.begun = now
	}
	p.taken++
	p.missed += missed
	if now.Sub(p.begun) < max(paceTime, paceSlots*every) {
		return false, false
	}
	behind = p.missed*paceShare >= p.taken+p.missed
	*p = pace{begun: now}
	return behind, true
}
