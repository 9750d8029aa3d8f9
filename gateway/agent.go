// Package gateway composes one device from its parts: it reads sensors, publishes their readings through
// the embedded broker, and bridges the configured topics to upstream brokers.
//
// It promises that a reading is published only after it was measured, that it carries a number
// without gaps from one run to the next, and that everything it starts has ended when Run returns.
// It does not decide what a reading means, and it keeps nothing durable beside the broker's journal.
package gateway

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"

	"holdfast/broker"
	"holdfast/broker/bridge"
	"holdfast/broker/journal"
	"holdfast/gateway/config"
	"holdfast/gateway/part"
	"holdfast/gateway/reconfigure"
	"holdfast/gateway/status"
	"holdfast/gateway/tap"
	"holdfast/gateway/web"
	"holdfast/sensors/simulated"
)

// Options are what the configuration file does not say.
type Options struct {
	Log     *slog.Logger // nil discards
	Version string       // of the program, for $SYS/broker/version
	// Pi stands in for the hardware of every sensor whose bus is simulated. nil makes one where the
	// configuration needs it.
	Pi *simulated.Pi
	// Simulate makes every bus simulated, whatever its name, so that the configuration of a device runs
	// anywhere: in a temporary data directory, and without bridges, so that nothing invented reaches an
	// upstream.
	Simulate bool
	// Taps get every event from the first one on, until Run returns.
	Taps []tap.Options
	// Source is what the configuration was loaded from; nil if it is in no file, so that it stays as it is.
	Source *reconfigure.Source

	seams seams
}

// Agent is one gateway: the list of its parts.
type Agent struct {
	parts  []part.Part // in the order in which they are started
	made   *made
	close  closers
	failed chan error // of a part that cannot go on
}

// closers are what is released at the end, in the order of making.
type closers []func() error

func (c *closers) add(f func() error) { *c = append(*c, f) }

func (c *closers) closeAll() (err error) {
	for _, f := range slices.Backward(*c) {
		err = errors.Join(err, f())
	}
	*c = nil
	return err
}

// New brings the outputs to their safe values, opens the journal and builds every part, in the order
// in which data flows backwards: what a part needs exists before it. Nothing else moves until Run.
func New(cfg *config.Config, opts Options) (_ *Agent, err error) {
	a := &Agent{failed: make(chan error, 1)}
	if a.made, err = compose(cfg, opts, &a.close); err != nil {
		return nil, errors.Join(err, a.close.closeAll())
	}
	a.parts = a.made.parts()
	a.made.exchanger.Parts = a.parts
	return a, nil
}

// Run works until ctx ends. It tries again to open a listener that cannot be opened. It stops the sources of data
// before the bridges, so that no message is left behind in memory. An Agent runs once.
func (a *Agent) Run(ctx context.Context) error {
	a.made.announce(bridge.Online) // on disk, with all that was noted before, when the first part starts
	stops := make([]func(), len(a.parts))
	for i, p := range a.parts {
		stops[i] = a.start(p)
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-a.failed:
	}
	a.made.views.Stopping()
	a.made.exchanger.End()
	for _, stop := range slices.Backward(stops) {
		stop()
	}
	return errors.Join(err, a.close.closeAll())
}

// start runs one part and returns what stops it and waits for its end. A part that ends by itself with an error
// ends Run.
func (a *Agent) start(p part.Part) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var ended sync.WaitGroup
	ended.Go(func() {
		if err := p.Run(ctx); err != nil && ctx.Err() == nil {
			select {
			case a.failed <- err:
			default: // it is ending already
			}
		}
	})
	return func() {
		cancel()
		ended.Wait()
	}
}

// Reload applies another configuration while the gateway runs: see reconfigure.Exchanger.
func (a *Agent) Reload(cfg *config.Config) (changes []string, err error) {
	return a.made.exchanger.Exchange(cfg)
}

// Changes returns what loads the configuration's files again.
func (a *Agent) Changes() *reconfigure.Changes { return a.made.changes }

// Web is the server of the dashboard, nil if there is none. Pages are added to it before Run.
func (a *Agent) Web() *web.Server { return a.made.web }

// ControlPath is where the control socket is.
func (a *Agent) ControlPath() string { return a.made.control.Path() }

// StopSensors ends measuring; everything else goes on. It may be called while Run runs.
func (a *Agent) StopSensors() { a.made.sensors.stop() }

// Status returns a picture of the whole gateway. It may be called at any time.
func (a *Agent) Status() status.Status { return a.made.views.Status() }

// Losses returns the losses of the journal.
func (a *Agent) Losses() []journal.Loss { return a.made.storage.Losses() }

// Subscribe calls f for each message that the local broker takes and filter matches, until cancel.
// f must not block.
func (a *Agent) Subscribe(filter string, f func(*broker.Message)) (cancel func(), err error) {
	return a.made.server.Subscribe(filter, f)
}
