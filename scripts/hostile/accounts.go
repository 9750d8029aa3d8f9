package main

import (
	"fmt"
	"slices"
	"sync"
	"time"
)

// patience is how long something is waited for before it counts as stuck.
const patience = 10 * time.Second

// account compares what was acknowledged to a publisher of one topic with what one receiver got. Messages are
// numbered from 1. It is safe for concurrent use.
type account struct {
	name string
	once bool // QoS 2: nothing arrives twice

	mu       sync.Mutex
	owed     map[int]time.Time // acknowledged and not yet received
	got      map[int]bool
	newest   int // received
	problems []string
}

func newAccount(name string, once bool) *account {
	return &account{name: name, once: once, owed: map[int]time.Time{}, got: map[int]bool{}}
}

// acknowledged is called when the publisher has had its acknowledgement of message n.
func (a *account) acknowledged(n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.got[n] {
		a.owed[n] = time.Now()
	}
}

// received is called for each delivery. again reports whether it may be a repetition: DUP, or the first ones
// of a connection.
func (a *account) received(n int, again bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.got[n] && (a.once || !again):
		a.problems = append(a.problems, fmt.Sprintf("%s: message %d came twice", a.name, n))
	case !a.got[n] && n < a.newest:
		a.problems = append(a.problems, fmt.Sprintf("%s: message %d came after %d", a.name, n, a.newest))
	}
	a.got[n] = true
	delete(a.owed, n)
	a.newest = max(a.newest, n)
}

// missing returns the acknowledged messages up to last that have not come.
func (a *account) missing(last int) (numbers []int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for n := range a.owed {
		if n <= last {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	return numbers
}

// settle waits until everything that was acknowledged has arrived and returns what has not.
func (a *account) settle(most time.Duration) []int {
	const last = int(^uint(0) >> 1)
	for begun := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		m := a.missing(last)
		if len(m) == 0 || time.Since(begun) > most {
			return m
		}
	}
}

func (a *account) takeProblems() (p []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	p, a.problems = a.problems, nil
	return p
}

// ranges writes numbers as a person does: 1-4, 7.
func ranges(numbers []int) string {
	text := ""
	for i := 0; i < len(numbers); {
		j := i
		for j+1 < len(numbers) && numbers[j+1] == numbers[j]+1 {
			j++
		}
		if text != "" {
			text += ", "
		}
		if len(text) > 200 {
			return text + "…"
		}
		text += fmt.Sprint(numbers[i])
		if j > i {
			text += fmt.Sprintf("-%d", numbers[j])
		}
		i = j + 1
	}
	return text
}
