package bridge

import (
	"fmt"
	"slices"
	"strings"
)

// CheckRules returns an error for rules that contradict each other: incoming ones that
// overlap, for which some upstreams send a message twice, and outgoing messages that would come in again. MQTT 5 can
// exclude a subscriber's own messages (no-local); everywhere else the same messages would come back, and outputs would
// carry out a command again.
func CheckRules(out, in []Rule, speaks5 bool) error {
	for i, a := range in {
		for _, b := range in[:i] {
			if overlap(strings.Split(a.Filter, "/"), strings.Split(b.Filter, "/")) {
				return fmt.Errorf("in rules %q and %q overlap: upstreams may send a message for each of them", b.Filter, a.Filter)
			}
		}
		for _, o := range out {
			if !speaks5 && overlap(strings.Split(a.Filter, "/"), image(&o)) {
				return fmt.Errorf("what out rule %q sends comes back by in rule %q: give them different topics upstream, or set protocol: 5, where an upstream can be asked not to",
					o.Filter, a.Filter)
			}
		}
	}
	return nil
}

// image is a filter, by levels, for the names that r gives topics, and possibly for some others.
func image(r *Rule) []string {
	rest := r.Filter
	literal, _, wild := strings.Cut(rest, "+")
	literal, _, multi := strings.Cut(literal, "#")
	switch {
	case strings.HasPrefix(literal, r.Strip):
		rest = rest[len(r.Strip):]
	case (wild || multi) && strings.HasPrefix(r.Strip, literal): // strip is of what the wildcard stands for
		rest = "#"
	}
	front, levels := strings.Split(r.Prefix, "/"), strings.Split(rest, "/")
	last := front[len(front)-1]
	switch {
	case last == "":
	case levels[0] == "+" || levels[0] == "#": // a part of a level
		if levels = slices.Clone(levels); levels[0] == "#" {
			levels = []string{"+", "#"}
		}
	default:
		levels[0] = last + levels[0]
	}
	return append(front[:len(front)-1:len(front)-1], levels...)
}

// overlap reports whether a topic may match both filters.
func overlap(a, b []string) bool {
	for i := 0; ; i++ {
		switch {
		case i < len(a) && a[i] == "#", i < len(b) && b[i] == "#":
			return true
		case i == len(a) || i == len(b):
			return len(a) == len(b)
		case a[i] != b[i] && a[i] != "+" && b[i] != "+":
			return false
		}
	}
}
