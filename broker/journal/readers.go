package journal

import (
	"encoding/binary"
	"maps"
	"slices"
	"time"
)

const (
	readerPrefix  = "journal/reader/"  // keys that make and remove readers
	discardPrefix = "journal/discard/" // keys that remove readers with what they were owed; see discarded
)

// MaxPriority is the highest priority of a reader.
const MaxPriority = 3

// OpenReader returns the reader of that name, and creates it if there is none. A new one is owed nothing yet, and
// becomes durable no later than the first message that it is owed.
func (j *Journal) OpenReader(name string) (*Reader, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if r, ok := j.readers[name]; ok {
		return r, nil
	}
	r := newReader(j, name, j.nextID, j.nextSeq)
	if err := j.append(&Entry{Changes: []Change{r.registration()}, Lazy: true}); err != nil {
		return nil, err
	}
	j.nextID++
	j.readers[name], j.byID[r.id] = r, r
	return r, nil
}

// registration returns the change that registers r with its name and priority. Called with Journal.mu held.
func (r *Reader) registration() Change {
	value := binary.AppendUvarint(nil, r.id)
	if r.priority > 0 {
		value = binary.AppendUvarint(value, uint64(r.priority))
	}
	return Change{readerPrefix + r.name, value}
}

// SetPriority sets how late, at a limit of space, r's messages are dropped: those of readers with
// lower priorities, 0 to MaxPriority, go first. It is durable.
func (r *Reader) SetPriority(priority byte) error {
	r.j.mu.Lock()
	defer r.j.mu.Unlock()
	priority = min(priority, MaxPriority)
	if r.removed || r.priority == priority {
		return nil
	}
	old := r.priority
	r.priority = priority
	if err := r.j.append(&Entry{Changes: []Change{r.registration()}, Lazy: true}); err != nil {
		r.priority = old
		return err
	}
	return nil
}

// RenameReader gives a reader and its backlog another name. Without a reader of the old name, or with
// one of the new name, it does nothing and returns false.
func (j *Journal) RenameReader(oldName, newName string) (bool, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	r, ok := j.readers[oldName]
	if _, taken := j.readers[newName]; !ok || taken {
		return false, nil
	}
	r.name = newName
	if err := j.append(&Entry{Changes: []Change{r.registration()}, Lazy: true}); err != nil {
		r.name = oldName
		return false, err
	}
	delete(j.readers, oldName)
	j.readers[newName] = r
	j.renameLosses(oldName, newName)
	return true, nil
}

// RemoveReader forgets a reader and what it was owed, on purpose: nothing counts as lost. Its
// consumer must have stopped.
func (j *Journal) RemoveReader(name string) error { return j.removeReader(name, "") }

// DiscardReader removes a reader like RemoveReader, but counts what it was owed as lost: it
// is in Losses with reason as soon as the end of the reader is on disk.
func (j *Journal) DiscardReader(name, reason string) error { return j.removeReader(name, reason) }

// removeReader does the work of DiscardReader, or with an empty reason of RemoveReader.
func (j *Journal) removeReader(name, reason string) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	r, ok := j.readers[name]
	if !ok {
		return nil
	}
	end := Change{Key: readerPrefix + name}
	if reason != "" {
		end = Change{discardPrefix + name, appendDiscard(nil, r.id, reason, time.Now(), r.ackState())}
	}
	if err := j.append(&Entry{Changes: []Change{end}, Lazy: true}); err != nil {
		return err
	}
	delete(j.readers, name)
	r.removed = true
	r.mu.Lock()
	defer r.mu.Unlock()
	r.attached, r.live = false, false
	r.dropQueue()
	return nil
}

// appendDiscard appends the value of a discarded reader: why, when, and its position, so that messages whose
// acknowledgements are not on disk yet do not count as lost.
func appendDiscard(b []byte, id uint64, reason string, at time.Time, a ackState) []byte {
	b = binary.LittleEndian.AppendUint64(appendString(b, reason), uint64(at.UnixNano()))
	return appendAck(b, id, &a)
}

// discarded removes a reader and names what it was owed, including messages that became durable between the call
// of DiscardReader and its record. Called with mu held, or by recovery.
func (j *Journal) discarded(r *Reader, value []byte) {
	delete(j.byID, r.id)
	p := parser{b: value}
	l := Loss{Reader: r.name, Reason: string(p.bytes()), Time: time.Unix(0, p.int64())}
	_, a := p.ack()
	if p.err != nil {
		j.log.Error("journal: the end of a reader cannot be read: what it was owed is not counted", "reader", r.name)
		return
	}
	r.restore(a)
	r.mu.Lock()
	l.First, l.Last, l.Count = r.cursor(), r.tail-1, r.owed-r.settled
	r.mu.Unlock()
	if l.Count == 0 {
		return
	}
	j.log.Warn("journal: messages discarded with their reader", "reader", r.name, "first", l.First, "last", l.Last, "count", l.Count, "reason", l.Reason)
	j.addLoss(nil, l)
}

// ReaderInfo is the position of a reader.
type ReaderInfo struct {
	Name   string
	Depth  uint64 // messages owed and not settled
	Cursor uint64 // lowest sequence number that may be unsettled
	Tail   uint64 // one past the newest message owed

	Priority byte
	Lost     map[string]uint64 // messages, by reason, since the reader began; on disk
}

// Readers returns all readers, by name.
func (j *Journal) Readers() []ReaderInfo {
	j.mu.Lock()
	defer j.mu.Unlock()
	infos := make([]ReaderInfo, 0, len(j.readers))
	for _, r := range j.readers {
		r.mu.Lock()
		infos = append(infos, ReaderInfo{r.name, r.owed - r.settled, r.cursor(), r.tail, r.priority, maps.Clone(r.lost)})
		r.mu.Unlock()
	}
	slices.SortFunc(infos, func(a, b ReaderInfo) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	return infos
}
