package sensors

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"runtime/debug"
	"slices"
	"sync/atomic"
	"time"

	"holdfast/sensors/bus"
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
	failures int              // in a row
	panicked bool             // a stack was logged
	gone     bool             // it was removed, and reports nothing any more
	counts   *counts
	pace     pace
	notify   func() // makes the worker look at wokenAt

	schedule
	arrived
	reported
}

// arrived is what is known of a Source's events.
type arrived struct {
	wokenAt    atomic.Pointer[time.Time] // when it called Wake, until it is called; nil if it has not
	unread     error                     // the last input that could not be read, if nothing good came since
	unreadAt   time.Time                 // when such a failure was reported last
	leftOut    uint64                    // by the device that is open
	leftOutLog time.Time                 // when that was logged last
}

// reported is the state of a sensor that was reported last.
type reported struct {
	state    State
	reason   string
	since    time.Time
	lastGood time.Time // of a value that can be true
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
