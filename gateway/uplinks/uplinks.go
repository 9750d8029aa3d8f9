// Package uplinks sends what the configuration names to upstream brokers, and takes in what comes from there.
//
// It promises that a message for a bridge stays in the journal until its upstream has acknowledged it, over
// changes of the configuration, restarts and another name; that messages that cannot be delivered are counted,
// announced upstream, and kept as dead letters where the upstream refused them; and that a reload does not
// disturb a bridge whose configuration did not change. Package bridge sends the messages to MQTT brokers; package sinks has
// what else they may go to.
package uplinks

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"holdfast/broker/bridge"
	"holdfast/broker/journal"
	"holdfast/broker/outbox"
	"holdfast/broker/server"
	"holdfast/broker/sinks"
	"holdfast/gateway/config"
	"holdfast/gateway/part"
)

// Options are what Uplinks work with.
type Options struct {
	Device      string
	Bridges     []config.Bridge
	Journal     *journal.Journal
	Server      *server.Server
	DeadLetters int64                                   // bytes of refused messages that are kept; 0 keeps none
	Changed     func(bridge string, up bool, err error) // called when a connection comes or goes; nil does nothing. It must not block
	Progress    func(loop string) func(busy bool)       // returns what a loop calls when it has work, and when it has none
	Log         *slog.Logger

	AnnounceEvery time.Duration     // how often connected bridges are asked for new losses; 0 means 5 s
	Sinks         []outbox.SinkKind // what bridges deliver to beside MQTT brokers; nil means sinks.All
	Now           func() time.Time  // for how long a rule has matched nothing; nil means time.Now
}

// Uplinks is the part that owns all bridges.
type Uplinks struct {
	opts    Options
	journal *journal.Journal
	server  *server.Server
	log     *slog.Logger
	dead    *deadLetters
	losses  *announcer
	failed  chan error // of a bridge that cannot go on

	changing   sync.Mutex      // while bridges are started, exchanged or stopped
	running    context.Context // of Run; nil before
	configured []config.Bridge

	mu    sync.Mutex
	links []*uplink // in the order of the configuration; changed with changing held too
}

var _ part.Part = (*Uplinks)(nil)

// New opens the readers of all bridges in the journal, and routes messages to them. No bridge runs yet.
func New(opts Options) (*Uplinks, error) {
	if opts.AnnounceEvery == 0 {
		opts.AnnounceEvery = announceEvery
	}
	if opts.Sinks == nil {
		opts.Sinks = sinks.All()
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	u := &Uplinks{
		opts: opts, journal: opts.Journal, server: opts.Server, log: opts.Log, configured: opts.Bridges, failed: make(chan error, 1),
		losses: &announcer{journal: opts.Journal, log: opts.Log, every: opts.AnnounceEvery},
	}
	if err := u.openDeadLetters(); err != nil {
		return nil, fmt.Errorf("dead letters: %w", err)
	}
	if err := u.splitQueues(); err != nil {
		return nil, fmt.Errorf("bridges: %w", err)
	}
	u.noteRules(opts.Bridges)
	for _, c := range opts.Bridges {
		l, err := u.newUplink(c)
		if err == nil {
			err = u.route(l)
		}
		if err != nil {
			return nil, fmt.Errorf("bridge %s: %w", c.Name, err)
		}
		u.links = append(u.links, l)
	}
	return u, u.orphans(opts.Bridges)
}

// Name returns "bridges".
func (u *Uplinks) Name() string { return "bridges" }

// Run connects all bridges until ctx ends, and returns when the last one has stopped.
func (u *Uplinks) Run(ctx context.Context) error {
	u.changing.Lock()
	u.running = ctx
	for _, l := range u.links {
		if l.stop == nil {
			l.stop = u.startUplink(l)
		}
	}
	u.changing.Unlock()
	var err error
	select {
	case <-ctx.Done():
	case err = <-u.failed:
	}
	u.changing.Lock()
	defer u.changing.Unlock()
	stopAll(u.links)
	return err
}

// Announcements is the part that announces losses upstream.
func (u *Uplinks) Announcements() part.Part {
	return part.Simple{Called: "losses", Start: u.losses.run}
}

// Health names the bridges that are not connected.
func (u *Uplinks) Health() error {
	var names []string
	for _, s := range u.stats() {
		if !s.Connected {
			names = append(names, s.Name)
		}
	}
	if len(names) > 0 {
		return fmt.Errorf("not connected: %s", strings.Join(names, ", "))
	}
	return nil
}

// Connected reports whether a bridge is connected to its upstream.
func (u *Uplinks) Connected(name string) bool {
	return slices.ContainsFunc(u.stats(), func(s bridge.Stats) bool { return s.Name == name && s.Connected })
}

// stats returns those of all bridges, in the order of the configuration.
func (u *Uplinks) stats() (all []bridge.Stats) {
	for _, l := range u.current() {
		all = append(all, l.sender().Stats())
	}
	return all
}

func (u *Uplinks) current() []*uplink {
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.Clone(u.links)
}

// start runs f and returns what ends it and waits for its end. An error ends Run.
func (u *Uplinks) start(f func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var ended sync.WaitGroup
	ended.Go(func() {
		if err := f(ctx); err != nil && ctx.Err() == nil {
			select {
			case u.failed <- err:
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
func stopAll(links []*uplink) {
	var work sync.WaitGroup
	for _, l := range links {
		if l.stop != nil {
			work.Go(l.stop)
		}
	}
	work.Wait()
}

// changed returns what a bridge calls when its connection comes or goes.
func (u *Uplinks) changed(name string) func(bool, error) {
	if u.opts.Changed == nil {
		return nil
	}
	return func(up bool, err error) { u.opts.Changed(name, up, err) }
}

// readers returns the names of the readers that a bridge has in the journal.
func (u *Uplinks) readers(bridge string) (names []string) {
	for _, r := range u.journal.Readers() {
		if name, ok := bridgeOf(r.Name); ok && name == bridge {
			names = append(names, r.Name)
		}
	}
	return names
}

// bridgeOf returns the bridge that a reader of the journal belongs to. A bridge has several: see queues.go.
func bridgeOf(reader string) (bridge string, ok bool) {
	rest, ok := strings.CutPrefix(reader, bridgeReader)
	bridge, _, _ = strings.Cut(rest, "/")
	return bridge, ok
}

// moveReaders gives one bridge the readers of another. moved reports whether there was one.
func (u *Uplinks) moveReaders(names []string, was, now string) (moved bool, err error) {
	for _, name := range names {
		renamed, failed := u.journal.RenameReader(name, bridgeReader+now+strings.TrimPrefix(name, bridgeReader+was))
		err, moved = errors.Join(err, failed), moved || renamed
	}
	return moved, err
}
