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

// registration is what a reader is in the log, beside the messages that it is owed. Guarded by Journal.mu.
type registration struct {
	name     string
	priority byte
	removed  bool              // by RemoveReader or DiscardReader; its record may not be on disk yet
	durable  ackState          // what the log has of its backlog
	dirty    bool              // in Journal.acks: its backlog is further than durable
	lost     map[string]uint64 // messages by reason
}

// change returns the change that registers reader id with its name and priority.
func (g *registration) change(id uint64) Change {
	value := binary.AppendUvarint(nil, id)
	if g.priority > 0 {
		value = binary.AppendUvarint(value, uint64(g.priority))
	}
	return Change{readerPrefix + g.name, value}
}

// countLost adds to the totals by reason.
func (g *registration) countLost(reason string, n uint64) {
	if g.lost == nil {
		g.lost = map[string]uint64{}
	}
	g.lost[reason] += n
}

// registry has the readers. Guarded by Journal.mu.
type registry struct {
	byName map[string]*Reader
	byID   map[uint64]*Reader // also those that were removed, until that is on disk
	nextID uint64
}

func newRegistry() registry {
	return registry{byName: map[string]*Reader{}, byID: map[uint64]*Reader{}, nextID: 1}
}

// put enters r under its name and id.
func (g *registry) put(r *Reader) { g.byName[r.reg.name], g.byID[r.id] = r, r }

// rename gives r another name, which must be free.
func (g *registry) rename(r *Reader, name string) {
	delete(g.byName, r.reg.name)
	r.reg.name = name
	g.byName[name] = r
}

// forget takes r out.
func (g *registry) forget(r *Reader) {
	delete(g.byName, r.reg.name)
	delete(g.byID, r.id)
}

// waitFor reports whether a reader has something pending in s.
func (g *registry) waitFor(s *segment) bool {
	for id, in := range s.owed {
		if r, ok := g.byID[id]; ok && r.waitsBefore(in.last) {
			return true
		}
	}
	return false
}

// need reports whether a reader has something pending in s by what is on disk.
func (g *registry) need(s *segment) bool {
	for id, in := range s.owed {
		if r, ok := g.byID[id]; ok && r.reg.durable.cursor() <= in.last {
			return true
		}
	}
	return false
}

// logged reports whether the acknowledgements of every reader that is done with s are on disk.
func (g *registry) logged(s *segment) bool {
	for id, in := range s.owed {
		if r, ok := g.byID[id]; ok && !r.waitsBefore(in.last) && r.reg.durable.cursor() <= in.last {
			return false
		}
	}
	return true
}

// lowest returns the lowest priority of the readers that have something pending in s, MaxPriority+1 if none has.
func (g *registry) lowest(s *segment) int {
	lowest := MaxPriority + 1
	for id, in := range s.owed {
		if r, ok := g.byID[id]; ok && r.waitsBefore(in.last) {
			lowest = min(lowest, int(r.reg.priority))
		}
	}
	return lowest
}

// bytesAbove is at most how many bytes of s are pending for readers with a priority above below.
func (g *registry) bytesAbove(s *segment, below int) (n int64) {
	for id, in := range s.owed {
		if r, ok := g.byID[id]; ok && int(r.reg.priority) > below && r.waitsBefore(in.last) {
			n += int64(in.bytes)
		}
	}
	return n
}

// countsFit reports whether readers have settled no more than they were owed.
func (g *registry) countsFit() bool {
	for _, r := range g.byID {
		if !r.backlog.fits() {
			return false
		}
	}
	return true
}

// OpenReader returns the reader of that name, and creates it if there is none. A new one is owed nothing yet, and
// becomes durable no later than the first message that it is owed.
func (j *Journal) OpenReader(name string) (*Reader, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if r, ok := j.readers.byName[name]; ok {
		return r, nil
	}
	r := newReader(j, name, j.readers.nextID, j.queue.nextSeq)
	if err := j.append(&Entry{Changes: []Change{r.reg.change(r.id)}, Lazy: true}); err != nil {
		return nil, err
	}
	j.readers.nextID++
	j.readers.put(r)
	return r, nil
}

// SetPriority sets how late, at a limit of space, r's messages are dropped: those of readers with
// lower priorities, 0 to MaxPriority, go first. It is durable.
func (r *Reader) SetPriority(priority byte) error {
	r.j.mu.Lock()
	defer r.j.mu.Unlock()
	priority = min(priority, MaxPriority)
	if r.reg.removed || r.reg.priority == priority {
		return nil
	}
	old := r.reg.priority
	r.reg.priority = priority
	if err := r.j.append(&Entry{Changes: []Change{r.reg.change(r.id)}, Lazy: true}); err != nil {
		r.reg.priority = old
		return err
	}
	return nil
}

// RenameReader gives a reader and its backlog another name. Without a reader of the old name, or with
// one of the new name, it does nothing and returns false.
func (j *Journal) RenameReader(oldName, newName string) (bool, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	r, ok := j.readers.byName[oldName]
	if _, taken := j.readers.byName[newName]; !ok || taken {
		return false, nil
	}
	j.readers.rename(r, newName)
	if err := j.append(&Entry{Changes: []Change{r.reg.change(r.id)}, Lazy: true}); err != nil {
		j.readers.rename(r, oldName)
		return false, err
	}
	j.losses.rename(oldName, newName)
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
	r, ok := j.readers.byName[name]
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
	delete(j.readers.byName, name)
	r.reg.removed = true
	r.mu.Lock()
	defer r.mu.Unlock()
	r.buffer.end(&j.memory)
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
	delete(j.readers.byID, r.id)
	p := parser{b: value}
	l := Loss{Reader: r.reg.name, Reason: string(p.bytes()), Time: time.Unix(0, p.int64())}
	_, a := p.ack()
	if p.err != nil {
		j.log.Error("journal: the end of a reader cannot be read: what it was owed is not counted", "reader", r.reg.name)
		return
	}
	r.restore(a)
	r.mu.Lock()
	l.First, l.Last, l.Count = r.backlog.cursor(), r.backlog.tail-1, r.backlog.depth()
	r.mu.Unlock()
	if l.Count == 0 {
		return
	}
	j.log.Warn("journal: messages discarded with their reader", "reader", r.reg.name, "first", l.First, "last", l.Last, "count", l.Count, "reason", l.Reason)
	j.addLoss(nil, l) // its totals go with it
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
	infos := make([]ReaderInfo, 0, len(j.readers.byName))
	for _, r := range j.readers.byName {
		r.mu.Lock()
		infos = append(infos, ReaderInfo{r.reg.name, r.backlog.depth(), r.backlog.cursor(), r.backlog.tail, r.reg.priority, maps.Clone(r.reg.lost)})
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
