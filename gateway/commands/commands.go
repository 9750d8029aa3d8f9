// Package commands carries out commands that come over MQTT, and publishes the states of the outputs.
//
// It promises that outputs are at their safe values when New returns; that a command of QoS 1 or 2 is on disk
// before it is acknowledged and is answered, also after a crash; that a command with an id is carried out at most
// once; and that an output to which many commands are sent does not delay the others. It does not decide who may
// send a command: the server does.
package commands

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"

	"holdfast/broker/journal"
	"holdfast/broker/server"
	"holdfast/gateway/config"
	"holdfast/gateway/part"
	"holdfast/gateway/tap"
	"holdfast/sensors"
	"holdfast/sensors/bus"
	"holdfast/sensors/outputs"
)

// Options are what Commands work with, beside a Broker. The functions must not block.
type Options struct {
	Device    string
	Outputs   []outputs.Config
	Buses     *bus.Set
	Connected func(bridge string) bool // reports whether a bridge is connected to its upstream
	State     func(outputs.State)      // called with each state, before it is published, from several goroutines
	Hub       *tap.Hub                 // has the readings of this device; nil for none
	Gone      func(names ...string)    // outputs that have another configuration, or none, before the next state
	// ClockSynced reports whether the wall clock is right. nil asks the kernel.
	ClockSynced func() bool
	Log         *slog.Logger
}

// Broker delivers commands and takes states.
type Broker struct {
	Journal *journal.Journal
	Server  *server.Server
	Status  func(sensors.Status)   // publishes how an output's hardware is doing
	Clear   func(topics ...string) // publishes empty retained messages
}

// Commands is the part that owns the outputs.
type Commands struct {
	opts   Options
	broker Broker

	mu         sync.Mutex
	configured []outputs.Config
	router     *router         // nil if no outputs are configured: then the journal has no reader of commands either
	running    context.Context // of Run; nil before
	stop       func()          // ends the router and waits for it; nil while it does not run
}

var _ part.Part = (*Commands)(nil)

// New brings every output to its safe value before anything else is built: after a crash they may be anywhere.
func New(opts Options) *Commands {
	c := &Commands{opts: opts, configured: opts.Outputs}
	if len(opts.Outputs) > 0 {
		c.router = newRouter(opts.Outputs, &c.opts)
	}
	return c
}

// Connect subscribes to commands, which stay queued until Run. It is called once, before Run.
func (c *Commands) Connect(b Broker) error {
	c.broker = b
	if c.router == nil {
		return b.Journal.RemoveReader(readerName) // of a configuration that had outputs
	}
	return c.router.connect(&c.broker)
}

// Close releases the hardware if Run was never called. It moves nothing.
func (c *Commands) Close() error {
	if c.router == nil {
		return nil
	}
	c.router.unsubscribe(true)
	return c.router.control.Close()
}

// Name returns "outputs".
func (c *Commands) Name() string { return "outputs" }

// Run carries out commands until ctx ends, and leaves every output at its safe value and every state published.
func (c *Commands) Run(ctx context.Context) error {
	c.mu.Lock()
	c.running = ctx
	c.start()
	c.mu.Unlock()
	<-ctx.Done()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.end()
	return nil
}

// start runs the router, if Run runs. Called with mu held.
func (c *Commands) start() {
	if c.router == nil || c.running == nil || c.running.Err() != nil {
		return
	}
	ctx, cancel := context.WithCancel(c.running)
	var work sync.WaitGroup
	work.Go(func() { c.router.run(ctx) })
	c.stop = func() {
		cancel()
		work.Wait()
	}
}

// end stops the router. Called with mu held.
func (c *Commands) end() {
	if c.stop != nil {
		c.stop()
	}
	c.stop = nil
}

// Show sets the lines of text on an output that is a display. It does not wait for it.
func (c *Commands) Show(name string, lines []string) {
	c.mu.Lock()
	r := c.router
	c.mu.Unlock()
	if r != nil {
		r.control.Show(name, lines)
	}
}

// Health reports the outputs that refuse commands because too many are queued.
func (c *Commands) Health() error {
	c.mu.Lock()
	r := c.router
	c.mu.Unlock()
	if r == nil {
		return nil
	}
	if full := r.full(); len(full) > 0 {
		return fmt.Errorf("%v: too many commands at once", full)
	}
	return nil
}

// Prepare builds the router if there were no outputs before. Outputs that stay the same do not move; those that are
// gone or changed are at their safe values before others start.
func (c *Commands) Prepare(next *config.Config) (part.Change, error) {
	d := config.Compare(c.configured, next.Outputs, func(o outputs.Config) string { return o.Name }, nil)
	var made *router
	if c.router == nil && len(next.Outputs) > 0 {
		made = newRouter(nil, &c.opts)
		if err := made.connect(&c.broker); err != nil {
			c.forget(made)
			return part.Change{}, fmt.Errorf("outputs: %w", err)
		}
	}
	return part.Change{
		Undo: func() {
			if made != nil {
				c.forget(made)
			}
		},
		Apply:    func() { c.apply(made, d, next.Outputs) },
		Describe: func() []string { return d.Describe("output") },
	}, nil
}

func (c *Commands) apply(made *router, d config.Delta[outputs.Config], next []outputs.Config) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.configured = slices.Clone(next)
	if made != nil {
		c.router = made
		c.start()
	}
	r := c.router
	if r == nil {
		return
	}
	c.opts.Gone(d.Changed...)
	r.change(d, func(name string) {
		c.opts.Gone(name)
		c.broker.Clear("outputs/"+c.opts.Device+"/"+name, "status/"+c.opts.Device+"/"+name)
	})
	if len(next) > 0 {
		return
	}
	c.end()
	c.forget(r)
	c.router = nil
}

// forget removes the route and the reader of a router that does not run.
func (c *Commands) forget(r *router) {
	if r.reader == nil {
		return
	}
	r.unsubscribe(true)
	c.broker.Server.Unroute(r.reader)
	if err := c.broker.Journal.RemoveReader(readerName); err != nil {
		c.opts.Log.Error("the reader of commands stays in the journal", "error", err)
	}
}
