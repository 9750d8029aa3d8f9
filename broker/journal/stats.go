package journal

import (
	"sync/atomic"
	"time"
)

// figures are totals since Open, and what the card endured before. Totals are atomic; the rest does not change after Open.
type figures struct {
	commits, syncs, written, messages, refused, refusedState, failures, damaged atomic.Uint64

	before Ledger // up to Open
	made   bool   // the journal, by this process, madeAt ns after boot
	madeAt int64
}

// begin notes when the journal was made, if that is now.
func (f *figures) begin(c *clock) {
	if f.before.Since.IsZero() {
		f.made, f.madeAt = true, c.bootTime()
	}
}

// ledger returns the wear up to now.
func (f *figures) ledger(c *clock) Ledger {
	l := f.before
	if f.made { // by the clock as it is now: it may have been set right since
		now := c.read()
		l.Since = now.at(f.madeAt).Wall
	}
	l.Bytes += f.written.Load()
	l.Syncs += f.syncs.Load()
	return l
}

// Stats are totals since Open, and the present size.
type Stats struct {
	Messages  uint64 // appended and durable
	Commits   uint64
	Syncs     uint64 // fdatasync and directory syncs
	Written   uint64 // bytes handed to the file system
	Refused   uint64 // messages that Append did not take because the journal was full
	Failures  uint64 // failed writes and syncs
	StateSize int64  // bytes of memory that the state takes
	StateFull uint64 // entries that Append did not take because the state had its share
	Damaged   uint64 // bytes of segments that could not be read back
	Size      int64  // bytes of all segments
	Segments  int
	NextSeq   uint64
	Full      bool // refusing new messages
	Failed    bool // storage refuses writes
	Retained  int
	StateKeys int
	Ledger    Ledger
}

// Stats returns figures for metrics.
func (j *Journal) Stats() Stats {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.stats()
}

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

// stats is Stats, called with mu held.
func (j *Journal) stats() Stats {
	return Stats{
		Messages: j.figures.messages.Load(),
		Commits:  j.figures.commits.Load(), Syncs: j.figures.syncs.Load(),
		Written: j.figures.written.Load(), Refused: j.figures.refused.Load(), Failures: j.figures.failures.Load(),
		Damaged: j.figures.damaged.Load(), Ledger: j.figures.ledger(&j.clock),
		Segments: len(j.segments), Size: int64(len(j.segments)) * j.opts.SegmentSize,
		NextSeq: j.queue.nextSeq, Full: j.preallocated.full, Failed: j.acks.failed || j.preallocated.err != nil,
		Retained: len(j.state.retained), StateKeys: len(j.state.keys), StateSize: j.state.size, StateFull: j.figures.refusedState.Load(),
	}
}

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
func (j *Journal) Stalled() time.Duration {
	return max(j.running.committing.at(), j.running.completing.at())
}

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
