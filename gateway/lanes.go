package gateway

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"holdfast/broker"
	"holdfast/broker/bridge"
	"holdfast/broker/journal"
	"holdfast/gateway/config"
)

// The readers of a bridge in the journal, and so what `holdfast journal` calls them:
//
//	bridge/NAME       what has the bridge's own priority
//	bridge/NAME/p3    what rules send with priority 3
//	.../2, .../3, …   beside any of these, with live-first: see bridge.Lane
//
// A name is one topic level, so it has no slash.

// openLanes returns a bridge's lanes, with everything that waits for it, and what tells which reader a
// message on a topic is owed to; nil if it is always the same. Readers that are live, because the server
// knows them as those of what is new, stay.
func (a *Agent) openLanes(c config.Bridge, live func(reader string) bool) (lanes []*bridge.Lane, pick func(topic string) *journal.Reader, err error) {
	own := bridgeReader + c.Name
	var there []journal.ReaderInfo
	for _, r := range a.journal.Readers() {
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
	byPriority := map[int]*bridge.Lane{}
	bases := map[string]bool{}
	for _, p := range priorities {
		bases[laneReader(c, p)] = true
	}
	for _, p := range priorities {
		base := laneReader(c, p)
		var orphans []journal.ReaderInfo // of a priority that no rule has any more
		if base == own {
			orphans = slices.DeleteFunc(slices.Clone(there), func(r journal.ReaderInfo) bool { return bases[laneOf(r.Name)] })
		}
		lane, err := a.openLane(base, byte(p), live, orphans, slices.DeleteFunc(slices.Clone(there), func(r journal.ReaderInfo) bool { return laneOf(r.Name) != base }))
		if err != nil {
			return nil, nil, err
		}
		byPriority[p] = lane
		lanes = append(lanes, lane)
	}
	if len(lanes) == 1 && c.Drain != config.DrainLiveFirst {
		return lanes, nil, nil
	}
	rules := slices.Clone(c.Out)
	return lanes, func(topic string) *journal.Reader {
		for i := range rules {
			if broker.Match(rules[i].Filter, topic) {
				return byPriority[rules[i].Priority].Live()
			}
		}
		return byPriority[int(c.Priority)].Live()
	}, nil
}

// laneReader is the name of a lane's first reader.
func laneReader(c config.Bridge, priority int) string {
	if priority == int(c.Priority) {
		return bridgeReader + c.Name
	}
	return fmt.Sprintf("%s%s/p%d", bridgeReader, c.Name, priority)
}

// laneOf is the name of the first reader of the lane that a reader is of.
func laneOf(reader string) string {
	parts := strings.Split(reader, "/") // bridge, name, perhaps p and a priority, perhaps a number
	if n := len(parts); n > 2 && !strings.HasPrefix(parts[n-1], "p") {
		parts = parts[:n-1]
	}
	return strings.Join(parts, "/")
}

// openLane opens the readers of a lane in the order of what waits in them. Those in front are drained
// first. Where nothing waits there is nothing to keep.
func (a *Agent) openLane(base string, priority byte, isLive func(reader string) bool, front, there []journal.ReaderInfo) (*bridge.Lane, error) {
	waiting := func(list []journal.ReaderInfo) []journal.ReaderInfo {
		return slices.SortedFunc(slices.Values(list), func(x, y journal.ReaderInfo) int { return cmp.Compare(x.Cursor, y.Cursor) })
	}
	var readers []*journal.Reader
	open := func(name string) error {
		r, err := a.journal.OpenReader(name)
		if err == nil {
			err = r.SetPriority(priority)
		}
		readers = append(readers, r)
		return err
	}
	live := base // or the one that was the newest to be owed something
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
			if err := a.journal.RemoveReader(r.Name); err != nil {
				return nil, err
			}
		}
	}
	if err := open(live); err != nil {
		return nil, err
	}
	return bridge.NewLane(int(priority), func(n int) (*journal.Reader, error) {
		names := []string{base}
		for i := 2; i <= n; i++ {
			names = append(names, fmt.Sprintf("%s/%d", base, i))
		}
		used := a.journal.Readers()
		for _, name := range names {
			if slices.ContainsFunc(used, func(r journal.ReaderInfo) bool { return r.Name == name }) {
				continue
			}
			r, err := a.journal.OpenReader(name)
			if err != nil {
				return nil, err
			}
			return r, r.SetPriority(priority)
		}
		return nil, fmt.Errorf("no name for another reader of %s", base)
	}, readers...), nil
}
