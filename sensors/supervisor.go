// Package sensors reads what is connected to a Pi.
//
// It promises: every configured sensor is read at its interval, on a fixed grid, whatever the others
// do; one that hangs, fails or is unplugged delays only the sensors on its own bus, and is back
// without a restart when the hardware is; a reading is made only of bytes that the hardware has just
// answered. It keeps at most one goroutine per bus in a call that does not return.
//
// It calibrates, checks and filters values as each sensor is configured (Processing). It does not store
// readings, and it knows no chip: the drivers are those of the table that it is given (package chips).
package sensors

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"holdfast/sensors/bus"
)

// SupervisorOptions are what a Supervisor works with. Reading and Status are called from several
// goroutines, in order for each sensor.
type SupervisorOptions struct {
	Buses   *bus.Set
	Drivers []Driver // the table; it is not changed
	Reading func(Reading)
	Status  func(Status) // called when the state or its reason changes
	Host    Host         // nil means NoHost
	// Progress returns, for the worker of a bus, what it calls with true when it has something to do, and
	// with false before it waits and when it ends. May be nil.
	Progress func(bus string) func(busy bool)
	Log      *slog.Logger // nil discards

	afterFunc func(time.Duration, func()) *time.Timer // for tests: the ticks of deadlines; nil means time.AfterFunc
}

// Supervisor reads sensors, each bus in turn by a worker of its own. Its methods are safe for
// concurrent use.
type Supervisor struct {
	opts   SupervisorOptions
	phase  time.Time // of the grid on which first readings are planned
	counts sync.Map  // of *counts, by sensor

	mu      sync.Mutex
	workers map[string]*worker // by lane
	lanes   map[string]string  // by sensor
	running context.Context    // of Run; nil before it
	work    sync.WaitGroup
}

// NewSupervisor prepares configs, which have been checked against the drivers; a sensor of an unknown
// driver is a mistake of the caller and panics. Nothing is opened until Run.
func NewSupervisor(configs []Config, opts SupervisorOptions) *Supervisor {
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	if opts.Host == nil {
		opts.Host = &NoHost{}
	}
	if opts.afterFunc == nil {
		opts.afterFunc = time.AfterFunc
	}
	if opts.Progress == nil {
		opts.Progress = func(string) func(bool) { return func(bool) {} }
	}
	phase := time.Now().Add(-rand.N(maxJitter))
	s := &Supervisor{opts: opts, phase: phase, workers: map[string]*worker{}, lanes: map[string]string{}}
	s.Change(nil, configs)
	return s
}

// Change stops sensors by their names, and then starts others, before Run or while it runs. The devices
// of the former are closed when it returns, but for one in a call that does not end: that is closed
// when it has. A sensor that is neither stopped nor started notices nothing, but that one on its own bus
// may wait for a call that is being ended. The configurations are those of NewSupervisor.
func (s *Supervisor) Change(stop []string, begin []Config) {
	s.mu.Lock()
	defer s.mu.Unlock()
	removed := map[string][]string{} // by lane
	for _, name := range stop {
		if lane, ok := s.lanes[name]; ok {
			removed[lane] = append(removed[lane], name)
			delete(s.lanes, name)
			s.counts.Delete(name)
		}
	}
	for lane, names := range removed {
		w := s.workers[lane]
		idle := false
		w.do(func() { idle = w.remove(names) })
		if idle {
			w.end()
			delete(s.workers, lane)
		}
	}
	for _, c := range begin {
		p := s.supervise(c)
		lane, alone := p.lane()
		w := s.workers[lane]
		if w == nil {
			w = newWorker(alone)
			w.progress = s.opts.Progress(lane)
			s.workers[lane] = w
			s.start(w)
		}
		s.lanes[c.Name] = lane
		w.do(func() { w.add(p) })
	}
}

func (s *Supervisor) supervise(c Config) *supervised {
	p := &supervised{config: c, pipes: map[string]*pipe{}, counts: &counts{}, schedule: schedule{phase: s.phase}, opts: &s.opts, log: s.opts.Log.With("sensor", c.Name)}
	s.counts.Store(c.Name, p.counts)
	for i := range s.opts.Drivers {
		if s.opts.Drivers[i].Name == c.Driver {
			p.driver = &s.opts.Drivers[i]
		}
	}
	if p.driver == nil {
		panic("sensors: no driver " + c.Driver)
	}
	p.config.Host, p.config.Wake = s.opts.Host, p.wake
	settle(&p.config, p.driver)
	p.chip = chipOf(p.config)
	return p
}

// start starts a worker, if Run runs. Called with mu held.
func (s *Supervisor) start(w *worker) {
	if s.running == nil || s.running.Err() != nil {
		return
	}
	ctx, cancel := context.WithCancel(s.running)
	w.begins(cancel)
	s.work.Go(func() { w.run(ctx) })
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

// Run reads until ctx ends. It does not wait for calls that the kernel does not end. It runs once.
func (s *Supervisor) Run(ctx context.Context) error {
	s.mu.Lock()
	s.running = ctx
	for _, w := range s.workers {
		s.start(w)
	}
	s.mu.Unlock()
	<-ctx.Done()
	s.mu.Lock() // no more workers
	defer s.mu.Unlock()
	s.work.Wait()
	return nil
}

// sleep waits until t, and reports whether ctx is still on.
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
