package bridge

import (
	"maps"
	"slices"
	"time"
)

// problemMemory is how long something that was seen once counts as wrong.
const problemMemory = time.Hour

// problem is something that a person has to put right, while the bridge goes on.
type problem struct {
	text  string
	until time.Time // zero until it is taken back
}

// problem notes what is wrong under a key of its own. An empty text takes it back. It reports whether the problem is new.
func (b *Bridge) problem(key, text string, until time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if text == "" {
		delete(b.problems, key)
		return false
	}
	old, known := b.problems[key]
	b.problems[key] = problem{text, until}
	return !known || !old.until.IsZero() && !time.Now().Before(old.until)
}

// Problems returns what is wrong although there may be a connection, each with what to do about it, in a stable order.
// It is safe for concurrent use.
func (b *Bridge) Problems() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var list []string
	now := time.Now()
	for _, key := range slices.Sorted(maps.Keys(b.problems)) {
		if p := b.problems[key]; p.until.IsZero() || now.Before(p.until) {
			list = append(list, p.text)
		}
	}
	return list
}
