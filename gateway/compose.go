package gateway

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"holdfast/broker/bridge"
	"holdfast/broker/journal"
	"holdfast/broker/server"
	"holdfast/gateway/access"
	"holdfast/gateway/commands"
	"holdfast/gateway/config"
	"holdfast/gateway/control"
	"holdfast/gateway/logs"
	"holdfast/gateway/part"
	"holdfast/gateway/progress"
	"holdfast/gateway/reconfigure"
	"holdfast/gateway/status"
	"holdfast/gateway/tap"
	"holdfast/gateway/uplinks"
	"holdfast/gateway/views"
	"holdfast/gateway/web"
	"holdfast/sensors"
	"holdfast/sensors/chips"
	"holdfast/sensors/outputs"
)

// seams are replaced by tests; nil and zero mean the real thing.
type seams struct {
	openDisk      func(dir string) (journal.FS, error)
	clockSynced   func() bool      // as commands see it
	now           func() time.Time // by which rules have matched nothing
	announceEvery time.Duration    // losses
}

// made holds the components of a gateway.
type made struct {
	log       *slog.Logger
	hub       *tap.Hub
	progress  *progress.Progress
	exchanger *reconfigure.Exchanger
	views     *views.Views
	hardware  *hardware
	outputs   *commands.Commands
	storage   *storage
	access    *access.Access
	server    *server.Server
	uplinks   *uplinks.Uplinks
	readings  *publisher
	sensors   *measuring
	changes   *reconfigure.Changes
	control   *control.Server
	lines     *web.Log    // of the dashboard; nil without one
	web       *web.Server // nil if there is none
}

// health returns a line for each part that is not well.
func (m *made) health() (lines []string) {
	for _, p := range m.exchanger.Parts {
		if err := p.Health(); err != nil {
			lines = append(lines, p.Name()+": "+err.Error())
		}
	}
	return lines
}

// parts returns all parts in the order in which they are started: from the upstream to the sensors, then what looks
// at them, then what changes them. They are stopped in the other order, and prepare in it: see Exchanger.
func (m *made) parts() []part.Part {
	return []part.Part{
		m.access,
		m.uplinks,
		part.Simple{Called: "broker", Start: m.serve},
		m.outputs,
		m.sensors,
		part.Simple{Called: "web", Start: m.serveWeb, Change: m.prepareWeb},
		m.views.Notifications(),
		m.views.Screens(m.outputs.Show),
		m.uplinks.Announcements(),
		m.hardware.part(),
		part.Simple{Called: "files", Start: m.changes.Run},
		part.Simple{Called: "control", Start: m.control.Run},
	}
}

