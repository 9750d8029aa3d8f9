// Package outputs moves what commands move: relays, valves, dimmers, servos.
//
// It promises: an output is at its declared safe value from the first moment at which this process
// has it, and after every stop, error, ended lease and lost link; it makes no other move that no
// command asked for; two that are interlocked are never on together, nor while one of them is not
// known to be off; every command is answered, with a reason if it was not carried out; an output that
// hangs or is unplugged delays no other one, and comes back by itself, at its safe value.
//
// It does not know where commands come from or how old they are, and it cannot move anything after
// SIGKILL or a power cut: until the next start, what a pin does then is the hardware's business (a
// pull resistor at the relay's input is the remedy).
package outputs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"holdfast/sensors"
	"holdfast/sensors/bus"
)

// Cause is what brought an output to its value.
type Cause string

// The causes.
const (
	ByStart   Cause = "start"   // the safe value, as the output was opened
	ByCommand Cause = "command" // a command's value
	ByLease   Cause = "lease"   // the safe value: the command was not renewed
	ByMaxOn   Cause = "max_on"  // the safe value: on for long enough
	ByLink    Cause = "link"    // the safe value: the link was lost
	ByFault   Cause = "fault"   // the safe value, or none that is known, after an error
	ByStop    Cause = "stop"    // the safe value, as the process ends
)

// State is where an output is. A Controller reports one when the value, its cause or the pending command changes.
type State struct {
	Output string
	Value  float64
	Known  bool      // whether the hardware was set to Value; if not, it may be anywhere
	Since  time.Time // when Value was set
	By     Cause
	Why    string // a command's sender, as it calls itself, or what happened
	ID     string // of the command, if By is ByCommand
	// Waiting is set while a command waits for min_on or min_off.
	Waiting    bool
	WaitingFor float64
	WaitingAt  time.Time
}

// Outcome is what became of a command.
type Outcome string

// The outcomes. Waiting is followed by one of the others.
const (
	Done    Outcome = "done"
	Waiting Outcome = "waiting"
	Refused Outcome = "refused"
)

// Result answers a command.
type Result struct {
	Outcome Outcome
	Reason  string    // if refused or waiting
	Renewed bool      // done without a move: the output was there already
	Until   time.Time // end of the lease, if there is one; if waiting, when it will be carried out
}

// Command asks for a value.
type Command struct {
	Value float64
	ID    string        // as the sender calls it; may be empty
	Why   string        // who sends it, or why; may be empty
	Lease time.Duration // shorter than the configuration's; 0 means the configuration's
}

// Options are what a Controller works with. State and Status are called from several goroutines, in
// order for each output, and only while Run runs.
type Options struct {
	Buses   *bus.Set
	Drivers []Driver // nil means Drivers()
	State   func(State)
	Status  func(sensors.Status)
	Log     *slog.Logger // nil discards
}

// Controller has all outputs. Methods are safe for concurrent use.
type Controller struct {
	opts Options

	changing sync.Mutex      // held while outputs are stopped and started
	running  context.Context // of Run; nil before it
	work     sync.WaitGroup

	mu      sync.Mutex
	outputs map[string]*output
	maybeOn map[string]bool     // outputs that are on, or not known to be off
	locks   map[string][]string // by output: those that must be off while it is on
}

// New prepares outputs, which have been checked against the drivers; one of an unknown driver is a
// mistake of the caller and panics.
func New(configs []Config, opts Options) *Controller {
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	if opts.Drivers == nil {
		opts.Drivers = Drivers()
	}
	c := &Controller{opts: opts, outputs: map[string]*output{}, maybeOn: map[string]bool{}}
	c.replace(nil, configs)
	return c
}

// replace forgets outputs and prepares others, which it returns.
func (c *Controller) replace(stop []string, begin []Config) []*output {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, name := range stop {
		delete(c.outputs, name)
		delete(c.maybeOn, name)
	}
	var added []*output
	for _, config := range begin {
		i := slices.IndexFunc(c.opts.Drivers, func(d Driver) bool { return d.Name == config.Driver })
		if i < 0 {
			panic("outputs: no driver " + config.Driver)
		}
		d := &c.opts.Drivers[i]
		if config.Address == 0 && len(d.Addresses) > 0 {
			config.Address = d.Addresses[0]
		}
		if config.Timeout == 0 {
			config.Timeout = d.Timeout
		}
		o := newOutput(config, d, c)
		c.outputs[config.Name], c.maybeOn[config.Name] = o, true
		added = append(added, o)
	}
	c.locks = map[string][]string{}
	for name, o := range c.outputs {
		for _, other := range o.Interlock {
			c.locks[name] = append(c.locks[name], other)
			c.locks[other] = append(c.locks[other], name)
		}
	}
	return added
}

