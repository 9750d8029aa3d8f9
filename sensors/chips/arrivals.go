package chips

import (
	"sync"
	"time"
)

// arrivals is the bounded queue of a sensors.Source between what brings its events and supervision, which takes them.
// Its limit is a bucket of tokens: burst events may come at once, and rate a second in the long run. Of what comes
// beyond that only the newest is kept, and goes as soon as the limit allows, so that a line or a device that has
// calmed down is not shown in an earlier state. The others are counted. Methods are safe for concurrent use; close ends
// its timer.
type arrivals[T any] struct {
	wake     func() // nil outside of supervision
	burst    int
	rate     float64 // events a second; 0 means that nothing comes back until take
	maxBytes int     // of the events that are queued; 0 means any number

	mu      sync.Mutex
	queue   []arrival[T]
	bytes   int
	held    *arrival[T] // beyond the limit
	tokens  float64
	counted time.Time // when tokens were counted last
	timer   *time.Timer
	out     uint64
	closed  bool
}

type arrival[T any] struct {
	event T
	bytes int
}

// add queues an event of now, of so many bytes. It does not block.
func (a *arrivals[T]) add(now time.Time, event T, bytes int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return
	}
	a.refill(now)
	if a.held != nil || a.tokens < 1 || a.full(bytes) {
		if a.held != nil {
			a.out++
		}
		a.held = &arrival[T]{event, bytes}
		a.wait()
		return
	}
	a.push(arrival[T]{event, bytes})
}

// full reports whether an event of so many bytes has to wait for take. Called with mu held.
func (a *arrivals[T]) full(bytes int) bool {
	return len(a.queue) >= a.burst || len(a.queue) > 0 && a.maxBytes > 0 && a.bytes+bytes > a.maxBytes
}

// push queues an event for a token. Called with mu held.
func (a *arrivals[T]) push(e arrival[T]) {
	a.tokens--
	a.queue = append(a.queue, e)
	a.bytes += e.bytes
	if a.wake != nil {
		a.wake()
	}
}

// refill counts the tokens. Called with mu held.
func (a *arrivals[T]) refill(now time.Time) {
	switch {
	case a.counted.IsZero():
		a.tokens = float64(a.burst)
	case now.After(a.counted):
		a.tokens = min(float64(a.burst), a.tokens+now.Sub(a.counted).Seconds()*a.rate)
	default:
		return
	}
	a.counted = now
}

// wait starts the timer for the event that is held. Called with mu held.
func (a *arrivals[T]) wait() {
	if a.timer != nil || a.rate == 0 {
		return
	}
	missing := time.Duration((1 - a.tokens) / a.rate * float64(time.Second))
	a.timer = time.AfterFunc(max(missing, 10*time.Millisecond), func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.timer = nil
		a.refill(time.Now())
		switch {
		case a.closed || a.held == nil:
		case a.tokens < 1 || a.full(a.held.bytes):
			a.wait()
		default:
			a.release()
		}
	})
}

// release queues the event that is held. Called with mu held.
func (a *arrivals[T]) release() {
	e := *a.held
	a.held = nil
	a.push(e)
}

// take returns what is queued, oldest first, with the event that the limit holds up if now.
func (a *arrivals[T]) take(now bool) (all []T) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, e := range a.queue {
		all = append(all, e.event)
	}
	if now && a.held != nil {
		all = append(all, a.held.event)
		a.held = nil
	}
	a.queue, a.bytes = nil, 0
	return all
}

// drop forgets the event that the limit holds up.
func (a *arrivals[T]) drop() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.held = nil
}

// leftOut is how many events were dropped.
func (a *arrivals[T]) leftOut() uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.out
}

func (a *arrivals[T]) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closed = true
	if a.timer != nil {
		a.timer.Stop()
	}
}
