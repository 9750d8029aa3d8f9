package uplinks

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"holdfast/broker/journal"
	"holdfast/broker/outbox"
	"holdfast/gateway/config"
)

// The readers of a bridge in the journal, and so what `holdfast journal` calls them:
//
//	bridge/NAME       what has the bridge's own priority
//	bridge/NAME/own   what the gateway itself publishes, with one more, where the rule has no priority of its own
//	bridge/NAME/p3    what rules send with priority 3
//	.../2, .../3, …   beside any of these, with live-first: see outbox.Queue
//
// A name is one topic level, so it has no slash.

// openQueues returns a bridge's queues, with its backlog, and pick, which returns the reader of a message, ours or a
// client's, by the number of the rule that matches its topic, -1 for none. Readers that are live, because the server
// gives new messages to them, stay.
func (u *Uplinks) openQueues(c config.Bridge, live func(reader string) bool) (queues []*outbox.Queue, pick func(rule int, ours bool) *journal.Reader, err error) {
	own := bridgeReader + c.Name
	var there []journal.ReaderInfo
	for _, r := range u.journal.Readers() {
		if name, ok := bridgeOf(r.Name); ok && name == c.Name {
			there = append(there, r)
		}
	}
	priorities := []int{int(c.Priority)}
	for _, r := range c.Out {
		priorities = append(priorities, r.Priority)
	}
	slices.Sort(priorities)
	priorities = slices.Compact(priorities)
	type base struct {
		reader   string
		priority int
	}
	var bases []base
	for _, p := range priorities {
		bases = append(bases, base{queueReader(c, p), p})
	}
	// The gateway's own messages rank above those of clients: they are sent first and dropped later.
	bases = append(bases, base{own + ownQueue, min(int(c.Priority)+1, journal.MaxPriority)})
	byReader := map[string]*outbox.Queue{}
	for _, b := range bases {
		byReader[b.reader] = nil
	}
	for _, b := range bases {
		var orphans []journal.ReaderInfo // of a priority that no rule has any more
		if b.reader == own {
			orphans = slices.DeleteFunc(slices.Clone(there), func(r journal.ReaderInfo) bool { _, ok := byReader[queueOf(r.Name)]; return ok })
		}
		queue, err := u.openQueue(b.reader, byte(b.priority), live, orphans, slices.DeleteFunc(slices.Clone(there), func(r journal.ReaderInfo) bool { return queueOf(r.Name) != b.reader }))
		if err != nil {
			return nil, nil, err
		}
		byReader[b.reader] = queue
		queues = append(queues, queue)
	}
	clients, ours := byReader[own], byReader[own+ownQueue]
	byRule := make([]*outbox.Queue, len(c.Out)) // nil for the bridge's own priority
	for i, r := range c.Out {
		if r.Priority != int(c.Priority) {
			byRule[i] = byReader[queueReader(c, r.Priority)]
		}
	}
	return queues, func(rule int, isOurs bool) *journal.Reader {
		switch {
		case rule >= 0 && byRule[rule] != nil:
			return byRule[rule].Live()
		case isOurs:
			return ours.Live()
		}
		return clients.Live()
	}, nil
}

// ownQueue ends the name of the first reader of what the gateway itself publishes.
const ownQueue = "/own"

// splitKey is where the journal notes that bridges have queues of the gateway's own messages.
const splitKey = "gateway/lanes"

// splitQueues gives the bridges of an earlier version, which had one queue for everything without a priority, queues
// of what the gateway publishes. The backlog, of both, moves there, so that it is sent before newer messages.
func (u *Uplinks) splitQueues() error {
	if _, done := u.journal.Get(splitKey); done {
		return nil
	}
	for _, r := range u.journal.Readers() {
		if name, ok := bridgeOf(r.Name); ok && r.Name == bridgeReader+name && r.Depth > 0 {
			if _, err := u.journal.RenameReader(r.Name, r.Name+ownQueue); err != nil {
				return err
			}
		}
	}
	return u.journal.Append(journal.Entry{Changes: []journal.Change{{Key: splitKey, Value: []byte{1}}}, Lazy: true})
}

// queueReader is the name of a queue's first reader.
func queueReader(c config.Bridge, priority int) string {
	if priority == int(c.Priority) {
		return bridgeReader + c.Name
	}
	return fmt.Sprintf("%s%s/p%d", bridgeReader, c.Name, priority)
}

// queueOf is the name of the first reader of the queue that a reader is of.
func queueOf(reader string) string {
	parts := strings.Split(reader, "/") // bridge, name, perhaps own, or p and a priority, perhaps a number
	if n := len(parts); n > 2 && "/"+parts[n-1] != ownQueue && !strings.HasPrefix(parts[n-1], "p") {
		parts = parts[:n-1]
	}
	return strings.Join(parts, "/")
}

// openQueue opens the readers of a queue in the order of their backlogs. Those in front are drained
// first. It removes readers without a backlog.
func (u *Uplinks) openQueue(base string, priority byte, isLive func(reader string) bool, front, there []journal.ReaderInfo) (*outbox.Queue, error) {
	waiting := func(list []journal.ReaderInfo) []journal.ReaderInfo {
		return slices.SortedFunc(slices.Values(list), func(x, y journal.ReaderInfo) int { return cmp.Compare(x.Cursor, y.Cursor) })
	}
	var readers []*journal.Reader
	open := func(name string) error {
		r, err := u.journal.OpenReader(name)
		if err == nil {
			err = r.SetPriority(priority)
		}
		readers = append(readers, r)
		return err
	}
	live := base // or the one that received a message last
	var tail uint64
	for _, r := range there {
		switch {
		case isLive(r.Name):
			live, tail = r.Name, math.MaxUint64
		case r.Depth > 0 && r.Tail > tail:
			live, tail = r.Name, r.Tail
		}
	}
	for _, r := range slices.Concat(waiting(front), waiting(there)) {
		switch {
		case r.Name == live:
		case r.Depth > 0 || r.Name == base || isLive(r.Name):
			if err := open(r.Name); err != nil {
				return nil, err
			}
		default:
			if err := u.journal.RemoveReader(r.Name); err != nil {
				return nil, err
			}
		}
	}
	if err := open(live); err != nil {
		return nil, err
	}
	return outbox.NewQueue(int(priority), func(n int) (*journal.Reader, error) {
		names := []string{base}
		for i := 2; i <= n; i++ {
			names = append(names, fmt.Sprintf("%s/%d", base, i))
		}
		used := u.journal.Readers()
		for _, name := range names {
			if slices.ContainsFunc(used, func(r journal.ReaderInfo) bool { return r.Name == name }) {
				continue
			}
			r, err := u.journal.OpenReader(name)
			if err != nil {
				return nil, err
			}
			return r, r.SetPriority(priority)
		}
		return nil, fmt.Errorf("no name for another reader of %s", base)
	}, readers...), nil
}
