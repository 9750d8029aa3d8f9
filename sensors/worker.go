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
	maxJitter = 100 * time.Millisecond // of the first reading: other gateways have another raster
	// patience is how long one chip may keep the others of its bus waiting, where they do not need the
	// same wires at the same time: a chip that measures for long, or does not become ready, only keeps
	// itself waiting.
	patience = 50 * time.Millisecond
)

// worker reads the sensors of one bus in the order in which they are due: one at a time, but for those
// that have exhausted its patience. Only its own goroutine uses its fields.
type worker struct {
	patients []*patient
	leaving  []*patient // that are none any more, and are closed when nobody reads their chip
	alone    bool       // one reading at a time, however long it takes
	progress func(busy bool)

	changes chan func() // to be called by the worker
	running bool        // run has been or is about to be called
	end     func()      // ends run, and waits for that
	over    chan struct{}
	results chan result // of calls; once over is closed nobody takes one
	calls   []*call     // that run
	front   *call       // the one that the others wait for; nil if there is none
	hung    *call       // one whose time is over and that does not end; nil if there is none

	overdue chan struct{} // wakes run when a call has become overdue
}

// call is one reading that runs.
type call struct {
	p      *patient
	ctx    context.Context
	cancel context.CancelFunc
	late   error
	begun  time.Time

	overdue atomic.Bool // its time is over, and the grace for noticing too
}

type result struct {
	call *call
	outcome
}

// reason is what others are told while it hangs.
func (c *call) reason() string { return "the bus hangs in a reading of " + c.p.config.Name }

func newWorker(alone bool) *worker {
	return &worker{alone: alone, changes: make(chan func()), end: func() {}, over: make(chan struct{}), results: make(chan result), overdue: make(chan struct{}, 1)}
}

// begins says that run is about to be called.
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
	for _, p := range w.patients {
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
		case <-w.overdue:
		case <-timer.C:
		}
	}
	w.stop(ctx)
}

// add takes a patient in.
func (w *worker) add(p *patient) {
	w.patients = append(w.patients, p)
	if !w.running {
		return
	}
	p.plan()
	if w.hung != nil {
		p.report(StateFailing, Temporary, w.hung.reason())
	}
}

// remove lets patients go. It ends their calls, and waits a little for that. It says whether the worker
// has nothing left to do.
func (w *worker) remove(names []string) (idle bool) {
	w.patients = slices.DeleteFunc(w.patients, func(p *patient) bool {
		p.gone = slices.Contains(names, p.config.Name)
		if p.gone {
			w.leaving = append(w.leaving, p)
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
	for w.closeLeaving(); len(w.leaving) > 0; {
		select {
		case r := <-w.results:
			w.ended(context.Background(), r)
			continue
		case <-timer.C:
		}
		break
	}
	return len(w.patients)+len(w.calls) == 0
}

// closeLeaving closes the devices of those who have gone, if nobody reads their chip.
func (w *worker) closeLeaving() {
	w.leaving = slices.DeleteFunc(w.leaving, func(p *patient) bool {
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
		case next.due.After(now):
			return earlier(again, next.due)
		}
		w.begin(ctx, next)
	}
	if w.alone {
		return again
	}
	return earlier(again, w.front.begun.Add(patience))
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// next is the patient that is due first, of those whose chip is not being read.
func (w *worker) next() *patient {
	var next *patient
	for _, p := range w.patients {
		if (next == nil || p.due.Before(next.due)) && !w.reads(p.chip) {
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
func (w *worker) begin(ctx context.Context, p *patient) {
	timeout := p.config.Timeout
	c := &call{p: p, late: timeoutError(timeout), begun: time.Now()}
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
			select {
			case w.overdue <- struct{}{}:
			default: // it is about to look
			}
		})
	})
	w.calls = append(w.calls, c)
	w.front = c
	go func() {
		r := result{c, p.call(c.ctx)}
		select {
		case w.results <- r:
		case <-w.over:
			p.close() // nobody else uses it any more
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
	defer w.closeLeaving()
	switch {
	case c.p.gone && w.hung != c:
		return
	case w.hung == nil, w.hung != c && r.err == nil:
		c.p.finish(ctx, r.outcome)
		return
	case w.hung != c: // a victim, of which that was told already
		c.p.close()
		return
	}
	w.hung = nil
	c.p.close()
	c.p.retry()
	for _, other := range w.patients {
		if other != c.p && !w.reads(other.chip) {
			other.close() // what it was told last may have been cut off
			other.failures, other.due = 0, time.Now()
		}
	}
}

// late makes a failure of an outcome that came after its time.
func (r *result) late(c *call) {
	if c.ctx.Err() == nil {
		return
	}
	r.measurements = nil
	if _, again := notYet(r.err); r.err == nil || again {
		r.err = c.late
	}
}

// hang has a call that does not end. Nothing can end a transfer that the kernel does not: until it
// returns, the bus is not touched.
func (w *worker) hang(c *call) {
	w.hung = c
	c.p.fail(fmt.Errorf("%w: the bus hangs", c.late))
	for _, other := range w.patients {
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
	for _, p := range w.patients {
		if !w.reads(p.chip) {
			p.close()
		}
	}
	w.closeLeaving()
}
