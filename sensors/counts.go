package sensors

import "sync/atomic"

// Counts are totals of one sensor since it was started.
type Counts struct {
	Taken  uint64 // readings that succeeded
	Failed uint64 // readings that did not, late ones included
}

type counts struct{ taken, failed atomic.Uint64 }

// Counts returns the totals of all sensors, by name. It waits for nothing.
func (s *Supervisor) Counts() map[string]Counts {
	all := map[string]Counts{}
	s.counts.Range(func(name, c any) bool {
		n := c.(*counts)
		all[name.(string)] = Counts{n.taken.Load(), n.failed.Load()}
		return true
	})
	return all
}
