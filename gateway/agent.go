// Package gateway makes one device of its parts: it reads sensors, publishes their readings through
// the embedded broker, and bridges what the configuration names to upstream brokers.
//
// It promises that a reading is published only after it was measured, that it carries a number
// without gaps from one run to the next, and that everything it starts has ended when Run returns.
// It does not decide what a reading means, and it keeps nothing durable beside the broker's journal.
package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"holdfast/broker"
	"holdfast/broker/auth"
	"holdfast/broker/bridge"
	"holdfast/broker/journal"
	"holdfast/broker/listen"
	"holdfast/broker/server"
	"holdfast/gateway/config"
	"holdfast/gateway/control"
	"holdfast/gateway/status"
	"holdfast/gateway/web"
	"holdfast/sensors"
	"holdfast/sensors/bus"
	"holdfast/sensors/simulated"
)

// Options are what the configuration file does not say.
type Options struct {
	Log     *slog.Logger // nil discards
	Version string       // of the program, for $SYS/broker/version
	// Pi stands in for the hardware of every sensor whose bus is simulated. nil makes one where the
	// configuration needs it.
	Pi *simulated.Pi
	// Simulate has every bus simulated, whatever its name, so that the configuration of a device runs
	// anywhere: in a temporary data directory, and without bridges, so that nothing invented reaches an
	// upstream.
	Simulate bool
	// Observe, if set, is told of every reading and of what became of it. It must not block.
	Observe Observer
	// Shown returns the configuration as text without secrets, and what is wrong with it, for the dashboard.
	Shown func() (string, error)

	openDisk func(dir string) (journal.FS, error) // nil means journal.NewDirFS
}

// Observer follows readings by their sequence numbers.
type Observer interface {
	Taken(r sensors.Reading, seq uint64) // measured, and about to be published
	Settled(seq uint64, err error)       // durable if somebody is owed it, or refused
}

// Agent is one gateway.
type Agent struct {
	cfg      *config.Config
	log      *slog.Logger
	version  string
	journal  *journal.Journal
	broken   error // why the journal keeps nothing; nil if it does
	server   *server.Server
	bridges  []*bridge.Bridge
	dead     *deadLetters
	losses   *announcer
	outputs  *outputRoom // nil if there are none
	readings *publisher
	dash     *dashboard  // what web needs; nil if there is none
	web      *web.Server // nil if there is none
	control  *control.Server
	sensors  *sensors.Supervisor
	buses    *bus.Set
	latest   *latest
	close    []func() error // in the order of making

	started time.Time
	phase   atomic.Value // status.State

	auth         *auth.Auth
	certificates []*listen.TLS

	measuring   context.Context
	stopSensors context.CancelFunc
}

// New brings the outputs to their safe values, opens the journal and builds every part, in the order
// in which data flows backwards: what a part needs exists before it. Nothing else moves until Run.
func New(cfg *config.Config, opts Options) (_ *Agent, err error) {
	a := &Agent{cfg: cfg, log: opts.Log, version: opts.Version, latest: newLatest(), started: time.Now()}
	a.phase.Store(status.Starting)
	a.measuring, a.stopSensors = context.WithCancel(context.Background())
	if a.log == nil {
		a.log = slog.New(slog.DiscardHandler)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, a.closeAll())
		}
	}()
	if opts.Simulate {
		if err := a.simulate(); err != nil {
			return nil, err
		}
		cfg = a.cfg
	}
	a.newDashboard()
	set, err := buses(cfg, opts.Pi, opts.Simulate)
	if err != nil {
		return nil, err
	}
	a.buses = set
	a.close = append(a.close, set.Close)
	if len(cfg.Outputs) > 0 {
		a.outputs = newOutputs(cfg, set, a.latest, a.log)
		a.close = append(a.close, a.outputs.control.Close)
	}
	if err := a.openJournal(opts.openDisk); err != nil {
		return nil, err
	}
	if err := a.newServer(); err != nil {
		return nil, err
	}
	if err := a.openDeadLetters(); err != nil {
		return nil, fmt.Errorf("dead letters: %w", err)
	}
	a.losses = &announcer{journal: a.journal, log: a.log, every: announceEvery}
	for _, b := range cfg.Bridges {
		if err := a.newBridge(b); err != nil {
			return nil, fmt.Errorf("bridge %s: %w", b.Name, err)
		}
	}
	if err := a.formerBridges(); err != nil {
		return nil, err
	}
	if a.readings, err = newPublisher(a.cfg, a.journal, a.server, opts.Observe, a.latest, a.log); err != nil {
		return nil, err
	}
	if err := a.connectOutputs(); err != nil {
		return nil, fmt.Errorf("outputs: %w", err)
	}
	a.newSensors(set)
	a.newControl()
	if cfg.Web.On() {
		if err := a.newWeb(opts.Shown); err != nil {
			return nil, fmt.Errorf("web: %w", err)
		}
	}
	return a, nil
}

