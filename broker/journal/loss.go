package journal

import (
	"slices"
	"time"
)

const maxLosses = 1000

type readerLoss struct {
	reader *Reader
	Loss
	ackState // where the reader stands behind it
}

// lose settles what r was owed from first to last, which nobody can deliver any more, and names the
// loss in the log, in one record with where r stands behind it: the one is never on disk without the
// other. All that r is owed before first is settled, or from is 0. While the journal closes nothing is
// given up: the next process will find it again. Called with mu held.
func (j *Journal) lose(r *Reader, from, first, last, count uint64, reason string) {
	if j.closing {
		return
	}
	r.settle(from, last, count)
	j.log.Error("journal: messages lost", "reader", r.name, "first", first, "last", last, "count", count, "reason", reason)
	j.unlogged = append(j.unlogged, readerLoss{r, Loss{r.name, first, last, count, reason, time.Now()}, r.ackState()})
	j.markDirty(r)
	j.poke()
}

// addLoss is called with mu held.
func (j *Journal) addLoss(l Loss) {
	same := func(p Loss) bool { return p.Reader == l.Reader && p.Reason == l.Reason && p.Last+1 == l.First }
	recent := j.losses[max(0, len(j.losses)-16):] // of several readers in turn
	if i := slices.IndexFunc(recent, same); i >= 0 {
		p := &recent[i]
		p.Last, p.Count, p.Time = l.Last, p.Count+l.Count, l.Time
		return
	}
	if len(j.losses) >= maxLosses {
		j.losses = append(j.losses[:0], j.losses[1:]...)
	}
	j.losses = append(j.losses, l)
}

// vanished settles what r was owed in a segment whose file is not there.
func (j *Journal) vanished(r *Reader, s *segment) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.loseSegment(r, s, j.waiting(r, s), ReasonDamage)
}

// waiting is how many messages of s r is still owed, given that it reads in order: everything before
// s is settled or handed out. Called with mu held.
func (j *Journal) waiting(r *Reader, s *segment) uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	rest := r.owed - r.settled
	for _, other := range j.segments {
		if other.base > s.base {
			rest -= min(rest, other.owed[r.id].count)
		}
	}
	return min(rest, s.owed[r.id].count)
}

// loseSegment settles everything up to the end of s for r. Called with mu held.
func (j *Journal) loseSegment(r *Reader, s *segment, count uint64, reason string) {
	in, ok := s.owed[r.id]
	if !ok {
		return
	}
	first := max(r.firstWaiting(), s.base)
	if first > in.last || count == 0 {
		return
	}
	j.lose(r, 0, first, in.last, count, reason)
}

// debt is what a reader was owed when it was looked at, to count what of it stands in one segment.
type debt struct {
	reader  *Reader
	handed  uint64
	unacked []uint64
	settled uint64
	count   uint64
}

// debt is called with Journal.mu held.
func (r *Reader) debt() *debt {
	r.mu.Lock()
	defer r.mu.Unlock()
	return &debt{reader: r, handed: r.handed, unacked: slices.Clone(r.unacked), settled: r.settled}
}

// now is the count less what was acknowledged since.
func (d *debt) now() uint64 {
	d.reader.mu.Lock()
	defer d.reader.mu.Unlock()
	return d.count - min(d.count, d.reader.settled-d.settled)
}

// count reads s and counts what each reader in debts waits for.
func (j *Journal) count(s *segment, debts map[uint64]*debt) error {
	f, err := j.fs.Open(s.name(), false)
	if err != nil {
		return err
	}
	defer f.Close()
	sc := newScanner(f, &s.header, headerSize, s.end, nil)
	for {
		fr, ok := sc.next()
		if !ok {
			return nil
		}
		if fr.kind != kindMessage {
			continue
		}
		p := parser{b: fr.body}
		p.owed(func(o owedTo) {
			d, ok := debts[o.reader]
			if !ok {
				return
			}
			if _, waits := slices.BinarySearch(d.unacked, fr.seq); waits || fr.seq >= d.handed {
				d.count++
			}
		})
	}
}
