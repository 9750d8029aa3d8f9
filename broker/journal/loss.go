package journal

import (
	"math"
	"slices"
	"time"

	"holdfast/broker"
)

const maxLosses = 1000

// lossList names what was lost, as on disk. Guarded by Journal.mu.
type lossList struct {
	ranges []Loss   // oldest first, at most maxLosses
	news   uint64   // the number of the newest loss, ever
	found  []uint64 // News of those that recovery has found
}

// lose settles the messages from first to last, all of them in s, that are pending for r and cannot be delivered any
// more (see settle). It names the loss in one record with r's position behind it: the one is never on
// disk without the other. It returns how many of the messages had not been handed out. While the journal closes
// it drops nothing: the next process finds the messages again. Called with mu held.
func (j *Journal) lose(r *Reader, s *segment, first, last, most uint64, l Loss) (ahead uint64) {
	if j.closing {
		return 0
	}
	from, handed, ahead := r.settle(first, last, most, j.segments.owedBehind(r.id, s))
	count := handed + ahead
	if count == 0 {
		return 0
	}
	l.Reader, l.First, l.Last, l.Count, l.Time = r.reg.name, max(from, s.base), last, count, time.Now()
	l.Numbers.Count = min(l.Numbers.Count, count)
	j.log.Error("journal: messages lost", "reader", r.reg.name, "first", l.First, "last", l.Last, "count", l.Count, "reason", l.Reason)
	j.acks.lose(readerLoss{r, l, r.ackState()})
	j.acks.mark(r)
	j.running.wakeCommitter()
	return ahead
}

// Drop settles a message that was handed out and that the consumer will never deliver, like Ack, and names it in
// Losses with the reason that the consumer gives. Both are on disk with the next
// commit, or within a second. Drop waits for the disk when 256 losses wait already; on a
// disk that fails it does nothing, and the message comes again after Attach. It must not be called by a
// Completer.
func (r *Reader) Drop(d *Delivery, reason string) {
	j := r.j
	numbers := j.number(d.Message)
	j.mu.Lock()
	defer j.mu.Unlock()
	for j.acks.crowded() && !j.closing && !j.acks.failed {
		j.acks.flushNow = true
		j.running.wakeCommitter()
		j.room.Wait()
	}
	if j.closing || j.acks.crowded() || !r.settleOne(d.Seq) {
		return
	}
	l := Loss{Reader: r.reg.name, First: d.Seq, Last: d.Seq, Count: 1, Reason: reason, Time: time.Now(), Numbers: numbers}
	j.acks.drop(readerLoss{r, l, r.ackState()}, d.before)
	if j.acks.note(r) {
		j.running.wakeCommitter()
	}
}

// number returns what Options.Number returns for m.
func (j *Journal) number(m *broker.Message) Numbers {
	if j.opts.Number == nil {
		return Numbers{}
	}
	n, ok := j.opts.Number(m)
	if !ok {
		return Numbers{}
	}
	return Numbers{n, n, 1}
}

// follows reports whether next continues l: nothing else was owed to the reader in between. An unknown loss stands
// alone: its ID names the start that found it. before is the
// reader's message before next, if it is known.
func (l *Loss) follows(next *Loss, before uint64) bool {
	return l.Reader == next.Reader && l.Reason == next.Reason && l.Reason != ReasonUnknown && (l.Last+1 == next.First || before != 0 && l.Last == before)
}

func (l *Loss) extend(next *Loss) {
	l.Last, l.Count, l.Time, l.News = max(l.Last, next.Last), l.Count+next.Count, next.Time, max(l.News, next.News)
	l.Numbers.add(next.Numbers)
}

// addLoss records a loss that is on disk, or that recovery has found. r is nil if the reader is not known.
// Called with mu held, or by recovery.
func (j *Journal) addLoss(r *Reader, l Loss) {
	if r != nil {
		r.reg.countLost(l.Reason, l.Count)
	}
	j.losses.add(l)
}

// findLoss records a loss that recovery has found, and that is not on disk yet. r is nil if the reader is not known.
func (j *Journal) findLoss(r *Reader, l Loss) {
	l.Time = time.Now()
	j.addLoss(r, l)
	j.losses.found = append(j.losses.found, j.losses.news)
}

// add numbers l, and makes it one with a recent range that it continues, or enters it.
func (q *lossList) add(l Loss) {
	q.news++
	l.ID, l.News = q.news, q.news
	recent := q.ranges[max(0, len(q.ranges)-16):] // of several readers in turn
	if i := slices.IndexFunc(recent, func(p Loss) bool { return p.follows(&l, 0) }); i >= 0 {
		recent[i].extend(&l)
		return
	}
	if len(q.ranges) >= maxLosses {
		q.coarsen()
	}
	q.ranges = append(q.ranges, l)
}

