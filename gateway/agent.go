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
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"holdfast/broker"
	"holdfast/broker/auth"
	"holdfast/broker/bridge"
	"holdfast/broker/journal"
	"holdfast/broker/listen"
	"holdfast/broker/server"
	"holdfast/gateway/config"
	"holdfast/gateway/control"
	"holdfast/gateway/logs"
	"holdfast/gateway/reconfigure"
	"holdfast/gateway/status"
	"holdfast/gateway/web"
	"holdfast/sensors"
	"holdfast/sensors/bus"
	"holdfast/sensors/chips"
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
	// Source is what the configuration was loaded from; nil if it is in no file, so that it stays as it is.
	Source *reconfigure.Source

	openDisk func(dir string) (journal.FS, error) // nil means journal.NewDirFS
}

// Observer follows readings by their sequence numbers.
type Observer interface {
	Taken(r sensors.Reading, seq uint64) // measured, and about to be published
	Settled(seq uint64, err error)       // durable if somebody is owed it, or refused
}

// Agent is one gateway.
type Agent struct {
	log       *slog.Logger
	version   string
	simulated bool          // every bus
	pi        *simulated.Pi // whatever is simulated
	buses     *bus.Set
	journal   *journal.Journal
	foreign   string // the other device that wrote the journal before; "" if there is none
	broken    error  // why the journal keeps nothing; nil if it does
	auth      *auth.Auth
	server    *server.Server
	dead      *deadLetters
	losses    *announcer
	readings  *publisher
	sensors   *sensors.Supervisor
	dash      *dashboard             // what web needs; nil if there is none
	web       *web.Server            // nil if there is none
	webTLS    *listen.TLS            // of it; nil for none
	staleCRLs map[*listen.TLS]string // what noteCRLs has logged; guarded by changing
	control   *control.Server
	changes   *reconfigure.Changes
	latest    *latest
	progress  *progress
	close     []func() error // in the order of making

	started time.Time
	phase   atomic.Value // status.State
	client  string       // identifier of bridges without one of their own; empty until there is such a bridge

	measuring   context.Context
	stopSensors context.CancelFunc

	// What Reload exchanges. Changed with both held; whoever only looks holds mu.
	changing  sync.Mutex // while anything is started, exchanged or stopped
	mu        sync.Mutex
	cfg       *config.Config
	entrances []entrance
	links     []*link     // in the order of the configuration
	outputs   *outputRoom // nil if there are none

	stops  [stages]func() // what runs, beside the links; nil for what does not
	failed chan error     // a part that cannot go on
}

// The stages of Run, from the upstream to the sensors, after the links.
const (
	stageServer = iota
	stageFiles
	stageOutputs
	stageSensors
	stageWeb
	stageControl
	stageNotify
	stageLosses
	stages
)

// config is what the gateway goes by.
func (a *Agent) config() *config.Config {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.cfg
}

