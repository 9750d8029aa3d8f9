package sensors

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"
)

const (
	// grace is how long a driver whose time is over may take to notice.
	grace     = 100 * time.Millisecond
	maxJitter = 100 * time.Millisecond // of the first reading
)

// worker reads the sensors of one bus, one at a time, in the order in which they are due.
type worker struct {
	patients []*patient
}

func (w *worker) run(ctx context.Context) {
	start := time.Now()
	for _, p := range w.patients {
		p.first = start.Add(rand.N(min(maxJitter, p.config.Every/10) + 1))
		p.due = p.first
	}
	for {
		next := w.patients[0]
		for _, p := range w.patients[1:] {
			if p.due.Before(next.due) {
				next = p
			}
		}
		if !sleep(ctx, next.due) {
			break
		}
		if !w.read(ctx, next) {
			return // a call is still out; its device cannot be closed
		}
	}
	for _, p := range w.patients {
		p.close()
	}
}

// read takes one reading of p. It is false if ctx ended while the bus hangs.
func (w *worker) read(ctx context.Context, p *patient) bool {
	timeout := p.config.Timeout
	late := fmt.Errorf("no answer within %v", timeout)
	call, cancel := context.WithTimeoutCause(ctx, timeout, late)
	defer cancel()
	result := make(chan outcome, 1)
	go func() { result <- p.call(call) }()
	select {
	case r := <-result:
		p.finish(ctx, r)
		return true
	case <-call.Done():
	}
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case r := <-result: // the driver has noticed
		r.measurements = nil
		if r.err == nil {
			r.err = late
		}
		p.finish(ctx, r)
		return true
	case <-timer.C:
	}
	if ctx.Err() != nil {
		return false
	}
	// Nothing can end a transfer that the kernel does not. Until it returns, the bus is not touched.
	p.fail(fmt.Errorf("%w: the bus hangs", late))
	for _, other := range w.patients {
		if other != p {
			other.report(StateFailing, fmt.Sprintf("the bus hangs in a reading of %s", p.config.Name))
		}
	}
	select {
	case <-result:
	case <-ctx.Done():
		return false
	}
	p.close()
	for _, other := range w.patients {
		if other != p {
			other.close() // what it was told last may have been cut off
			other.due = time.Now()
		}
	}
	p.retry()
	return true
}