// compose builds everything, and connects it. What must be released is added to release, also before an error.
func compose(cfg *config.Config, opts Options, release *closers) (_ *made, err error) {
	m := &made{log: opts.Log, progress: progress.New()}
	m.exchanger = &reconfigure.Exchanger{Adapt: func(c *config.Config) *config.Config { return c }}
	if m.log == nil {
		m.log = slog.New(slog.DiscardHandler)
	}
	if opts.Simulate {
		if cfg, err = m.simulate(cfg, release); err != nil {
			return nil, err
		}
	}
	m.exchanger.Start(cfg)
	if cfg.Web.On() {
		m.lines = web.NewLog(secrets(cfg)...)
		m.log = slog.New(m.lines.Handler(m.log.Handler()))
	}
	limit := logs.NewLimit(m.log.Handler()) // over the dashboard's log, which holds little
	m.log = slog.New(logs.Cut(limit))
	release.add(limit.Close)
	m.exchanger.Log = m.log
	reconfigure.Warn(cfg, m.log)
	m.hub = tap.NewHub(m.log)
	for _, t := range opts.Taps {
		s := m.hub.Subscribe(t)
		release.add(func() error { s.Close(); return nil })
	}
	m.views = views.New(views.Options{Version: opts.Version, Config: cfg, Hub: m.hub, Log: m.log})
	release.add(m.views.Close)
	if m.hardware, err = newHardware(cfg, opts); err != nil {
		return nil, err
	}
	release.add(m.hardware.buses.Close)
	m.outputs = commands.New(commands.Options{
		Device: cfg.Device.ID, Outputs: cfg.Outputs, Buses: m.hardware.buses, ClockSynced: opts.seams.clockSynced, Log: m.log,
		Connected: func(bridge string) bool { return m.uplinks.Connected(bridge) }, Hub: m.hub,
		State: func(s outputs.State) { m.hub.Publish(s) },
		Gone:  func(names ...string) { m.hub.Publish(tap.Forgotten{Names: names}) },
	})
	release.add(m.outputs.Close)
	if m.storage, err = openStorage(cfg, opts.seams.openDisk, m.progress.Loop("journal"), m.log); err != nil {
		return nil, err
	}
	release.add(m.storage.Close)
	identity := uplinks.NewIdentity(m.storage.Journal)
	adapt := m.exchanger.Adapt
	m.exchanger.Adapt = func(c *config.Config) *config.Config { return identity.Apply(adapt(c)) }
	cfg = identity.Apply(cfg)
	m.exchanger.Start(cfg)
	if m.access, err = access.New(cfg.Broker, cfg.Web, m.log); err != nil {
		return nil, err
	}
	if m.server, err = server.New(m.serverOptions(cfg, opts.Version)); err != nil {
		return nil, err
	}
	m.access.Serve(m.server)
	m.exchanger.Ready = m.server.Ready()
	if m.uplinks, err = uplinks.New(uplinks.Options{
		Device: cfg.Device.ID, Bridges: cfg.Bridges, Journal: m.storage.Journal, Server: m.server, DeadLetters: cfg.Journal.DeadLetters,
		Changed: func(bridge string, up bool, err error) {
			m.hub.Publish(tap.Connection{Bridge: bridge, Connected: up, Err: err})
		},
		Progress: m.progress.Loop, Log: m.log, AnnounceEvery: opts.seams.announceEvery, Now: opts.seams.now,
	}); err != nil {
		return nil, err
	}
	m.readings = newPublisher(cfg, m.storage.Journal, m.storage.broken == nil, m.server, m.hub, m.log)
	if err := m.outputs.Connect(commands.Broker{
		Journal: m.storage.Journal, Server: m.server, Status: m.readings.status, Clear: m.readings.unpublish,
	}); err != nil {
		return nil, fmt.Errorf("outputs: %w", err)
	}
	m.sensors = newMeasuring(cfg.Sensors, sensors.SupervisorOptions{
		Buses: m.hardware.buses, Drivers: chips.Drivers(), Log: m.log, Host: newHost(m.storage.Journal, m.server, m.log),
		Progress: func(bus string) func(bool) { return m.progress.Loop("sensors on " + bus) },
	}, m.readings, m.hub)
	m.newChanges(cfg, opts)
	m.control = newControl(control.Path(cfg.Control, cfg.DataDir), m.views, m.changes, m.log)
	m.show(cfg)
	if cfg.Web.On() {
		m.newWeb(cfg, opts.Source)
	}
	return m, nil
}

// simulate returns a configuration that touches nothing outside of this process but its listeners.
func (m *made) simulate(cfg *config.Config, release *closers) (*config.Config, error) {
	dir, remove, err := temporaryDir()
	if err != nil {
		return nil, err
	}
	release.add(remove)
	if n := len(cfg.Bridges); n > 0 {
		m.log.Warn("simulated readings are not sent upstream", "bridges", n)
	}
	m.exchanger.Adapt = func(c *config.Config) *config.Config { return withoutWorld(c, dir) }
	return withoutWorld(cfg, dir), nil
}

func (m *made) serverOptions(cfg *config.Config, version string) server.Options {
	orNone := func(n int) int { // the server takes 0 for its default
		if n == 0 {
			return -1
		}
		return n
	}
	b, l := cfg.Broker, cfg.Broker.Limits
	opts := server.Options{
		Journal: m.storage.Journal, Auth: m.access.Auth(), Listeners: m.access.Listeners(), Log: m.log,
		ServerKeepAlive: b.ServerKeepAlive, MaxAliases: orNone(b.TopicAliases), ResponseInfo: b.ResponseInformation,
		SysInterval: b.SysInterval, Version: strings.TrimSpace("holdfast " + version),
		MaxConnections: l.Connections, MaxSessions: l.Sessions, MaxSubscriptions: l.Subscriptions, MaxFilters: l.Filters,
		MaxPacket: int(l.Packet), MaxInflight: l.Inflight, MaxLevels: l.TopicLevels,
		MaxQueued: int(l.Queued), MaxQueuedTotal: l.QueuedTotal, MaxBacklog: l.Backlog,
		MaxRetained: l.Retained, MaxRetainedBytes: int(l.RetainedTotal),
		ConnectRate: orNone(l.ConnectRate), ConnectRatePerAddr: orNone(l.ConnectRatePerAddress),
		ConnectTimeout: l.ConnectTime, WriteTimeout: l.WriteTime, PacketTimeout: l.PacketTime,
		MaxConnecting: l.Connecting, MaxConnectPacket: int(l.ConnectPacket), MaxUnfinished: l.Unfinished,
		MaxMatching: l.Matching, MaxWills: l.Wills, UserShare: l.UserShare, MaxExpiry: l.SessionExpiry,
	}
	if opts.MaxExpiry == 0 {
		opts.MaxExpiry = -1
	}
	return opts
}

