package sensors

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"sync/atomic"
	"time"

	"holdfast/sensors/bus"
)

const (
	minBackoff = time.Second
	maxBackoff = time.Minute
)

// supervised is one configured sensor under supervision. Only its bus's worker uses it, and between a
// call's begin and end only the call.
type supervised struct {
	config Config
	driver *Driver
	opts   *SupervisorOptions
	log    *slog.Logger

	chip     string           // what cannot be read twice at the same time
	pipes    map[string]*pipe // by quantity
	device   Sensor           // nil while it is not open
	phase    time.Time        // of the grid on which first readings are planned
	first    time.Time        // of the grid of readings
	slot     time.Time        // of the next reading, on the grid unless it follows a failure
	due      time.Time        // of the next call for it: the slot, or later if the chip was not ready
	failures int              // in a row
	panicked bool             // a stack was logged
	gone     bool             // it was removed, and reports nothing any more
	counts   *counts
	pace     pace
	notify   func() // makes the worker look at wokenAt

	wokenAt    atomic.Pointer[time.Time] // when a Source called Wake, until it is called; nil if it has not
	unread     error                     // the last input that could not be read, if nothing good came since
	unreadAt   time.Time                 // when such a failure was reported last
	leftOut    uint64                    // by the device that is open
	leftOutLog time.Time                 // when that was logged last

	state    State
	reason   string
	since    time.Time
	lastGood time.Time
}

// lane returns the name of the worker that reads p, one for everything that shares wires, and reports whether
// its readings have to be one at a time: where they are not made of transfers that package bus keeps apart.
func (p *supervised) lane() (name string, alone bool) {
	if p.driver.Own {
		return "sensor " + p.config.Name, true
	}
	at := p.config.Bus
	if p.driver.Lane != nil {
		at = p.driver.Lane(p.config)
	}
	switch kind := p.driver.Kind(at); kind {
	case BusNone:
		return "sensor " + p.config.Name, true
	case BusI2C, BusSPI, BusUART:
		return string(kind) + " " + bus.Shared(at), false
	default:
		return string(kind), true
	}
}

// chipOf names what a sensor's readings must not be mixed on: the converter whose inputs are several
// sensors.
func chipOf(c Config) string { return fmt.Sprintf("%s %#x", c.Bus, c.Address) }

// outcome is what a call came to.
type outcome struct {
	measurements []Measurement
	at           time.Time // when they were complete
	slot         bool
	err          error
	leftOut      uint64 // readings of a Source, since it was opened
}

// call opens the device if it is not, and takes the reading of a slot, or else what a Source has. A panic of a driver
// is an error.
func (p *supervised) call(ctx context.Context, slot bool) (o outcome) {
	defer func() {
		if v := recover(); v != nil {
			o = outcome{err: fmt.Errorf("driver %s: panic: %v", p.driver.Name, v)}
			if !p.panicked {
				p.panicked = true
				p.log.Error("driver panicked", "driver", p.driver.Name, "panic", v, "stack", string(debug.Stack()))
			}
		}
	}()
	m, err := p.sense(ctx, slot)
	if errors.Is(err, ErrRestarted) {
		before := timed(m)
		p.close() // the chip is back already: it only has to be set up
		m, err = p.sense(ctx, true)
		m = append(before, m...)
	}
	if err != nil {
		m = timed(m)
	}
	o = outcome{measurements: m, at: time.Now(), slot: slot, err: err}
	if source, ok := p.device.(Source); !ok && len(m) == 0 && err == nil {
		o.err = fmt.Errorf("driver %s returned nothing", p.driver.Name)
	} else if ok {
		o.leftOut = source.LeftOut()
	}
	if bad := p.check(m); bad != nil {
		o.measurements, o.err = nil, bad
	}
	return o
}

// timed returns the measurements that have a time of their own: they hold, whatever happened since.
func timed(m []Measurement) []Measurement {
	return slices.DeleteFunc(m, func(m Measurement) bool { return m.Time.IsZero() })
}

