package outputs

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"holdfast/sensors"
	"holdfast/sensors/bus"
)

// open takes the hardware, at the safe value.
func (o *output) open(by Cause, why string) {
	r := o.try(func(ctx context.Context) (Device, error) {
		return o.driver.Open(ctx, o.Config, o.c.opts.Buses, o.Safe)
	})
	if r.err != nil {
		if r.device != nil { // too late
			o.close(r.device)
		}
		o.fault(r.err)
		return
	}
	o.device, o.failures = r.device, 0
	o.verifyAt = time.Now().Add(verifyEvery)
	from := o.state
	o.reached(o.Safe, by, why, "")
	o.moves.log(o.log, from, o.state)
	o.report(sensors.StateOK, "")
	o.draw()
}

// verify finds hardware that is not where it was put: its chip has lost its power, or another program has
// moved it.
func (o *output) verify() {
	d, got := o.device, 0.0
	err := o.try(func(ctx context.Context) (_ Device, err error) { got, err = d.Get(ctx); return nil, err }).err
	if err == nil && math.Abs(got-o.state.Value) > o.driver.Tolerance {
		err = fmt.Errorf("the output is at %v and not at %v: its chip has lost its power, or something else moves it", got, o.state.Value)
	}
	if err != nil {
		o.fault(err)
		return
	}
	o.verifyAt = time.Now().Add(verifyEvery)
	o.status.LastGood = time.Now()
}

// fault gives the device up. It is opened anew at once, and if that fails, again and again.
func (o *output) fault(err error) {
	if o.stuck != nil {
		o.orphan = o.device
	} else if o.device != nil {
		o.close(o.device)
	}
	o.device = nil
	o.giveUp(err.Error())
	o.leaseEnd, o.maxEnd = time.Time{}, time.Time{}
	wait := time.Duration(0)
	if o.failures > 0 {
		wait = sensors.Backoff(o.failures)
	}
	o.failures++
	o.retryAt = time.Now().Add(wait)
	state := sensors.StateFailing
	if errors.Is(err, bus.ErrAbsent) {
		state = sensors.StateAbsent
	}
	if o.state.Known {
		o.state.Known, o.state.By, o.state.Why, o.state.ID = false, ByFault, err.Error(), ""
		o.state.Since = time.Now()
		o.publish()
	}
	o.report(state, err.Error())
}

// try calls the hardware with a deadline. A call that the kernel does not end is left alone until it
// returns.
func (o *output) try(f func(context.Context) (Device, error)) outcome {
	late := fmt.Errorf("no answer within %v", o.Timeout)
	ctx, cancel := sensors.WithRunTime(context.Background(), o.Timeout, late)
	result := make(chan outcome, 1)
	go func() {
		defer cancel()
		defer func() {
			if v := recover(); v != nil {
				result <- outcome{err: fmt.Errorf("driver %s: panic: %v", o.driver.Name, v)}
			}
		}()
		d, err := f(ctx)
		result <- outcome{d, err}
	}()
	select {
	case r := <-result:
		return r
	case <-ctx.Done():
	}
	over := make(chan struct{})
	stop := sensors.AfterRunning(grace, func() { close(over) })
	defer stop()
	select {
	case r := <-result:
		if r.err == nil && context.Cause(ctx) == late {
			r.err = late
		}
		return r
	case <-over:
		o.stuck = result
		return outcome{err: fmt.Errorf("%w: the bus hangs", late)}
	}
}

// returned takes what a call that hung has left behind.
func (o *output) returned(r outcome) {
	o.log.Info("a call that hung has returned", "error", r.err)
	for _, d := range []Device{r.device, o.orphan} {
		if d != nil {
			o.close(d)
		}
	}
	o.stuck, o.orphan = nil, nil
	o.retryAt = time.Now()
}

func (o *output) close(d Device) {
	if err := d.Close(); err != nil {
		o.log.Debug("close failed", "error", err)
	}
}

// report tells a change of the hardware's health.
func (o *output) report(state sensors.State, reason string) {
	if o.status.State == state && sensors.SameReason(o.status.Reason, reason) {
		return
	}
	now := time.Now()
	if o.status.State != state {
		o.status.Since = now
	}
	if state == sensors.StateOK {
		o.status.LastGood = now
	} else {
		o.log.Warn("output "+string(state), "reason", reason)
	}
	o.status.Sensor, o.status.State, o.status.Reason = o.Name, state, reason
	if o.running {
		o.c.opts.Status(o.status)
	}
}