// coarsen makes room in the list: it joins the oldest range that has a later one of the same reader and reason with
// that one, so that counts stay exact where positions do not.
func (q *lossList) coarsen() {
	for k := range q.ranges {
		old := q.ranges[k]
		i := slices.IndexFunc(q.ranges[k+1:], func(l Loss) bool { return l.Reader == old.Reader && l.Reason == old.Reason })
		if i >= 0 {
			next := &q.ranges[k+1+i]
			old.First = min(old.First, next.First)
			old.extend(next)
			*next = old
			q.ranges = slices.Delete(q.ranges, k, k+1)
			return
		}
	}
	q.ranges = slices.Delete(q.ranges, 0, 1) // more readers than ranges
}

// rename moves the losses of a reader to its new name.
func (q *lossList) rename(oldName, newName string) {
	for i := range q.ranges {
		if q.ranges[i].Reader == oldName {
			q.ranges[i].Reader = newName
		}
	}
}

// jump goes on with numbers behind from, and gives those that recovery has found such numbers too.
func (q *lossList) jump(from uint64) {
	q.news = max(q.news, from)
	for i := range q.ranges {
		l := &q.ranges[i]
		if found := slices.Index(q.found, l.ID); found >= 0 {
			q.news++
			l.ID, l.News, q.found[found] = q.news, q.news, q.news
		}
	}
}

// wereFound returns those that recovery has found.
func (q *lossList) wereFound() (found []Loss) {
	for _, l := range q.ranges {
		if slices.Contains(q.found, l.News) {
			found = append(found, l)
		}
	}
	return found
}

// Losses returns what was dropped, oldest first. At most 1,000 ranges are kept: beyond that, the oldest
// become one with the next of the same reader and reason.
func (j *Journal) Losses() []Loss {
	j.mu.Lock()
	defer j.mu.Unlock()
	losses := slices.Clone(j.losses.ranges)
	for _, l := range j.acks.list() {
		losses = append(losses, l.Loss)
	}
	return losses
}

// vanished counts what r was owed in a segment whose file is missing as lost.
func (j *Journal) vanished(r *Reader, s *segment) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.loseSegment(r, s, Loss{Reason: ReasonDamage})
}

// loseSegment settles everything up to the end of s for r. Called with mu held.
func (j *Journal) loseSegment(r *Reader, s *segment, l Loss) {
	if in, ok := s.owed[r.id]; ok {
		j.lose(r, s, 0, in.last, math.MaxUint64, l)
	}
}

// debt is what was pending for a reader at one moment, to count the messages of it in one segment.
type debt struct {
	reader  *Reader
	handed  uint64
	unacked []uint64
	count   uint64
	numbers Numbers
}

// debt is called with Journal.mu held.
func (r *Reader) debt() *debt {
	r.mu.Lock()
	defer r.mu.Unlock()
	return &debt{reader: r, handed: r.backlog.handed, unacked: slices.Clone(r.backlog.unacked)}
}

// count reads s and counts what is pending for each reader in debts.
func (j *Journal) count(s *segment, debts map[uint64]*debt) error {
	var waits []*debt
	return j.messages(s, func(f frame, p *parser) {
		waits = waits[:0]
		flags := p.owed(func(o owedTo) {
			d, ok := debts[o.reader]
			if !ok {
				return
			}
			if _, unacked := slices.BinarySearch(d.unacked, f.seq); unacked || f.seq >= d.handed {
				waits = append(waits, d)
			}
		})
		var n Numbers
		if len(waits) > 0 && j.opts.Number != nil {
			var m broker.Message
			if p.message(flags, &m, func(string, []byte) {}); p.err == nil {
				n = j.number(&m)
			}
		}
		for _, d := range waits {
			d.count++
			d.numbers.add(n)
		}
	})
}

// messages calls do for each message of s that can be read, with a parser of its body.
func (j *Journal) messages(s *segment, do func(f frame, p *parser)) error {
	f, err := j.fs.Open(s.name(), false)
	if err != nil {
		return err
	}
	defer f.Close()
	s.messages(f, s.end, do)
	return nil
}

// messages does the same for the first end bytes of the segment's open file.
func (s *segment) messages(file File, end int64, do func(f frame, p *parser)) {
	var p parser
	for sc := newScanner(file, &s.header, headerSize, end, nil); ; {
		f, ok := sc.next()
		if !ok {
			return
		}
		if f.kind == kindMessage {
			p = parser{b: f.body}
			do(f, &p)
		}
	}
}
