package config

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// Error is one mistake in a configuration. It prints as "file:line: key: text".
type Error struct {
	File string // as given to Load; empty if no file is at fault
	Line int    // from 1; 0 if the whole file is at fault
	Key  string // path of the key, such as "bridges[cloud].out[0].filter"; may be empty
	Text string // what is wrong and what to write instead
}

func (e Error) Error() string {
	var b strings.Builder
	if e.File != "" {
		b.WriteString(e.File)
		if e.Line > 0 {
			fmt.Fprintf(&b, ":%d", e.Line)
		}
		b.WriteString(": ")
	}
	if e.Key != "" {
		b.WriteString(e.Key + ": ")
	}
	return b.String() + e.Text
}

// Errors is every mistake that Load found, in the order of the files and their lines. It prints as
// one line for each.
type Errors []Error

func (es Errors) Error() string {
	lines := make([]string, len(es))
	for i, e := range es {
		lines[i] = e.Error()
	}
	return strings.Join(lines, "\n")
}

// sorted orders the errors by the place of their file in files, then by line.
func (es Errors) sorted(files []string) Errors {
	rank := make(map[string]int, len(files))
	for i, name := range files {
		rank[name] = i + 1
	}
	slices.SortStableFunc(es, func(a, b Error) int {
		if a.File != b.File {
			return rank[a.File] - rank[b.File]
		}
		return a.Line - b.Line
	})
	return es
}

// nearest is a hint at the one of known that got is probably meant to be, or else at all of them.
func nearest(got string, known []string) string {
	best, least := "", math.MaxInt
	for _, k := range known {
		if d := distance(strings.ToLower(got), k); d < least && d <= max(1, len(k)/3) {
			best, least = k, d
		}
	}
	if best != "" {
		return fmt.Sprintf("did you mean %q?", best)
	}
	return "want " + oneOf(known)
}

func oneOf(known []string) string {
	switch len(known) {
	case 0:
		return "nothing"
	case 1:
		return known[0]
	}
	last := len(known) - 1
	return strings.Join(known[:last], ", ") + " or " + known[last]
}

// distance counts the insertions, deletions, replacements and swaps of neighbours that turn a into b.
// What is far too long to be b is infinitely far away, which bounds the work.
func distance(a, b string) int {
	if len(a) > 2*len(b)+1 {
		return math.MaxInt
	}
	var older, old []int
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		older, old, row = old, row, make([]int, len(b)+1)
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			row[j+1] = min(old[j]+cost, old[j+1]+1, row[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], older[j-1]+1)
			}
		}
	}
	return row[len(b)]
}
