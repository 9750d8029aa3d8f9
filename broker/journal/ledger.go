package journal

import "time"

// Ledger is the wear of the card: what the journal has written since it was created, over all processes. A crash loses
// the part since the last checkpoint, except what recovery finds of it.
type Ledger struct {
	Since time.Time // by a clock that may have been wrong
	Bytes uint64    // handed to the file system
	Syncs uint64    // fdatasync and directory syncs
}

const (
	// wear is how many bytes a card is assumed to program for each that it is handed: its pages are
	// larger than a commit, and the file system writes besides.
	wear = 8
	// erasures is how often a card is assumed to endure being written from end to end: a cautious
	// figure for the cells of cheap cards. Those sold for surveillance give 3,000 and more.
	erasures = 1000

	day = 24 * time.Hour
)

// PerDay is the average of bytes a day until now; 0 while the ledger is younger than a minute.
func (l Ledger) PerDay(now time.Time) uint64 {
	age := now.Sub(l.Since)
	if age < time.Minute {
		return 0
	}
	return uint64(float64(l.Bytes) * float64(day) / float64(age))
}

// Lifetime estimates how long a card of that many bytes endures perDay, if nothing else writes to it; 0
// without data. It returns at most a century.
func Lifetime(perDay, capacity uint64) time.Duration {
	if perDay == 0 {
		return 0
	}
	days := float64(capacity) * erasures / (float64(perDay) * wear)
	return time.Duration(min(days, 36500)) * day
}

// ledger returns the wear up to now.
func (j *Journal) ledger() Ledger {
	l := j.before
	if j.made { // by the clock as it is now: it may have been set right since
		now := j.clock.read()
		l.Since = now.at(j.madeAt).Wall
	}
	l.Bytes += j.counters.written.Load()
	l.Syncs += j.counters.syncs.Load()
	return l
}
