// Package sensors reads what is connected to a Pi.
//
// It promises: every configured sensor is read at its interval, on a fixed grid, whatever the others
// do; one that hangs, fails or is unplugged delays nobody but the sensors on its own bus, and is back
// without a restart when the hardware is; a reading is made only of bytes that the hardware has just
// answered. It keeps at most one goroutine per bus in a call that does not return.
//
// It does not store, filter or convert readings, and it does not decide what a value means.
package sensors

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"holdfast/sensors/bus"
)

// SupervisorOptions are what a Supervisor works with. Reading and Status are called from several
// goroutines, in order for each sensor.
type SupervisorOptions struct {
	Buses   *bus.Set
	Drivers []Driver // nil means Drivers()
	Reading func(Reading)
	Status  func(Status) // told when the state or its reason changes
	Host    Host         // nil means NoHost
	Log     *slog.Logger // nil discards
}

// Supervisor reads sensors, each bus in turn by a worker of its own.
type Supervisor struct {
	opts    SupervisorOptions
	workers []*worker
}

// NewSupervisor prepares configs, which have been checked against the drivers; a sensor of an unknown
// driver is a mistake of the caller and panics. Nothing is opened until Run.
func NewSupervisor(configs []Config, opts SupervisorOptions) *Supervisor {
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	if opts.Drivers == nil {
		opts.Drivers = Drivers()
	}
	if opts.Host == nil {
		opts.Host = &NoHost{}
	}
	s := &Supervisor{opts: opts}
	byBus := map[string]*worker{}
	for _, c := range configs {
		p := &patient{config: c, pipes: map[string]*pipe{}, opts: &s.opts, log: opts.Log.With("sensor", c.Name)}
		for i := range opts.Drivers {
			if opts.Drivers[i].Name == c.Driver {
				p.driver = &opts.Drivers[i]
			}
		}
		if p.driver == nil {
			panic("sensors: no driver " + c.Driver)
		}
		p.config.Host = opts.Host
		settle(&p.config, p.driver)
		p.chip = chipOf(p.config)
		lane, alone := p.lane()
		w := byBus[lane]
		if w == nil {
			w = &worker{alone: alone}
			byBus[lane] = w
			s.workers = append(s.workers, w)
		}
		w.patients = append(w.patients, p)
	}
	return s
}

// settle fills in what the driver's row decides.
func settle(c *Config, d *Driver) {
	if c.Address == 0 && d.Kind(c.Bus) == BusI2C && len(d.Addresses) > 0 {
		c.Address = d.Addresses[0]
	}
	if c.Timeout == 0 {
		c.Timeout = d.Timeout
	}
}

func timeoutError(d time.Duration) error { return fmt.Errorf("no answer within %v", d) }

// Run reads until ctx ends. It does not wait for calls that the kernel does not end.
func (s *Supervisor) Run(ctx context.Context) error {
	var work sync.WaitGroup
	for _, w := range s.workers {
		work.Go(func() { w.run(ctx) })
	}
	work.Wait()
	return nil
}

// sleep waits until t and says whether ctx is still on.
func sleep(ctx context.Context, t time.Time) bool {
	d := time.Until(t)
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