func (p *supervised) sense(ctx context.Context, slot bool) ([]Measurement, error) {
	if p.device == nil {
		d, err := p.driver.Open(ctx, p.config, p.opts.Buses)
		if err != nil {
			return nil, err
		}
		p.device, p.leftOut = d, 0
	}
	if source, ok := p.device.(Source); ok && !slot {
		return source.Take(ctx)
	}
	return p.device.Sense(ctx)
}

// check finds what no driver should return.
func (p *supervised) check(measurements []Measurement) error {
	quantities := p.quantities()
	for _, m := range measurements {
		if find(quantities, m) < 0 {
			return fmt.Errorf("driver %s returned %s in %q, which its table does not have", p.driver.Name, m.Quantity, m.Unit)
		}
		if math.IsNaN(m.Value) || math.IsInf(m.Value, 0) {
			return fmt.Errorf("%w: driver %s returned %v for %s", ErrImplausible, p.driver.Name, m.Value, m.Quantity)
		}
	}
	return nil
}

// wake is the Config.Wake of a Source. It is safe for concurrent use.
func (p *supervised) wake() {
	now := time.Now()
	if p.wokenAt.CompareAndSwap(nil, &now) {
		p.notify()
	}
}

// next is when the sensor is to be called. What a device calls Wake for before it is closed does not open another one.
// No call of it may run.
func (p *supervised) next() time.Time {
	if woken := p.wokenAt.Load(); woken != nil && p.device != nil && woken.Before(p.due) {
		return *woken
	}
	return p.due
}

func find(quantities []Quantity, m Measurement) int {
	return slices.IndexFunc(quantities, func(q Quantity) bool { return q.Name == m.Quantity && q.Unit == m.Unit })
}

// convert calibrates, smooths and rounds measurements of one time, at, and finds what cannot be true. One such value spoils
// them all, because they come from the same bytes, but not those of a Source: these are NaN then, and the error is that
// of the first.
func (p *supervised) convert(measurements []Measurement, at time.Time) ([]float64, error) {
	quantities := p.quantities()
	values := make([]float64, len(measurements))
	_, each := p.device.(Source)
	var first error
	wrong := func(i int, err error) {
		values[i] = math.NaN()
		if first == nil {
			first = err
		}
	}
	for i, m := range measurements {
		if f := p.pipe(m.Quantity).Calibrate.Formula; each && f != nil && !f.has(measurements) {
			values[i] = math.NaN() // not known, as what a message does not have
			continue
		}
		var err error
		if values[i], err = p.pipe(m.Quantity).convert(m.Value, quantities[find(quantities, m)], measurements); err != nil {
			wrong(i, err)
		}
	}
	if first != nil && !each {
		return nil, first
	}
	for i, m := range measurements {
		if math.IsNaN(values[i]) {
			continue
		}
		values[i] = p.pipe(m.Quantity).smoothed(values[i], at)
		if math.IsInf(values[i], 0) {
			wrong(i, fmt.Errorf("%w: %s is %v when it is rounded", ErrImplausible, m.Quantity, values[i]))
		}
	}
	return values, first
}

// pipe is the processing of one quantity.
func (p *supervised) pipe(quantity string) *pipe {
	if p.pipes[quantity] == nil {
		how, ok := p.config.Quantities[quantity]
		if !ok {
			how = p.config.Processing
		}
		p.pipes[quantity] = &pipe{Processing: how, every: p.config.Every}
	}
	return p.pipes[quantity]
}

// quantities are those of the open device.
func (p *supervised) quantities() []Quantity {
	if m, ok := p.device.(Measurer); ok {
		return m.Quantities()
	}
	return p.driver.Measures(p.config.Options)
}

