package main

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"holdfast/broker/wire"
)

// judge collects what is wrong, how long victims waited, and what attackers were refused. It is safe for
// concurrent use.
type judge struct {
	bound time.Duration // longest that a victim may wait

	mu       sync.Mutex
	problems []string
	slowest  map[string]time.Duration
	refused  map[string]int            // of this run, by kind
	codes    map[string]map[string]int // of all runs, by kind and reason code
}

func newJudge(bound time.Duration) *judge {
	return &judge{bound: bound, slowest: map[string]time.Duration{}, refused: map[string]int{}, codes: map[string]map[string]int{}}
}

func (j *judge) problem(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if len(text) > 400 {
		text = text[:400] + "…"
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.problems) < 1000 {
		j.problems = append(j.problems, text)
	}
}

// take returns the problems since the last call, each once with how often it occurred.
func (j *judge) take() (texts []string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	count := map[string]int{}
	for _, p := range j.problems {
		if count[p]++; count[p] == 1 {
			texts = append(texts, p)
		}
	}
	for i, t := range texts {
		if count[t] > 1 {
			texts[i] += fmt.Sprintf(" (%d times)", count[t])
		}
	}
	j.problems = nil
	return texts
}

// took notes how long a victim waited for something.
func (j *judge) took(what string, d time.Duration) {
	j.mu.Lock()
	j.slowest[what] = max(j.slowest[what], d)
	j.mu.Unlock()
	if d > j.bound {
		j.problem("%s took %v, more than %v", what, d.Round(time.Millisecond), j.bound)
	}
}

// refusal notes that an attacker was refused something.
func (j *judge) refusal(kind string, code wire.Code) {
	if code == wire.SessionTakenOver || code == wire.PacketIDNotFound { // by a client of its own; the answer to what was never begun
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.refused[kind]++
	if j.codes[kind] == nil {
		j.codes[kind] = map[string]int{}
	}
	j.codes[kind][code.String()]++
}

// What the name of a counter with its labels has to match to count refusals of a kind.
var kinds = map[string]*regexp.Regexp{
	"connection":   regexp.MustCompile(`^holdfast_(refusals_total\{packet="CONNACK"|logins_refused|connections_)`),
	"publish":      regexp.MustCompile(`^holdfast_refusals_total\{packet="PUB(ACK|REC)"`),
	"subscription": regexp.MustCompile(`^holdfast_refusals_total\{packet="SUBACK"`),
	"disconnect":   regexp.MustCompile(`^holdfast_refusals_total\{packet="DISCONNECT"`),
}

// counted compares what attackers were refused since the last call with what has grown among the gateway's
// counters, and reports each kind of which none has.
func (j *judge) counted(before, after counters) {
	j.mu.Lock()
	seen := maps.Clone(j.refused)
	clear(j.refused)
	j.mu.Unlock()
	for _, kind := range slices.Sorted(maps.Keys(seen)) {
		grown := 0.0
		for name, v := range after {
			if kinds[kind].MatchString(name) {
				grown += v - before[name]
			}
		}
		if grown == 0 {
			j.problem("%d refusals of kind %q, and no counter of that kind has grown", seen[kind], kind)
		}
	}
}

// summary returns what was measured over all runs.
func (j *judge) summary() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	var b strings.Builder
	for _, k := range slices.Sorted(maps.Keys(j.slowest)) {
		fmt.Fprintf(&b, "slowest %s: %v\n", k, j.slowest[k].Round(time.Millisecond))
	}
	for _, k := range slices.Sorted(maps.Keys(j.codes)) {
		fmt.Fprintf(&b, "refused %s:", k)
		for _, c := range slices.Sorted(maps.Keys(j.codes[k])) {
			fmt.Fprintf(&b, " %s %d,", c, j.codes[k][c])
		}
		b.WriteString("\n")
	}
	return strings.TrimSuffix(strings.ReplaceAll(b.String(), ",\n", "\n"), "\n")
}
