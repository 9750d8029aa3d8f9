package journal

import (
	"maps"
	"strings"
)

// complete applies committed batches in order: to the state and to the readers. Then it calls their Completers.
func (j *Journal) complete() {
	defer j.running.ended.Done()
	defer close(j.running.stop)
	failed := false // as ackQueue.failed
	for b := range j.running.done {
		j.running.completing.works()
		due := false
		if b.err == nil && b.seg != nil {
			due = j.apply(b)
			if failed {
				// What failed in between is in memory but not in the log; a checkpoint repairs that.
				j.mu.Lock()
				j.checkpoints.wanted, j.acks.failed = true, false
				j.mu.Unlock()
			}
			failed = false
		} else {
			j.mu.Lock()
			j.state.arrived(b)
			j.mu.Unlock()
		}
		failed = failed || b.err != nil
		for i := range b.items {
			it := &b.items[i]
			if it.entry.Done == nil {
				continue
			}
			var err error
			if it.offset > 0 {
				err = b.err
			}
			seq := it.seq
			if it.entry.Message == nil {
				seq = 0
			}
			it.entry.Done.Committed(&it.entry, seq, err)
		}
		j.mu.Lock()
		j.queue.putBack(b)
		j.room.Broadcast()
		j.mu.Unlock()
		if due || failed {
			j.running.wakeMaintainer()
		}
		j.running.completing.waits()
	}
}

// apply brings memory to the state after the batch and reports whether the maintainer has
// something to do.
func (j *Journal) apply(b *batch) (due bool) {
	rolled := false
	j.mu.Lock()
	defer j.mu.Unlock()
	s := b.seg
	if j.segments.newest() != s {
		j.segments = append(j.segments, s)
		rolled = true
	}
	j.state.arrived(b)
	for i := range b.items {
		it := &b.items[i]
		e := &it.entry
		j.applyChanges(e.Changes)
		if e.Message == nil {
			continue
		}
		j.figures.messages.Add(1)
		s.next = it.seq + 1
		s.newest = it.boot
		t := b.clock.at(it.boot)
		if t.Synced {
			s.wall = t.Wall.UnixNano()
		}
		if e.Retained {
			j.state.retain(e.Message, t, nil)
		}
		if len(e.Owed) > 0 {
			s.noteFrom(e.From, int64(align(frameHeader+it.length)))
		}
		for _, o := range e.Owed {
			s.note(o.Reader.id, it.seq, it.length)
			o.Reader.offer(&Delivery{
				Seq: it.seq, Message: e.Message, QoS: o.QoS, Retain: o.Retain, Time: t,
			})
		}
	}
	for _, l := range b.losses {
		j.addLoss(l.reader, l.Loss)
	}
	j.acks.written(b)
	for _, a := range b.acks {
		a.reader.reg.durable = a.ackState
	}
	s.end = b.end
	return rolled || len(b.acks) > 0 && j.reclaimable(j.segments[0])
}

// applyChanges is called with mu held.
func (j *Journal) applyChanges(changes []Change) {
	for _, c := range changes {
		j.applyChange(c.Key, c.Value)
	}
}

// applyChange is called with mu held, or by recovery.
func (j *Journal) applyChange(key string, value []byte) {
	switch {
	case strings.HasPrefix(key, discardPrefix):
		for _, r := range j.readers.byID {
			if r.reg.removed && discardPrefix+r.reg.name == key {
				j.discarded(r, value)
				break
			}
		}
	case strings.HasPrefix(key, readerPrefix):
		// A reader is in memory since OpenReader; a removed one is needed until its end is on disk.
		if value == nil {
			maps.DeleteFunc(j.readers.byID, func(_ uint64, r *Reader) bool { return r.reg.removed && readerPrefix+r.reg.name == key })
		}
	default:
		j.state.set(key, value)
	}
}
