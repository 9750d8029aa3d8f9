package outputs

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"holdfast/sensors"
)

const (
	grace       = 100 * time.Millisecond // for a driver whose time is over to notice
	verifyEvery = 10 * time.Second       // a chip that lost its power is found after this time
	maxRequests = 16

	stopping = "the gateway is stopping"
	changing = "the configuration of the output has changed"
)

type request struct {
	Command
	answer func(Result)
}

// output is one configured output. Only its own goroutine uses it, and before Run only Secure.
type output struct {
	Config
	driver   *Driver
	c        *Controller
	log      *slog.Logger
	requests chan request
	linkLost chan struct{}
	screen   screen
	end      func()      // ends run, and waits for that; nil if it was not started
	changing atomic.Bool // it ends, and the others do not

	mu      sync.Mutex
	stopped bool // no more requests

	running bool // State and Status may be called
	state   State
	dirty   bool // state has changed and is to be published
	status  sensors.Status
	moves   moveLog

	hardware
	terms
}

// screen is what a Screen shows.
type screen struct {
	lines  atomic.Pointer[[]string] // nil before there are any
	redraw chan struct{}            // they have changed
}

// hardware is the device, and how calls to it go.
type hardware struct {
	device   Device       // nil while it is not open
	stuck    chan outcome // of a call that the kernel has not ended; nil if there is none
	orphan   Device       // whose call it is
	failures int          // in a row
	retryAt  time.Time
	verifyAt time.Time
}

// terms are the times that bound a value.
type terms struct {
	turned   time.Time // when it went from off to on, or back; at first, when it was opened
	leaseEnd time.Time // zero if there is none, as those below
	maxEnd   time.Time
	waiting  *request // for state.WaitingAt
}

// outcome is what a call to the hardware came to.
type outcome struct {
	device Device // of an Open
	err    error
}

func newOutput(config Config, d *Driver, c *Controller) *output {
	return &output{
		Config: config, driver: d, c: c, log: c.opts.Log.With("output", config.Name),
		requests: make(chan request, maxRequests), linkLost: make(chan struct{}, 1), screen: screen{redraw: make(chan struct{}, 1)},
		state: State{Output: config.Name, By: ByStart, Since: time.Now()},
	}
}

func (o *output) run(ctx context.Context) {
	o.running = true
	o.publish()
	o.c.opts.Status(o.status)
	for ctx.Err() == nil {
		timer := time.NewTimer(time.Until(o.next()))
		select {
		case <-ctx.Done():
		case r := <-o.requests:
			o.command(r)
		case <-o.linkLost:
			o.toSafe(ByLink, fmt.Sprintf("%s was lost for %v", o.Link, o.LinkTimeout))
		case <-o.screen.redraw:
			o.draw()
		case r := <-o.stuck:
			o.returned(r)
		case <-timer.C:
			o.due(time.Now())
		}
		timer.Stop()
		if o.dirty {
			o.publish()
		}
	}
	o.stop()
}

// request hands a request over.
func (o *output) request(r request) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.stopped {
		r.answer(Result{Outcome: Refused, Reason: o.farewell()})
		return
	}
	select {
	case o.requests <- r:
	default:
		r.answer(Result{Outcome: Refused, Reason: fmt.Sprintf("%d commands wait for the hardware already", maxRequests)})
	}
}

// next is when something is due.
func (o *output) next() time.Time {
	next := time.Now().Add(time.Hour)
	sooner := func(t time.Time) {
		if !t.IsZero() && t.Before(next) {
			next = t
		}
	}
	switch {
	case o.stuck != nil:
	case o.device == nil:
		sooner(o.retryAt)
	default:
		sooner(o.verifyAt)
		sooner(o.leaseEnd)
		sooner(o.maxEnd)
		if o.waiting != nil {
			sooner(o.state.WaitingAt)
		}
	}
	return next
}

// due does what the time has come for.
func (o *output) due(now time.Time) {
	reached := func(t time.Time) bool { return !t.IsZero() && !now.Before(t) }
	switch {
	case o.stuck != nil:
	case o.device == nil:
		if reached(o.retryAt) {
			o.open(ByFault, o.status.Reason)
			o.publish()
		}
	case reached(o.maxEnd):
		o.toSafe(ByMaxOn, fmt.Sprintf("on for %v", o.MaxOn))
	case reached(o.leaseEnd):
		o.toSafe(ByLease, "the command was not renewed")
	case o.waiting != nil && reached(o.state.WaitingAt):
		r := *o.waiting
		o.waiting, o.state.Waiting, o.dirty = nil, false, true
		o.obey(r, now)
	case reached(o.verifyAt):
		o.verify()
	}
}