// New brings the outputs to their safe values, opens the journal and builds every part, in the order
// in which data flows backwards: what a part needs exists before it. Nothing else moves until Run.
func New(cfg *config.Config, opts Options) (_ *Agent, err error) {
	a := &Agent{
		cfg: cfg, log: opts.Log, version: opts.Version, simulated: opts.Simulate, pi: opts.Pi,
		latest: newLatest(), progress: newProgress(), started: time.Now(), failed: make(chan error, 1),
	}
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
	limit := logs.NewLimit(a.log.Handler()) // over the dashboard's log, which holds little
	a.log = slog.New(logs.Cut(limit))
	a.close = append(a.close, limit.Close)
	a.warn(cfg)
	if err := a.newBuses(); err != nil {
		return nil, err
	}
	if len(cfg.Outputs) > 0 {
		a.outputs = a.newRoom(cfg)
		a.close = append(a.close, a.outputs.control.Close)
	}
	if err := a.openJournal(opts.openDisk); err != nil {
		return nil, err
	}
	cfg = a.identify(cfg)
	a.cfg = cfg
	if err := a.newServer(); err != nil {
		return nil, err
	}
	if err := a.openDeadLetters(); err != nil {
		return nil, fmt.Errorf("dead letters: %w", err)
	}
	a.losses = &announcer{journal: a.journal, log: a.log, every: announceEvery}
	if err := a.splitLanes(); err != nil {
		return nil, fmt.Errorf("bridges: %w", err)
	}
	a.noteRules()
	for _, b := range cfg.Bridges {
		l, err := a.newLink(b)
		if err == nil {
			err = a.route(l)
		}
		if err != nil {
			return nil, fmt.Errorf("bridge %s: %w", b.Name, err)
		}
		a.links = append(a.links, l)
	}
	if err := a.formerBridges(); err != nil {
		return nil, err
	}
	if a.readings, err = newPublisher(a.cfg, a.journal, a.broken == nil, a.server, opts.Observe, a.latest, a.log); err != nil {
		return nil, err
	}
	if err := a.connectOutputs(); err != nil {
		return nil, fmt.Errorf("outputs: %w", err)
	}
	a.sensors = sensors.NewSupervisor(cfg.Sensors, sensors.SupervisorOptions{
		Buses: a.buses, Drivers: chips.Drivers(), Status: a.readings.status, Log: a.log,
		Reading: func(r sensors.Reading) {
			a.readings.reading(r)
			a.dash.reading(r)
		},
		Host:     newHost(a.journal, a.server, a.log),
		Progress: func(bus string) func(bool) { return a.progress.loop("sensors on " + bus) },
	})
	changes := reconfigure.Options{
		Source: opts.Source, Exchange: a.Reload, Check: Check, Config: a.config, Status: a.Status, Dir: cfg.DataDir,
		Look: a.lookAtFiles, Log: a.log,
	}
	if a.simulated {
		changes.Dir = ""
	}
	a.changes = reconfigure.New(changes)
	a.newControl()
	if cfg.Web.On() {
		if err := a.newWeb(opts.Source); err != nil {
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
		ConnectTimeout: m.ConnectTime, WriteTimeout: m.WriteTime, PacketTimeout: m.PacketTime,
		MaxConnecting: m.Connecting, MaxConnectPacket: int(m.ConnectPacket), MaxUnfinished: m.Unfinished,
		MaxMatching: m.Matching, MaxWills: m.Wills, UserShare: m.UserShare, MaxExpiry: m.SessionExpiry,
	}
	if opts.MaxExpiry == 0 {
		opts.MaxExpiry = -1
	}
	a.entrances = entrances(a.cfg.Broker.Listeners, nil)
	for _, t := range a.certificates() {
		a.logCertificate(t)
	}
	a.noteCRLs()
	opts.Listeners = opened(a.entrances)
	a.server, err = server.New(opts)
	return err
}

func (a *Agent) newRoom(cfg *config.Config) *outputRoom {
	return newOutputs(cfg, a.buses, a.linked, a.latest, a.log)
}

func (a *Agent) connectOutputs() error {
	if a.outputs == nil {
		return a.journal.RemoveReader(outputsReader) // of a configuration that had some
	}
	return a.outputs.connect(a.journal, a.server, a.readings.status)
}

func (a *Agent) closeAll() error {
	var err error
	for i := len(a.close) - 1; i >= 0; i-- {
		err = errors.Join(err, a.close[i]())
	}
	a.close = nil
	return err
}

// Run works until ctx ends. A listener that cannot be opened is tried again. It stops what makes data before
// what carries it away, so that nothing that was taken in is left behind in memory. An Agent runs
// once.
func (a *Agent) Run(ctx context.Context) error {
	a.changing.Lock()
	a.say(bridge.Online)
	for _, l := range a.links {
		l.stop = a.startLink(l)
	}
	a.stops[stageServer] = a.start(a.server.Run)
	a.stops[stageFiles] = a.start(a.changes.Run)
	if a.outputs != nil {
		a.stops[stageOutputs] = a.start(a.outputs.run)
	}
	a.stops[stageSensors] = a.start(a.measure)
	if a.web != nil {
		a.stops[stageWeb] = a.start(a.web.Run)
	}
	a.stops[stageControl] = a.start(a.control.Run)
	a.stops[stageNotify] = a.start(a.notify)
	a.stops[stageLosses] = a.start(a.losses.run)
	a.changing.Unlock()
	var err error
	select {
	case <-ctx.Done():
	case err = <-a.failed:
	}
	a.phase.Store(status.Stopping)
	a.tell(daemon.SdNotifyStopping)
	a.stops[stageControl]() // it may be in a Reload,
	a.stops[stageFiles]()   // and so may this
	a.changing.Lock()
	defer a.changing.Unlock()
	for stage, stop := range slices.Backward(a.stops[:]) {
		if stage == stageServer {
			a.say(bridge.Offline)
		}
		if stop != nil {
			stop()
		}
	}
	stopAll(a.links)
	return errors.Join(err, a.closeAll())
}

// Web is the server of the dashboard, nil if there is none. Pages are added to it before Run.
func (a *Agent) Web() *web.Server { return a.web }

// StopSensors ends measuring; everything else goes on. It may be called while Run runs.
func (a *Agent) StopSensors() { a.stopSensors() }

// start runs one part and returns what stops it and waits for its end. A part that ends by itself ends
// Run.
func (a *Agent) start(run func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var ended sync.WaitGroup
	ended.Go(func() {
		if err := run(ctx); err != nil && ctx.Err() == nil {
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

// stopAll stops bridges, all at the same time: each may wait for acknowledgements.
func stopAll(links []*link) {
	var work sync.WaitGroup
	for _, l := range links {
		if l.stop != nil {
			work.Go(l.stop)
		}
	}
	work.Wait()
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
	s := Stats{Journal: a.journal.Stats(), Readers: a.journal.Readers(), Server: a.server.Stats(), Bridges: a.bridgeStats()}
	s.Lost = bridgeLosses(s.Readers)
	if a.broken != nil {
		s.Broken = a.broken.Error()
	}
	return s
}

// Changes are what has the gateway go by its files as they are now.
func (a *Agent) Changes() *reconfigure.Changes { return a.changes }

// Losses returns what the journal had to drop.
func (a *Agent) Losses() []journal.Loss { return a.journal.Losses() }

// Subscribe calls f for each message that the local broker takes and filter matches, until cancel.
// f must not block.
func (a *Agent) Subscribe(filter string, f func(*broker.Message)) (cancel func(), err error) {
	return a.server.Subscribe(filter, f)
}
