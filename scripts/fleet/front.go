package main

import (
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// attempts are the times at which gateways tried to connect.
type attempts struct {
	mu    sync.Mutex
	times []time.Time
}

func (a *attempts) add() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.times = append(a.times, time.Now())
}

func (a *attempts) reset() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.times = nil
}

// storm is how many attempts there were.
type storm struct {
	gateways     int
	first, later int     // most in any one second: of the first minute after the cut, and after it
	rate         float64 // by second, on average, after the first minute
	ok           bool
}

// judge counts attempts after a cut of all nodes, and compares them with what the README of the recipe states.
func (a *attempts) judge(cut time.Time, gateways int) storm {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := storm{gateways: gateways}
	const minute = time.Minute
	var seconds float64
	n := 0
	for i, at := range a.times {
		within := 0
		for _, other := range a.times[i:] {
			if other.Sub(at) < time.Second {
				within++
			}
		}
		if at.Sub(cut) < minute {
			s.first = max(s.first, within)
			continue
		}
		s.later = max(s.later, within)
		n++
		seconds = at.Sub(cut).Seconds() - minute.Seconds()
	}
	if seconds > 0 {
		s.rate = float64(n) / seconds
	}
	s.ok = s.first <= 2*gateways && s.rate <= float64(gateways)/10
	return s
}

func (s storm) String() string {
	return fmt.Sprintf("reconnect storm: at most %d attempts within a second (stated: %d), after the first minute %.2f per second (stated: %.2f), at most %d within one",
		s.first, 2*s.gateways, s.rate, float64(s.gateways)/10, s.later)
}

// front is what gateways connect to instead of a node. It counts, also while the node is away.
type front struct {
	listener net.Listener
	work     sync.WaitGroup
}

func newFront(target string, a *attempts, s *sent) (*front, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	f := &front{listener: l}
	f.work.Go(func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			a.add()
			far, err := net.Dial("tcp", target)
			if err != nil {
				near.Close()
				continue
			}
			seen, see := io.Pipe()
			f.work.Go(func() { s.watch(seen) })
			f.work.Go(func() {
				io.Copy(io.MultiWriter(see, far), near)
				see.Close()
				near.Close()
				far.Close()
			})
			f.work.Go(func() {
				io.Copy(near, far)
				near.Close()
				far.Close()
			})
		}
	})
	return f, nil
}

func (f *front) close() {
	f.listener.Close()
}
