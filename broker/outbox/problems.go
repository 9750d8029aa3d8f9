package outbox

import (
	"maps"
	"slices"
	"time"
)

// problem is something that a person has to correct, while the outbox goes on.
type problem struct {
	text  string
	until time.Time // zero until it is cleared
}

// Problem sets the problem of a key. An empty text clears it. It reports whether the problem is new.
func (o *Outbox) Problem(key, text string, until time.Time) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if text == "" {
		delete(o.problems, key)
		return false
	}
	old, known := o.problems[key]
	o.problems[key] = problem{text, until}
	return !known || !old.until.IsZero() && !time.Now().Before(old.until)
}

// Problems returns what is wrong although there may be a connection, each with what to do about it, in a stable order.
// It is safe for concurrent use.
func (o *Outbox) Problems() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	var list []string
	now := time.Now()
	for _, key := range slices.Sorted(maps.Keys(o.problems)) {
		if p := o.problems[key]; p.until.IsZero() || now.Before(p.until) {
			list = append(list, p.text)
		}
	}
	return list
}
