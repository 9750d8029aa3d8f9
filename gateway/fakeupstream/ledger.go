package fakeupstream

import (
	"math/bits"
	"sync"
)

// maxNumber bounds what a number can cost: 32 MiB for each stream.
const maxNumber = 1 << 28

// Ledger follows numbered messages by what was acknowledged to their maker, and by what arrived.
// Numbers count from 0 or 1 in each stream, which is whatever makes them: a publisher, a gateway. It is
// safe for concurrent use and takes two bits for each number.
type Ledger struct {
	mu         sync.Mutex
	acked      map[string]*set
	arrived    map[string]*set
	last       map[string]uint64 // by topic
	duplicates int
	disorder   int
}

// NewLedger returns an empty one.
func NewLedger() *Ledger {
	return &Ledger{acked: map[string]*set{}, arrived: map[string]*set{}, last: map[string]uint64{}}
}

// Acknowledged notes a promise.
func (l *Ledger) Acknowledged(stream string, n uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	in(l.acked, stream).add(n)
}

// Arrived notes what has come. Order is judged by topic, and by when a number came first.
func (l *Ledger) Arrived(stream, topic string, n uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n >= maxNumber {
		return
	}
	if !in(l.arrived, stream).add(n) {
		l.duplicates++
		return
	}
	if last, known := l.last[topic]; known && n < last {
		l.disorder++
		return
	}
	l.last[topic] = n
}

// Totals are a ledger's sums.
type Totals struct {
	Acknowledged int
	Delivered    int // different numbers that arrived
	Duplicates   int
	Disorder     int
	Missing      int // acknowledged, and not arrived
}

// Totals returns the sums of all streams together.
func (l *Ledger) Totals() Totals {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := Totals{Duplicates: l.duplicates, Disorder: l.disorder}
	for _, s := range l.arrived {
		t.Delivered += s.n
	}
	for stream := range l.acked {
		t.Acknowledged += l.acked[stream].n
		t.Missing += l.missing(stream)
	}
	return t
}

func (l *Ledger) missing(stream string) (n int) {
	acked, arrived := in(l.acked, stream), in(l.arrived, stream)
	for i, w := range acked.words {
		if i < len(arrived.words) {
			w &^= arrived.words[i]
		}
		n += bits.OnesCount64(w)
	}
	return n
}

// set is a set of small numbers.
type set struct {
	words []uint64
	n     int
}

func in(m map[string]*set, stream string) *set {
	if m[stream] == nil {
		m[stream] = new(set)
	}
	return m[stream]
}

// add reports whether n was not there.
func (s *set) add(n uint64) bool {
	if n >= maxNumber {
		return false
	}
	for uint64(len(s.words)) <= n/64 {
		s.words = append(s.words, 0)
	}
	bit := uint64(1) << (n % 64)
	if s.words[n/64]&bit != 0 {
		return false
	}
	s.words[n/64] |= bit
	s.n++
	return true
}