// finish reports an outcome and plans the next reading. The end of ctx is no failure of the sensor.
func (p *supervised) finish(ctx context.Context, o outcome) {
	p.countLeftOut(o.leftOut)
	values, implausible := p.convertAll(o)
	after, again := notYet(o.err)
	_, source := p.device.(Source)
	switch {
	case implausible != nil && !source:
		// The device is as it was: its next reading may be plausible again.
		p.fail(implausible)
		p.retry()
		return
	case o.err != nil && !again && !unreadable(o.err):
		p.publish(o, values)
		p.close()
		if ctx.Err() == nil {
			p.fail(o.err)
			p.retry()
		}
		return
	case unreadable(o.err):
		p.cannotRead(o.err, o.slot)
		if source {
			p.failures = 0 // it calls Wake
		}
	case implausible != nil:
		p.cannotRead(implausible, o.slot)
		p.failures = 0
	case hasValue(values):
		p.failures, p.unread = 0, nil
		p.report(StateOK, "", "")
	case o.slot && p.unread != nil:
		p.report(StateFailing, ClassOf(p.unread), p.unread.Error())
	}
	p.publish(o, values)
	switch {
	case again && source:
		p.planAt(time.Now().Add(after)) // no slot is missed
	case again:
		p.due = time.Now().Add(after)
	case o.slot && p.unread != nil:
		grid := p.nextOnGrid()
		if p.planAt(grid); p.failures > 0 {
			p.retry() // a long interval is no reason to wait for long
			p.planAt(earlier(grid, p.due))
		}
	case o.slot:
		p.onGrid()
	}
	if p.unread != nil {
		p.due = earlier(p.due, time.Now().Add(p.config.Every)) // to report it, if it was not
	}
}

// sameTime returns how many of the first measurements are of one time, and so one reading.
func sameTime(all []Measurement) int {
	n := 1
	for n < len(all) && all[n].Time.Equal(all[0].Time) {
		n++
	}
	return n
}

// convertAll converts the measurements of each time together. Values that cannot be true are NaN.
func (p *supervised) convertAll(o outcome) (values []float64, err error) {
	for all, n := o.measurements, 0; len(all) > 0; all = all[n:] {
		n = sameTime(all)
		at := o.timeOf(all[0])
		v, bad := p.convert(all[:n], at)
		if bad != nil {
			err = bad
		}
		if hasValue(v) && at.After(p.lastGood) {
			p.lastGood = at
		}
		values = append(values, v...)
	}
	return values, err
}

func hasValue(values []float64) bool {
	return slices.ContainsFunc(values, func(v float64) bool { return !math.IsNaN(v) })
}

// timeOf returns when m was measured: without a time of its own, when the call was complete.
func (o *outcome) timeOf(m Measurement) time.Time {
	if m.Time.IsZero() {
		return o.at
	}
	return m.Time
}

// publish reports the values that can be true, oldest first.
func (p *supervised) publish(o outcome, values []float64) {
	for all, n := o.measurements, 0; len(all) > 0; all, values = all[n:], values[n:] {
		n = sameTime(all)
		if !hasValue(values[:n]) {
			continue
		}
		p.counts.taken.Add(1)
		at := o.timeOf(all[0])
		for i, m := range all[:n] {
			if math.IsNaN(values[i]) {
				continue
			}
			slot, event := p.slot, !m.Time.IsZero()
			if event {
				slot = m.Time
			}
			if p.pipe(m.Quantity).passes(values[i], slot) {
				r := p.reading(m, values[i], at)
				r.Urgent = p.driver.Urgent && event
				p.opts.Reading(r)
			}
		}
	}
}

// cannotRead reports input that could not be used, between slots at most once in an interval: the rest is counted.
func (p *supervised) cannotRead(err error, slot bool) {
	p.unread = err
	p.counts.failures.Add(more(err))
	if now := time.Now(); slot || now.Sub(p.unreadAt) >= p.config.Every {
		p.unreadAt = now
		p.fail(err)
		return
	}
	p.counts.failures.Add(1)
}

// countLeftOut counts the readings that a Source left out.
func (p *supervised) countLeftOut(n uint64) {
	if n <= p.leftOut {
		return
	}
	p.counts.leftOut.Add(n - p.leftOut)
	p.leftOut = n
	if now := time.Now(); p.leftOutLog.IsZero() || now.Sub(p.leftOutLog) >= time.Hour {
		p.leftOutLog = now
		p.log.Warn("leaving out readings: they come faster than the sensor's limit; use a longer debounce, or make the sender slower", "left_out", p.counts.leftOut.Load())
	}
}