func (a *Agent) newServer() (err error) {
	if a.auth, err = auth.New(access(a.cfg.Broker)); err != nil {
		return err
	}
	orNone := func(n int) int { // the server takes 0 for its default
		if n == 0 {
			return -1
		}
		return n
	}
	b, m := a.cfg.Broker, a.cfg.Broker.Limits
	opts := server.Options{
		Journal: a.journal, Auth: a.auth, Log: a.log,
		ServerKeepAlive: b.ServerKeepAlive, MaxAliases: orNone(b.TopicAliases), ResponseInfo: b.ResponseInformation,
		SysInterval: b.SysInterval, Version: strings.TrimSpace("holdfast " + a.version),
		MaxConnections: m.Connections, MaxSessions: m.Sessions, MaxSubscriptions: m.Subscriptions, MaxFilters: m.Filters,
		MaxPacket: int(m.Packet), MaxInflight: m.Inflight, MaxLevels: m.TopicLevels,
		MaxQueued: int(m.Queued), MaxQueuedTotal: m.QueuedTotal, MaxBacklog: m.Backlog,
		MaxRetained: m.Retained, MaxRetainedBytes: int(m.RetainedTotal),
		ConnectRate: orNone(m.ConnectRate), ConnectRatePerAddr: orNone(m.ConnectRatePerAddress),
		ConnectTimeout: m.ConnectTime, WriteTimeout: m.WriteTime,
	}
	if opts.Listeners, err = a.listeners(); err != nil {
		return err
	}
	a.server, err = server.New(opts)
	return err
}

func (a *Agent) connectOutputs() error {
	if a.outputs == nil {
		return a.journal.RemoveReader(outputsReader) // of a configuration that had some
	}
	for i, b := range a.cfg.Bridges {
		for _, o := range a.cfg.Outputs {
			if o.Link == b.Name {
				a.outputs.links[b.Name] = a.bridges[i]
			}
		}
	}
	return a.outputs.connect(a.journal, a.server, a.readings.status)
}

func (a *Agent) newSensors(set *bus.Set) {
	if len(a.cfg.Sensors) == 0 {
		return
	}
	a.sensors = sensors.NewSupervisor(a.cfg.Sensors, sensors.SupervisorOptions{
		Buses: set, Status: a.readings.status, Log: a.log,
		Reading: func(r sensors.Reading) {
			a.readings.reading(r)
			a.dash.reading(r)
		},
		Host: newHost(a.journal, a.server, a.log),
	})
}

func (a *Agent) closeAll() error {
	var err error
	for i := len(a.close) - 1; i >= 0; i-- {
		err = errors.Join(err, a.close[i]())
	}
	a.close = nil
	return err
}

// Run works until ctx ends, or until the listeners cannot be opened. It stops what makes data before
// what carries it away, so that nothing that was taken in is left behind in memory. An Agent runs
// once.
func (a *Agent) Run(ctx context.Context) error {
	stages := []func(context.Context) error{} // from the upstream to the sensors
	for _, b := range a.bridges {
		stages = append(stages, b.Run)
	}
	stages = append(stages, a.server.Run)
	if b := a.cfg.Broker; len(a.certificates) > 0 || b.PasswordFile != "" || b.ACLFile != "" {
		stages = append(stages, a.watchFiles)
	}
	if a.outputs != nil {
		stages = append(stages, a.outputs.run)
	}
	if a.sensors != nil {
		stages = append(stages, a.measure)
	}
	if a.web != nil {
		stages = append(stages, a.web.Run)
	}
	stages = append(stages, a.control.Run, a.announce, a.losses.run)
	failed := make(chan error, len(stages))
	stops := make([]func(), len(stages))
	for i, run := range stages {
		stops[i] = start(run, failed)
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	a.phase.Store(status.Stopping)
	for i := len(stops) - 1; i >= 0; i-- {
		stops[i]()
	}
	return errors.Join(err, a.closeAll())
}

// Web is the server of the dashboard, nil if there is none. Pages are added to it before Run.
func (a *Agent) Web() *web.Server { return a.web }

// StopSensors ends measuring; everything else goes on. It may be called while Run runs.
func (a *Agent) StopSensors() { a.stopSensors() }

// start runs one part and returns what stops it and waits for its end.
func start(run func(context.Context) error, failed chan<- error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var ended sync.WaitGroup
	ended.Go(func() {
		if err := run(ctx); err != nil && ctx.Err() == nil {
			failed <- err
		}
	})
	return func() {
		cancel()
		ended.Wait()
	}
}

// measure runs the sensors until ctx ends or StopSensors is called.
func (a *Agent) measure(ctx context.Context) error {
	defer context.AfterFunc(ctx, a.stopSensors)()
	return a.sensors.Run(a.measuring)
}

// Stats are figures of the parts.
type Stats struct {
	Journal journal.Stats
	Broken  string // why the journal could not be opened, so that nothing is kept; empty if it was
	Readers []journal.ReaderInfo
	Server  server.Stats
	Bridges []bridge.Stats
	Lost    []BridgeLosses // by bridge and reason
}

// Stats may be called while Run runs.
func (a *Agent) Stats() Stats {
	s := Stats{Journal: a.journal.Stats(), Readers: a.journal.Readers(), Server: a.server.Stats()}
	s.Lost = bridgeLosses(s.Readers)
	if a.broken != nil {
		s.Broken = a.broken.Error()
	}
	for _, b := range a.bridges {
		s.Bridges = append(s.Bridges, b.Stats())
	}
	return s
}

// Losses returns what the journal had to drop.
func (a *Agent) Losses() []journal.Loss { return a.journal.Losses() }

// Subscribe calls f for each message that the local broker takes and filter matches, until cancel.
// f must not block.
func (a *Agent) Subscribe(filter string, f func(*broker.Message)) (cancel func(), err error) {
	return a.server.Subscribe(filter, f)
}