func (m *made) newChanges(cfg *config.Config, opts Options) {
	changes := reconfigure.Options{
		Source: opts.Source, Exchange: m.exchanger.Exchange, Check: Check, Config: m.exchanger.Config, Status: m.views.Status,
		Dir: cfg.DataDir, Look: m.access.LoadChangedFiles, Log: m.log,
	}
	if opts.Simulate {
		changes.Dir = ""
	}
	m.changes = reconfigure.New(changes)
	m.exchanger.Begin = m.views.Reloading
}

// show gives the views their sources.
func (m *made) show(cfg *config.Config) {
	m.views.Sources = views.Sources{
		Config: m.exchanger.Config, Journal: m.storage.Journal, Broken: m.storage.broken, Foreign: m.storage.foreign,
		Server: m.server, Buses: m.hardware.buses, Progress: m.progress, Sensors: m.sensors.Counts, Bridges: m.uplinks.Status,
		Listeners: m.access.Status, Changes: m.changes.Status, Health: m.health,
		Others: func() (list []status.Listener) {
			if m.web != nil {
				since, err := m.web.Failure()
				if err != nil || m.web.Addr() != nil {
					list = append(list, status.NewListener(cfg.Web.URL, err, since))
				}
			}
			if since, err := m.control.Failure(); err != nil {
				list = append(list, status.NewListener("control "+m.control.Path(), err, since))
			}
			return list
		},
		Refused: func() status.DashboardRefused {
			if m.web == nil {
				return status.DashboardRefused{}
			}
			r := m.web.Refused()
			return status.DashboardRefused{Connections: r.All, Address: r.Address, Pages: r.Pages}
		},
	}
}

// serve runs the broker until ctx ends. It announces offline before it disconnects clients; Run has announced online
// before they connect.
func (m *made) serve(ctx context.Context) error {
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	defer context.AfterFunc(ctx, func() {
		m.announce(bridge.Offline)
		stop()
	})()
	return m.server.Run(serving)
}

func (m *made) announce(presence string) {
	device := m.exchanger.Config().Device.ID
	if err := uplinks.Announce(device, presence, m.server); err != nil && m.storage.broken == nil { // else it was logged that nothing is kept
		m.log.Warn("the gateway's status is not retained", "topic", uplinks.StatusTopic(device), "error", err)
	}
}

// newWeb makes the dashboard, when everything that it shows has been built.
func (m *made) newWeb(cfg *config.Config, source *reconfigure.Source) {
	w := cfg.Web
	opts := web.Options{
		Address: w.Address, Device: cfg.Device.ID, Auth: m.access.Auth(), TLS: m.access.WebTLS(), View: w.View, Operate: w.Operate,
		Local: localRole(cfg.Broker), Lines: m.lines, Log: m.log,
	}
	if source != nil {
		opts.Config = source.Show
	}
	if !w.TLS() && w.Login() && !w.Local() {
		m.log.Warn("passwords for the dashboard cross the network in plain text: use https in web.url")
	}
	m.web = m.views.Dashboard(opts)
}

func (m *made) serveWeb(ctx context.Context) error {
	if m.web == nil {
		<-ctx.Done()
		return nil
	}
	return m.web.Run(ctx)
}

// prepareWeb hides the secrets of both configurations: errors may still contain the previous ones.
func (m *made) prepareWeb(next *config.Config) (part.Change, error) {
	if m.web == nil {
		return part.Change{}, nil
	}
	m.lines.Hide(secrets(m.exchanger.Config(), next)...)
	return part.Change{Apply: func() { m.web.SetLocal(localRole(next.Broker)) }}, nil
}

// secrets returns the texts of configurations that no page may show.
func secrets(all ...*config.Config) (list []string) {
	for _, cfg := range all {
		for _, b := range cfg.Bridges {
			list = append(list, string(b.Password), string(b.Proxy.Password))
		}
	}
	return list
}

// localRole returns the role of a browser on this device where no login is required.
func localRole(b config.Broker) web.Role {
	if len(b.Users) > 0 || b.PasswordFile != "" || len(b.ACL) > 0 || b.ACLFile != "" {
		return web.View // they may not publish a command without a rule either
	}
	return web.Operate
}

// Check loads the files that a configuration names and reports what would fail in New or at clients.
// It starts and opens nothing else.
func Check(cfg *config.Config) error { return access.Check(cfg, time.Now()) }