// reading is a measurement under the names that the configuration gives it.
func (p *supervised) reading(m Measurement, value float64, at time.Time) Reading {
	how := p.pipe(m.Quantity)
	r := Reading{Sensor: p.config.Name, Quantity: m.Quantity, Value: value, Unit: m.Unit, Time: at}
	if how.As != "" {
		r.Quantity = how.As
	}
	if how.Unit != "" {
		r.Unit = how.Unit
	}
	return r
}

// plan begins the grid of readings at the next step of the common phase. Those of sensors that are planned
// together so fall together, and the processor wakes up once for all of them.
func (p *supervised) plan() {
	step := max(1, min(maxJitter, p.config.Every/10))
	now := time.Now()
	p.first = now.Add(step - now.Sub(p.phase)%step)
	p.planAt(p.first)
}

func (p *supervised) planAt(t time.Time) { p.slot, p.due = t, t }

// onGrid plans the next reading after one that succeeded. Those that were missed in between are counted, and not made
// up for.
func (p *supervised) onGrid() {
	every, next := p.config.Every, p.nextOnGrid()
	missed := uint64(0)
	if p.slot.Sub(p.first)%every == 0 {
		missed = uint64(max(0, next.Sub(p.slot)/every-1))
	}
	p.planAt(next)
	p.counts.missed.Add(missed)
	p.keepsUp(missed)
}

// keepsUp notes that one reading was taken and others before the next one were missed, and logs when a sensor begins
// or ends to miss many.
func (p *supervised) keepsUp(missed uint64) {
	behind, known := p.pace.add(missed, time.Now(), p.config.Every)
	if !known {
		return
	}
	switch was := p.counts.behind.Swap(behind); {
	case behind && !was:
		p.log.Warn("readings are missed: the bus, the sensor or the processor is too slow for this interval: set every higher", "every", p.config.Every)
	case was && !behind:
		p.log.Info("readings are no longer missed")
	}
}

func (p *supervised) nextOnGrid() time.Time {
	every := p.config.Every
	return p.first.Add((time.Since(p.first)/every + 1) * every)
}

// retry plans the next reading after a failure: sooner than the interval at first, later after many.
func (p *supervised) retry() {
	p.planAt(time.Now().Add(Backoff(p.failures)))
}

// Backoff returns how long to wait after a number of failures in a row, 1 or more: between half of a ceiling and the
// ceiling, which doubles from 1 s to 1 min, so that devices which failed together are not tried together.
func Backoff(failures int) time.Duration {
	ceiling := min(maxBackoff, minBackoff<<min(failures-1, 6))
	return ceiling/2 + rand.N(ceiling/2+1)
}

func (p *supervised) fail(err error) {
	p.failures++
	p.counts.failures.Add(1)
	p.pace = pace{} // what it misses while it fails is no matter of time
	p.counts.behind.Store(false)
	for _, pipe := range p.pipes {
		pipe.reported = false // the first reading after a failure is reported in any case
	}
	state, class := StateFailing, ClassOf(err)
	if class == Absent {
		state = StateAbsent
	}
	p.report(state, class, err.Error())
}

// report passes a change of the state on.
func (p *supervised) report(state State, class Class, reason string) {
	if p.gone || p.state == state && SameReason(p.reason, reason) {
		return
	}
	now := time.Now()
	if p.state != state {
		p.since = now
	}
	switch {
	case state != StateOK:
		p.log.Warn("sensor "+string(state), "class", class, "reason", reason)
	case p.state != "":
		p.log.Info("sensor ok")
	}
	p.state, p.reason = state, reason
	p.opts.Status(Status{Sensor: p.config.Name, State: state, Class: class, Reason: reason, Since: p.since, LastGood: p.lastGood})
}

// close closes the device. The next call opens a new one: nothing of a failed device is used again.
func (p *supervised) close() {
	if p.device == nil {
		return
	}
	if err := p.device.Close(); err != nil {
		p.log.Debug("close failed", "error", err)
	}
	p.device = nil
	p.wokenAt.Store(nil)
}
