package tap

import (
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
)

func newTestHub() *Hub { return NewHub(slog.New(slog.NewTextHandler(io.Discard, nil))) }

// TestOrder: each subscriber gets the events of each publisher in order, and Flush waits for all that came before.
func TestOrder(t *testing.T) {
	h := newTestHub()
	const publishers, each = 4, 500
	var got [2][publishers][]int
	var subs []*Subscription
	for i := range got {
		subs = append(subs, h.Subscribe(Options{Name: "test", Size: publishers * each, Take: func(e Event) {
			x := e.([2]int)
			got[i][x[0]] = append(got[i][x[0]], x[1])
		}}))
	}
	var work sync.WaitGroup
	for p := range publishers {
		work.Go(func() {
			for n := range each {
				h.Publish([2]int{p, n})
			}
		})
	}
	work.Wait()
	for i, s := range subs {
		s.Flush()
		for p := range publishers {
			if len(got[i][p]) != each || !slices.IsSorted(got[i][p]) {
				t.Errorf("subscriber %d, publisher %d: %d events, in order %v", i, p, len(got[i][p]), slices.IsSorted(got[i][p]))
			}
		}
		if s.Dropped() != 0 {
			t.Errorf("%d dropped", s.Dropped())
		}
		s.Close()
	}
}

// TestFull: a subscriber that does not keep up holds no publisher and no other subscriber up, loses the oldest
// events and learns how many.
func TestFull(t *testing.T) {
	h := newTestHub()
	held := make(chan struct{})
	begun := make(chan struct{}, 100)
	var slow, fast []string
	note := func(to *[]string) func(Event) {
		return func(e Event) { *to = append(*to, fmt.Sprint(e)) }
	}
	takeSlow := note(&slow)
	s := h.Subscribe(Options{Name: "slow", Size: 3, Take: func(e Event) {
		begun <- struct{}{}
		<-held
		takeSlow(e)
	}})
	f := h.Subscribe(Options{Name: "fast", Take: note(&fast)})
	h.Publish(0)
	<-begun
	for i := 1; i <= 10; i++ {
		h.Publish(i)
	}
	f.Flush()
	if got := strings.Join(fast, " "); got != "0 1 2 3 4 5 6 7 8 9 10" {
		t.Errorf("fast: %s", got)
	}
	close(held)
	s.Close()
	h.Publish(11)
	if got := strings.Join(slow, " "); got != "0 {7} 8 9 10" || s.Dropped() != 7 {
		t.Errorf("slow: %s, %d dropped", got, s.Dropped())
	}
	f.Close()
}
