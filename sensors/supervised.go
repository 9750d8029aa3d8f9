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

	state    State
	reason   string
	since    time.Time
	lastGood time.Time
}

// lane returns the name of the worker that reads p, one for everything that shares wires, and reports whether
// its readings have to be one at a time: where they are not made of transfers that package bus keeps apart.
func (p *supervised) lane() (name string, alone bool) {
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
	err          error
}

// call opens the device if it is not, and takes a reading. A panic of a driver is an error.
func (p *supervised) call(ctx context.Context) (o outcome) {
	defer func() {
		if v := recover(); v != nil {
			o = outcome{err: fmt.Errorf("driver %s: panic: %v", p.driver.Name, v)}
			if !p.panicked {
				p.panicked = true
				p.log.Error("driver panicked", "driver", p.driver.Name, "panic", v, "stack", string(debug.Stack()))
			}
		}
	}()
	m, err := p.sense(ctx)
	if errors.Is(err, ErrRestarted) {
		p.close() // the chip is back already: it only has to be set up
		m, err = p.sense(ctx)
	}
	if err != nil {
		return outcome{err: err}
	}
	return outcome{m, time.Now(), p.check(m)}
}

func (p *supervised) sense(ctx context.Context) ([]Measurement, error) {
	if p.device == nil {
		d, err := p.driver.Open(ctx, p.config, p.opts.Buses)
		if err != nil {
			return nil, err
		}
		p.device = d
	}
	return p.device.Sense(ctx)
}

// check finds what no driver should return.
func (p *supervised) check(measurements []Measurement) error {
	if len(measurements) == 0 {
		return fmt.Errorf("driver %s returned nothing", p.driver.Name)
	}
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

func find(quantities []Quantity, m Measurement) int {
	return slices.IndexFunc(quantities, func(q Quantity) bool { return q.Name == m.Quantity && q.Unit == m.Unit })
}

// convert calibrates, smooths and rounds all measurements, and finds what cannot be true. One such value spoils them
// all: they come from the same bytes.
func (p *supervised) convert(measurements []Measurement, at time.Time) ([]float64, error) {
	quantities := p.quantities()
	values := make([]float64, len(measurements))
	for i, m := range measurements {
		var err error
		if values[i], err = p.pipe(m.Quantity).convert(m.Value, quantities[find(quantities, m)], measurements); err != nil {
			return nil, err
		}
	}
	for i, m := range measurements {
		values[i] = p.pipe(m.Quantity).smoothed(values[i], at)
		if math.IsInf(values[i], 0) {
			return nil, fmt.Errorf("%w: %s is %v when it is rounded", ErrImplausible, m.Quantity, values[i])
		}
	}
	return values, nil
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
	if after, again := notYet(o.err); again {
		p.due = time.Now().Add(after)
		return
	}
	if o.err != nil {
		p.close()
		if ctx.Err() == nil {
			p.fail(o.err)
			p.retry()
		}
		return
	}
	values, err := p.convert(o.measurements, o.at)
	if err != nil {
		// The device is as it was: its next reading may be plausible again.
		p.fail(err)
		p.retry()
		return
	}
	p.failures = 0
	p.counts.taken.Add(1)
	p.lastGood = o.at
	p.report(StateOK, "", "")
	for i, m := range o.measurements {
		if p.pipe(m.Quantity).passes(values[i], p.slot) {
			p.opts.Reading(p.reading(m, values[i], o.at))
		}
	}
	p.onGrid()
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
	every := p.config.Every
	next := p.first.Add((time.Since(p.first)/every + 1) * every)
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

// retry plans the next reading after a failure: sooner than the interval at first, later after many.
func (p *supervised) retry() {
	wait := min(maxBackoff, minBackoff<<min(p.failures-1, 6))
	p.planAt(time.Now().Add(wait/2 + rand.N(wait/2+1)))
}

func (p *supervised) fail(err error) {
	p.failures++
	p.counts.failed.Add(1)
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
}
