package sensors

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"time"
)

const (
	// grace is how long a driver whose time is over may take to notice.
	grace     = 100 * time.Millisecond
	maxJitter = 100 * time.Millisecond // of the first reading: other gateways have another phase
	// patience is how long one chip may keep the others of its bus waiting, where they do not need the
	// same wires at the same time: a chip that measures for long, or does not become ready, only keeps
	// itself waiting.
	patience = 50 * time.Millisecond
)

// worker reads the sensors of one bus in the order in which they are due: one at a time, but for those
// that have exhausted its patience. Only its own goroutine uses its fields.
type worker struct {
	sensors  []*supervised
	removed  []*supervised // are closed as soon as no reading of their chip runs
	alone    bool          // one reading at a time, however long it takes
	progress func(busy bool)

	changes chan func() // to be called by the worker
	running bool        // run has been or is about to be called
	end     func()      // ends run, and waits for that
	over    chan struct{}
	results chan result // of calls; none is received once over is closed
	calls   []*call     // that run
	front   *call       // the one that the others wait for; nil if there is none
	hung    *call       // one whose time is over and that does not end; nil if there is none

	wake chan struct{} // wakes run when a call has become overdue, or a Source has something to be taken
}

// call is one reading that runs.
type call struct {
	p      *supervised
	ctx    context.Context
	cancel context.CancelFunc
	late   error
	begun  time.Time
	slot   bool // it takes the reading of a slot, and not only what a Source has

	overdue atomic.Bool // its time is over, and the grace for noticing too
}

type result struct {
	call *call
	outcome
}

// reason returns the status of the other sensors on the bus while the call hangs.
func (c *call) reason() string { return "the bus hangs in a reading of " + c.p.config.Name }

func newWorker(alone bool) *worker {
	return &worker{alone: alone, changes: make(chan func()), end: func() {}, over: make(chan struct{}), results: make(chan result), wake: make(chan struct{}, 1)}
}

// begins prepares for run, which is about to be called.
func (w *worker) begins(cancel func()) {
	w.running = true
	w.end = func() {
		cancel()
		<-w.over
	}
}

// do calls f while nothing else uses the worker's fields.
func (w *worker) do(f func()) {
	if !w.running {
		f()
		return
	}
	done := make(chan struct{})
	select {
	case w.changes <- func() { defer close(done); f() }:
		<-done
	case <-w.over:
	}
}

