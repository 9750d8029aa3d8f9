package journal

import (
	"maps"
	"strings"

	"holdfast/broker"
)

// complete applies committed batches in order: to the state and to the readers. Then it calls their Completers.
func (j *Journal) complete() {
	defer j.ended.Done()
	defer close(j.stop)
	failed := false // as Journal.failed
	for b := range j.done {
		j.completing.works()
		due := false
		if b.err == nil && b.seg != nil {
			due = j.apply(b)
			if failed {
				// What failed in between is in memory but not in the log; a checkpoint repairs that.
				j.mu.Lock()
				j.resnap, j.failed = true, false
				j.mu.Unlock()
			}
			failed = false
		} else {
			j.mu.Lock()
			j.arrived(b)
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
		b.reset()
		j.free = append(j.free, b)
		j.room.Broadcast()
		j.mu.Unlock()
		if due || failed {
			signal(j.housekeeping)
		}
		j.completing.waits()
	}
}

// arrived takes the state in b off stateNext: the batch is on disk, or has failed. Called with mu held.
func (j *Journal) arrived(b *batch) {
	for i := range b.items {
		if e := &b.items[i].entry; len(e.Changes) > 0 {
			j.stateNext -= e.stateSize()
		}
	}
}

// apply brings memory to the state after the batch and reports whether the maintainer has
// something to do.
func (j *Journal) apply(b *batch) (due bool) {
	rolled := false
	j.mu.Lock()
	defer j.mu.Unlock()
	s := b.seg
	if n := len(j.segments); n == 0 || j.segments[n-1] != s {
		j.segments = append(j.segments, s)
		rolled = true
	}
	j.arrived(b)
	for i := range b.items {
		it := &b.items[i]
		e := &it.entry
		j.applyChanges(e.Changes)
		if e.Message == nil {
			continue
		}
		j.counters.messages.Add(1)
		s.next = it.seq + 1
		s.newest = it.boot
		t := b.clock.at(it.boot)
		if t.Synced {
			s.wall = t.Wall.UnixNano()
		}
		if e.Retained {
			j.setRetained(e.Message, t)
		}
		if len(e.Owed) > 0 {
			s.noteFrom(e.From, int64(align(frameHeader+it.length)))
		}
		for _, o := range e.Owed {
			s.note(o.Reader.id, it.seq, it.length)
			o.Reader.offer(Delivery{
				Seq: it.seq, Message: e.Message, QoS: o.QoS, Retain: o.Retain, Time: t,
			})
		}
	}
	for _, l := range b.losses {
		j.addLoss(l.reader, l.Loss)
	}
	j.logging = j.logging[len(b.losses):]
	for _, a := range b.acks {
		a.reader.durable = a.ackState
	}
	s.end = b.end
	return rolled || len(b.acks) > 0 && j.reclaimable(j.segments[0])
}

func (j *Journal) applyChanges(changes []Change) {
	for _, c := range changes {
		j.applyChange(c.Key, c.Value)
	}
}

func (j *Journal) applyChange(key string, value []byte) {
	switch {
	case strings.HasPrefix(key, discardPrefix):
		for _, r := range j.byID {
			if r.removed && discardPrefix+r.name == key {
				j.discarded(r, value)
				break
			}
		}
	case strings.HasPrefix(key, readerPrefix):
		// A reader is in memory since OpenReader; a removed one is needed until its end is on disk.
		if value == nil {
			maps.DeleteFunc(j.byID, func(_ uint64, r *Reader) bool { return r.removed && readerPrefix+r.name == key })
		}
	default:
		j.setState(key, value)
	}
}

// setState sets a key, or deletes it if value is nil. Called with mu held.
func (j *Journal) setState(key string, value []byte) {
	if old, ok := j.state[key]; ok {
		j.stateSize -= stateWeight(key, old)
	}
	if value == nil {
		delete(j.state, key)
		return
	}
	j.state[key] = value
	j.stateSize += stateWeight(key, value)
}

func (j *Journal) setRetained(m *broker.Message, t Time) {
	if len(m.Payload) == 0 {
		delete(j.retained, m.Topic)
	} else {
		j.retained[m.Topic] = retained{message: m, time: t}
	}
}
