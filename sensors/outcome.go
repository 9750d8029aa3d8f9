package sensors

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"
)

// outcome is what a call came to.
type outcome struct {
	measurements []Measurement
	at           time.Time // when they were complete
	slot         bool
	err          error
	leftOut      uint64 // readings of a Source, since it was opened
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
