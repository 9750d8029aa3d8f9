package outbox

import "time"

const (
	startWindow = 16
	lowWindow   = 4 // of a connection that begins
	// tolerable is how long an acknowledgement may take before there is too much on the way: a link
	// of 50 kbit/s needs as long for twenty messages.
	tolerable = time.Second
)

// window is how many messages may be in flight. It doubles with each round trip at first, then grows
// slowly; it shrinks when acknowledgements come late, so that a link never holds more than it can
// carry soon. If they do because packets are lost it does not shrink: the link is not full, and with less in flight
// TCP takes longer to notice what is lost. It outlives connections: a bad link is known from the beginning.
type window struct {
	size   float64
	max    int
	steady bool          // no doubling any more
	best   time.Duration // the shortest round trip; 0 before the first
}

func newWindow(most int) window { return window{size: min(startWindow, float64(most)), max: most} }

// now is at least 1.
func (w *window) now(receive int) int { return min(int(w.size), w.max, receive) }

// sample notes a round trip. full reports whether the window was what kept more from being sent, and lossy whether
// the link loses many packets, which is asked if it matters.
func (w *window) sample(latency time.Duration, full bool, lossy func() bool) {
	if w.best == 0 || latency < w.best {
		w.best = latency
	}
	switch {
	case latency > max(tolerable, 3*w.best) && !lossy():
		w.shrink(0.7)
	case !full:
	case w.steady:
		w.size = min(float64(w.max), w.size+max(1, w.size/16))
	default:
		w.size = min(float64(w.max), 2*w.size)
	}
}

func (w *window) shrink(to float64) {
	w.steady = true
	w.size = max(1, w.size*to)
}

// restart begins as with a new link, of which nothing is known but that less is better.
func (w *window) restart() {
	w.best = 0
	w.shrink(0.5)
	w.size = min(float64(w.max), max(w.size, lowWindow))
}
