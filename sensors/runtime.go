package sensors

import (
	"context"
	"sync"
	"time"
)

// A deadline of a driver is counted in ticks of this process, not by the clock: on a machine that is
// starved of processor, in a container that is throttled or a guest that stands still, the clock goes on
// while no driver can. A tick that comes late counts as one tick, however late it is.
const (
	ticks   = 20 // of a deadline, if that makes them shorter than maxTick
	minTick = time.Millisecond
	maxTick = 25 * time.Millisecond
)

// WithRunTime returns a context that ends with cause once this process has run for d. On an idle machine
// that is d after now. It never ends earlier, and it ends later by the time in which the process was not
// scheduled, as far as that held up a tick: a 20th of d, at most 25 ms. Like every context it has to be
// cancelled.
func WithRunTime(ctx context.Context, d time.Duration, cause error) (context.Context, context.CancelFunc) {
	ctx, end := context.WithCancelCause(ctx)
	t := newRunTimer(time.AfterFunc)
	t.start(d, func() { end(cause) })
	return ctx, func() {
		t.stop()
		end(nil)
	}
}

// AfterRunning calls f in a goroutine of its own once this process has run for d, as WithRunTime counts
// it, unless stop is called before.
func AfterRunning(d time.Duration, f func()) (stop func()) {
	t := newRunTimer(time.AfterFunc)
	t.start(d, f)
	return t.stop
}

// runTimer is a timer that stands still while the process is not scheduled. It is safe for concurrent use.
type runTimer struct {
	afterFunc func(time.Duration, func()) *time.Timer

	mu      sync.Mutex
	timer   *time.Timer
	stopped bool
	tick    time.Duration
	left    time.Duration
	f       func()
}

func newRunTimer(afterFunc func(time.Duration, func()) *time.Timer) *runTimer {
	return &runTimer{afterFunc: afterFunc}
}

// start calls f after d. It may be called again once f is called, also by f; after stop it does nothing.
func (t *runTimer) start(d time.Duration, f func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.tick, t.left, t.f = min(max(d/ticks, minTick), maxTick), d, f
	t.next()
}

// next waits for one tick. Called with mu held.
func (t *runTimer) next() {
	if t.stopped {
		return
	}
	t.timer = t.afterFunc(min(t.tick, t.left), t.ticked)
}

func (t *runTimer) ticked() {
	t.mu.Lock()
	t.left -= min(t.tick, t.left)
	f := t.f
	if t.left > 0 || t.stopped {
		f = func() {}
		t.next()
	}
	t.mu.Unlock()
	f()
}

// stop ends it. A call of f may be under way.
func (t *runTimer) stop() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stopped = true
	if t.timer != nil {
		t.timer.Stop()
	}
}