// command answers a command.
func (o *output) command(r request) {
	now := time.Now()
	refuse := func(reason string) { r.answer(Result{Outcome: Refused, Reason: reason}) }
	if err := o.driver.Check(o.Options, r.Value); err != nil {
		refuse("value: " + err.Error())
		return
	}
	if o.Lease > 0 && r.Lease > o.Lease {
		refuse(fmt.Sprintf("lease: got %v, want at most %v", r.Lease, o.Lease))
		return
	}
	if o.device == nil {
		refuse("the hardware is " + string(o.status.State) + ": " + o.status.Reason)
		return
	}
	o.giveUp("a later command took its place")
	at := now
	switch {
	case r.Value == o.state.Value || o.driver.Position:
	case r.Value == 0:
		at = o.turned.Add(o.MinOn)
	case o.state.Value == 0:
		at = o.turned.Add(o.MinOff)
	}
	if !at.After(now) {
		o.obey(r, now)
		return
	}
	o.waiting = &r
	o.state.Waiting, o.state.WaitingFor, o.state.WaitingAt, o.dirty = true, r.Value, at, true
	limit := "min_off"
	if r.Value == 0 {
		limit = "min_on"
	}
	r.answer(Result{Outcome: Waiting, Reason: limit, Until: at})
}

// obey carries a command out that need not wait. Its lease begins.
func (o *output) obey(r request, now time.Time) {
	renewed := r.Value == o.state.Value
	if renewed {
		// A renewal alone is no news, and costs nothing.
		o.dirty = o.dirty || o.state.By != ByCommand
		o.state.By, o.state.Why, o.state.ID = ByCommand, r.Why, r.ID
	} else if err := o.move(r.Value, ByCommand, r.Why, r.ID); err != nil {
		r.answer(Result{Outcome: Refused, Reason: err.Error()})
		return
	}
	o.leaseEnd = time.Time{}
	if lease := o.lease(r); lease > 0 && r.Value != o.Safe {
		o.leaseEnd = now.Add(lease)
	}
	r.answer(Result{Outcome: Done, Renewed: renewed, Until: o.leaseEnd})
}

func (o *output) lease(r request) time.Duration {
	if r.Lease > 0 {
		return r.Lease
	}
	return o.Lease
}

// giveUp refuses the pending command.
func (o *output) giveUp(reason string) {
	if o.waiting == nil {
		return
	}
	r := *o.waiting
	o.waiting, o.state.Waiting, o.dirty = nil, false, true
	r.answer(Result{Outcome: Refused, Reason: reason})
}

// toSafe moves the output to its safe value, whatever min_on and min_off say.
func (o *output) toSafe(by Cause, why string) {
	o.giveUp("the output went to its safe value: " + why)
	o.leaseEnd = time.Time{}
	if o.device == nil || o.state.Value == o.Safe {
		return
	}
	if err := o.move(o.Safe, by, why, ""); err != nil {
		o.log.Error("the safe value could not be set", "error", err)
	}
}

// move sets the hardware, and publishes.
func (o *output) move(value float64, by Cause, why, id string) error {
	if value != 0 && o.state.Value == 0 {
		if err := o.c.claim(o.Name); err != nil {
			return err
		}
	}
	d := o.device
	if err := o.try(func(ctx context.Context) (Device, error) { return nil, d.Set(ctx, value) }).err; err != nil {
		o.fault(err)
		return err
	}
	from := o.state
	o.reached(value, by, why, id)
	o.moves.log(o.log, from, o.state)
	o.publish()
	return nil
}

// reached notes where the hardware is.
func (o *output) reached(value float64, by Cause, why, id string) {
	now := time.Now()
	on, was := value != 0, o.state.Known && o.state.Value != 0
	if on != was || !o.state.Known {
		o.turned = now
		o.maxEnd = time.Time{}
		if on && o.MaxOn > 0 {
			o.maxEnd = now.Add(o.MaxOn)
		}
	}
	if !on {
		o.c.release(o.Name)
	}
	o.state.Value, o.state.Known, o.state.Since = value, true, now
	o.state.By, o.state.Why, o.state.ID = by, why, id
}

// draw shows the newest lines on a Screen.
func (o *output) draw() {
	screen, is := o.device.(Screen)
	lines := o.screen.lines.Load()
	if !is || lines == nil {
		return
	}
	if err := o.try(func(ctx context.Context) (Device, error) { return nil, screen.Show(ctx, *lines) }).err; err != nil {
		o.fault(err)
	}
}

// farewell is why it ends.
func (o *output) farewell() string {
	if o.changing.Load() {
		return changing
	}
	return stopping
}

func (o *output) stop() {
	o.toSafe(ByStop, o.farewell())
	if o.dirty {
		o.publish()
	}
	o.mu.Lock()
	o.stopped = true
	o.mu.Unlock()
	for more := true; more; {
		select {
		case r := <-o.requests:
			r.answer(Result{Outcome: Refused, Reason: o.farewell()})
		default:
			more = false
		}
	}
	if o.device == nil {
		o.log.Error("stopped without being at the safe value", "reason", o.status.Reason)
		return
	}
	o.close(o.device)
	o.device = nil
}

func (o *output) publish() {
	o.dirty = false
	if o.running {
		o.c.opts.State(o.state)
	}
}