// Secure brings every output to its safe value, all at the same time, and returns when all are there
// or have failed. It is for the first moment of a process; Run goes on from there, and tries again
// what has failed.
func (c *Controller) Secure() { secure(c.all()) }

func secure(all []*output) {
	var work sync.WaitGroup
	for _, o := range all {
		work.Go(func() { o.open(ByStart, "") })
	}
	work.Wait()
}

// Run takes commands until ctx ends, and leaves every output at its safe value. It runs once.
func (c *Controller) Run(ctx context.Context) error {
	c.changing.Lock()
	c.running = ctx
	c.start(c.all())
	c.changing.Unlock()
	<-ctx.Done()
	c.changing.Lock() // no more outputs
	defer c.changing.Unlock()
	c.work.Wait()
	return nil
}

// start starts outputs. Called with changing held.
func (c *Controller) start(all []*output) {
	for _, o := range all {
		ctx, cancel := context.WithCancel(c.running)
		ended := make(chan struct{})
		o.end = func() { cancel(); <-ended }
		c.work.Go(func() {
			defer close(ended)
			defer cancel()
			o.run(ctx)
		})
	}
}

// Change stops outputs by their names, each at its safe value, and then starts others as Secure and Run
// do, before Run or while it runs; later it does nothing. All others stay where they are, and take
// commands.
func (c *Controller) Change(stop []string, begin []Config) {
	c.changing.Lock()
	defer c.changing.Unlock()
	if c.running != nil && c.running.Err() != nil {
		return
	}
	var work sync.WaitGroup
	for _, name := range stop {
		if o := c.find(name); o != nil && o.end != nil {
			o.changing.Store(true)
			work.Go(o.end)
		}
	}
	work.Wait()
	added := c.replace(stop, begin)
	secure(added)
	if c.running != nil {
		c.start(added)
	}
}

func (c *Controller) all() (all []*output) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, o := range c.outputs {
		all = append(all, o)
	}
	return all
}

// find returns an output, or nil.
func (c *Controller) find(name string) *output {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.outputs[name]
}

// Close lets go of the hardware if Run was never called. It moves nothing.
func (c *Controller) Close() error {
	for _, o := range c.all() {
		if o.device != nil {
			o.close(o.device)
			o.device = nil
		}
	}
	return nil
}

// Parse reads a value for an output, which may be missing.
func (c *Controller) Parse(name, text string) (float64, error) {
	o := c.find(name)
	if o == nil {
		return 0, errNoOutput
	}
	v, err := o.driver.Parse(o.Options, text)
	if err != nil {
		return 0, fmt.Errorf("value: %w", err)
	}
	return v, nil
}

var errNoOutput = errors.New("there is no output of this name")

// Command hands a command to an output. answer is called once, or twice if the command has to wait;
// from another goroutine, and it must not block.
func (c *Controller) Command(name string, cmd Command, answer func(Result)) {
	o := c.find(name)
	if o == nil {
		answer(Result{Outcome: Refused, Reason: errNoOutput.Error()})
		return
	}
	o.request(request{cmd, answer})
}

// Show sets the lines of text of an output that is a Screen, which it draws when it can: of several, the newest.
func (c *Controller) Show(name string, lines []string) {
	o := c.find(name)
	if o == nil || o.driver.Screen == nil {
		return
	}
	o.screen.lines.Store(&lines)
	select {
	case o.screen.redraw <- struct{}{}:
	default: // it is about to draw them
	}
}

// LinkLost brings an output to its safe value.
func (c *Controller) LinkLost(name string) {
	o := c.find(name)
	if o == nil {
		return
	}
	select {
	case o.linkLost <- struct{}{}:
	default: // it knows
	}
}

// claim notes that an output is about to be on. It is an error if another one may be.
func (c *Controller) claim(name string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, other := range c.locks[name] {
		if c.maybeOn[other] {
			return errors.New("interlock: " + other + " is on, or not known to be off")
		}
	}
	c.maybeOn[name] = true
	return nil
}

// release notes that an output is off.
func (c *Controller) release(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.maybeOn[name] = false
}
