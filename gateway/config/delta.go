package config

import (
	"reflect"
	"slices"
)

// Delta is the difference between two lists of named entries.
type Delta[T any] struct {
	Removed, Changed, Added []string // names
	Begin                   []T      // changed and added, in the order of the new list
}

// Compare returns what is different between old and now. same reports whether an entry may go on as it is; nil
// compares with reflect.DeepEqual.
func Compare[T any](old, now []T, name func(T) string, same func(old, now T) bool) (d Delta[T]) {
	if same == nil {
		same = func(a, b T) bool { return reflect.DeepEqual(a, b) }
	}
	find := func(list []T, x T) int { return slices.IndexFunc(list, func(y T) bool { return name(y) == name(x) }) }
	for _, x := range now {
		switch i := find(old, x); {
		case i < 0:
			d.Added = append(d.Added, name(x))
		case same(old[i], x):
			continue
		default:
			d.Changed = append(d.Changed, name(x))
		}
		d.Begin = append(d.Begin, x)
	}
	for _, x := range old {
		if find(now, x) < 0 {
			d.Removed = append(d.Removed, name(x))
		}
	}
	return d
}

// Stop returns the names of entries that do not go on as they are.
func (d Delta[T]) Stop() []string { return slices.Concat(d.Removed, d.Changed) }

// Describe returns a line for each difference. kind is what an entry is, such as "sensor".
func (d Delta[T]) Describe(kind string) (lines []string) {
	for what, names := range map[string][]string{"removed": d.Removed, "changed": d.Changed, "added": d.Added} {
		for _, name := range names {
			lines = append(lines, kind+" "+name+": "+what)
		}
	}
	slices.Sort(lines)
	return lines
}