func (w *worker) run(ctx context.Context) {
	defer close(w.over)
	for _, p := range w.sensors {
		p.plan()
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	defer w.progress(false)
	for ctx.Err() == nil {
		w.progress(true)
		timer.Reset(time.Until(w.step(ctx)))
		w.progress(false)
		select {
		case <-ctx.Done():
		case change := <-w.changes:
			w.progress(true)
			change()
		case r := <-w.results:
			w.progress(true)
			w.ended(ctx, r)
		case <-w.wake:
		case <-timer.C:
		}
	}
	w.stop(ctx)
}

// add starts reading a sensor.
func (w *worker) add(p *supervised) {
	w.sensors = append(w.sensors, p)
	p.notify = w.notify
	if !w.running {
		return
	}
	p.plan()
	if w.hung != nil {
		p.report(StateFailing, Temporary, w.hung.reason())
	}
}

// remove stops reading sensors. It ends their calls, and waits up to grace for that. It reports whether the
// worker has nothing left to do.
func (w *worker) remove(names []string) (idle bool) {
	w.sensors = slices.DeleteFunc(w.sensors, func(p *supervised) bool {
		p.gone = slices.Contains(names, p.config.Name)
		if p.gone {
			w.removed = append(w.removed, p)
		}
		return p.gone
	})
	for _, c := range w.calls {
		if c.p.gone {
			c.cancel()
		}
	}
	timer := time.NewTimer(grace)
	defer timer.Stop()
	for w.closeRemoved(); len(w.removed) > 0; {
		select {
		case r := <-w.results:
			w.ended(context.Background(), r)
			continue
		case <-timer.C:
		}
		break
	}
	return len(w.sensors)+len(w.calls) == 0
}

// closeRemoved closes the devices of removed sensors, but for those whose chip is being read.
func (w *worker) closeRemoved() {
	w.removed = slices.DeleteFunc(w.removed, func(p *supervised) bool {
		if w.reads(p.chip) {
			return false
		}
		p.close()
		return true
	})
}

// step does what is due, and returns when to look again at the latest.
func (w *worker) step(ctx context.Context) time.Time {
	now := time.Now()
	for _, c := range w.calls {
		if w.hung == nil && c.overdue.Load() {
			w.hang(c)
		}
	}
	if w.front != nil && !w.alone && !now.Before(w.front.begun.Add(patience)) {
		w.front = nil
	}
	again := now.Add(time.Hour)
	if w.hung != nil {
		return again // nothing touches the bus
	}
	if w.front == nil {
		next := w.next()
		switch {
		case next == nil:
			return again
		case next.next().After(now):
			return earlier(again, next.next())
		}
		w.begin(ctx, next)
	}
	if w.alone {
		return again
	}
	return earlier(again, w.front.begun.Add(patience))
}

// notify makes run look at what is to be done.
func (w *worker) notify() {
	select {
	case w.wake <- struct{}{}:
	default: // it is about to look
	}
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// next returns the sensor that is due first, of those whose chip is not being read.
func (w *worker) next() *supervised {
	var next *supervised
	for _, p := range w.sensors {
		if !w.reads(p.chip) && (next == nil || p.next().Before(next.next())) {
			next = p
		}
	}
	return next
}

func (w *worker) reads(chip string) bool {
	for _, c := range w.calls {
		if c.p.chip == chip {
			return true
		}
	}
	return false
}

// begin starts a reading.
func (w *worker) begin(ctx context.Context, p *supervised) {
	timeout := p.config.Timeout
	now := time.Now()
	c := &call{p: p, late: timeoutError(timeout), begun: now, slot: !p.due.After(now)}
	p.wokenAt.Store(nil) // before Take, so that what comes after it wakes the worker again
	ctx, end := context.WithCancelCause(ctx)
	limit := newRunTimer(p.opts.afterFunc)
	c.ctx, c.cancel = ctx, func() {
		limit.stop()
		end(nil)
	}
	limit.start(timeout, func() {
		end(c.late)
		limit.start(grace, func() {
			c.overdue.Store(true)
			w.notify()
		})
	})
	w.calls = append(w.calls, c)
	w.front = c
	go func() {
		r := result{c, p.call(c.ctx, c.slot)}
		select {
		case w.results <- r:
		case <-w.over:
			p.close() // the worker has ended
		}
	}()
}

// ended takes the outcome of a reading. What comes after its time is none.
func (w *worker) ended(ctx context.Context, r result) {
	c := r.call
	r.late(c)
	c.cancel()
	if w.front == c {
		w.front = nil
	}
	for i := range w.calls {
		if w.calls[i] == c {
			w.calls = append(w.calls[:i], w.calls[i+1:]...)
			break
		}
	}
	defer w.closeRemoved()
	switch {
	case c.p.gone && w.hung != c:
		return
	case w.hung == nil, w.hung != c && r.err == nil:
		c.p.finish(ctx, r.outcome)
		return
	case w.hung != c: // a victim, which is reported as failing already
		c.p.close()
		return
	}
	w.hung = nil
	c.p.close()
	c.p.retry()
	for _, other := range w.sensors {
		if other != c.p && !w.reads(other.chip) {
			other.close() // its last transfer may have been cut off
			other.failures = 0
			other.planAt(time.Now())
		}
	}
}

// late makes a failure of an outcome that came after its time.
func (r *result) late(c *call) {
	if c.ctx.Err() == nil {
		return
	}
	_, again := notYet(r.err)
	if _, source := c.p.device.(Source); source && (r.err == nil || again) && context.Cause(c.ctx) != c.late {
		return // the worker ends, and the source may have more
	}
	r.measurements = timed(r.measurements)
	if r.err == nil || again {
		r.err = c.late
	}
}

// hang reports a call that does not end. Nothing can end a transfer that the kernel does not: until the
// call returns, the worker leaves the bus alone.
func (w *worker) hang(c *call) {
	w.hung = c
	c.p.fail(fmt.Errorf("%w: the bus hangs", c.late))
	for _, other := range w.sensors {
		if other != c.p {
			other.report(StateFailing, Temporary, c.reason())
		}
	}
}

// stop waits a little for the calls that run, and closes every device that is not in one.
func (w *worker) stop(ctx context.Context) {
	timer := time.NewTimer(grace)
	defer timer.Stop()
	for len(w.calls) > 0 {
		select {
		case r := <-w.results:
			w.ended(ctx, r)
			continue
		case <-timer.C:
		}
		break
	}
	for _, c := range w.calls {
		c.cancel()
	}
	for _, p := range w.sensors {
		if w.reads(p.chip) {
			continue
		}
		if p.device != nil && p.wokenAt.Load() != nil { // what came just now is not lost
			p.finish(ctx, p.call(ctx, false))
		}
		p.close()
	}
	w.closeRemoved()
}
