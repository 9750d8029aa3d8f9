package gateway

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"holdfast/broker/auth"
	"holdfast/gateway/config"
	"holdfast/gateway/reconfigure"
	"holdfast/gateway/status"
	"holdfast/sensors"
	"holdfast/sensors/outputs"
)

// Reload has the gateway, which runs, go by another configuration. Only what is different is stopped and
// started; everything else goes on and notices nothing. The files of certificates, passwords and rules are read
// again in any case. It returns what was exchanged, in words.
//
// After an error nothing has changed: what may fail is done first, and undone. It may be called by several
// goroutines.
func (a *Agent) Reload(cfg *config.Config) (changes []string, err error) {
	a.changing.Lock()
	defer a.changing.Unlock()
	select {
	case <-a.server.Ready():
	default:
		return nil, fmt.Errorf("the gateway is starting: %w", reconfigure.ErrNotNow)
	}
	if a.phase.Load() == status.Stopping {
		return nil, fmt.Errorf("the gateway is stopping: %w", reconfigure.ErrNotNow)
	}
	defer a.reloading()()
	if a.simulated {
		cfg = withoutWorld(cfg, a.cfg.DataDir)
	}
	cfg = a.identify(cfg)
	if keys := config.NeedRestart(a.cfg, cfg); len(keys) > 0 {
		return nil, fmt.Errorf("these need a restart: %s: restart holdfast, or leave them as they are", strings.Join(keys, ", "))
	}
	if a.dash != nil { // those of before too: what they were used for may fail still
		a.dash.log.Hide(secrets(a.cfg, cfg)...)
	}
	// First what may fail.
	var undo []func()
	defer func() {
		if err != nil {
			for _, f := range slices.Backward(undo) {
				f()
			}
		}
	}()
	next := exchange{Agent: a, cfg: cfg, undo: &undo}
	next.sensors = compare(a.cfg.Sensors, cfg.Sensors, func(c sensors.Config) string { return c.Name }, sensors.Config.Equal)
	next.outputs = compare(a.cfg.Outputs, cfg.Outputs, func(c outputs.Config) string { return c.Name }, equal)
	next.bridges = compare(a.cfg.Bridges, cfg.Bridges, func(c config.Bridge) string { return c.Name }, sameBridge)
	if err := a.populate(next.sensors.begin, next.outputs.begin); err != nil {
		return nil, err
	}
	if err := next.prepareLinks(); err != nil {
		return nil, err
	}
	if err := next.prepareOutputs(); err != nil {
		return nil, fmt.Errorf("outputs: %w", err)
	}
	if err := next.access(); err != nil {
		return nil, fmt.Errorf("broker: %w", err)
	}
	// Then what cannot, from the sensors to the upstream and back, as at a stop and a start.
	a.sensors.Change(next.sensors.stop(), nil)
	a.latest.forget(next.sensors.stop()...)
	for _, name := range next.sensors.removed {
		a.readings.unpublish("status/" + cfg.Device.ID + "/" + name)
	}
	next.switchLinks()
	next.switchOutputs()
	a.sensors.Change(nil, next.sensors.begin)
	changes = next.text()
	a.mu.Lock()
	a.cfg = cfg
	a.mu.Unlock()
	a.warn(cfg)
	if err := a.formerBridges(); err != nil {
		a.log.Error("the reader of a former bridge stays in the journal", "error", err)
	}
	return changes, nil
}

// text says what is exchanged.
func (x *exchange) text() []string {
	old := x.Agent.cfg.Broker
	listeners := compare(old.Listeners, x.cfg.Broker.Listeners, func(l config.Listener) string { return l.URL }, equal)
	changes := slices.Concat(x.sensors.text("sensor"), x.outputs.text("output"), x.bridges.text("bridge"), listeners.text("listener"))
	for _, l := range x.brokerListeners() {
		if !l.Open && (slices.Contains(listeners.added, l.URL) || slices.Contains(listeners.changed, l.URL)) {
			changes = append(changes, fmt.Sprintf("listener %s: not open, and tried again: %s", l.URL, l.Error))
		}
	}
	if !equal(access(old), access(x.cfg.Broker)) {
		changes = append(changes, "users and rules: changed")
	}
	return changes
}

func equal[T any](a, b T) bool { return reflect.DeepEqual(a, b) }

// sameBridge says whether a bridge may go on. That it has taken over what was under a former name is done.
func sameBridge(old, now config.Bridge) bool {
	if now.Was == "" {
		old.Was = ""
	}
	return equal(old, now)
}

// delta is the difference of two lists of named entries.
type delta[T any] struct {
	removed, changed, added []string // names
	begin                   []T      // changed and added, in the order of the new list
}

func compare[T any](old, now []T, name func(T) string, same func(a, b T) bool) (d delta[T]) {
	find := func(list []T, x T) int { return slices.IndexFunc(list, func(y T) bool { return name(y) == name(x) }) }
	for _, x := range now {
		switch i := find(old, x); {
		case i < 0:
			d.added = append(d.added, name(x))
		case same(old[i], x):
			continue
		default:
			d.changed = append(d.changed, name(x))
		}
		d.begin = append(d.begin, x)
	}
	for _, x := range old {
		if find(now, x) < 0 {
			d.removed = append(d.removed, name(x))
		}
	}
	return d
}

// stop are the names of what does not go on as it is.
func (d delta[T]) stop() []string { return slices.Concat(d.removed, d.changed) }

func (d delta[T]) text(kind string) (lines []string) {
	for what, names := range map[string][]string{"removed": d.removed, "changed": d.changed, "added": d.added} {
		for _, name := range names {
			lines = append(lines, kind+" "+name+": "+what)
		}
	}
	slices.Sort(lines)
	return lines
}

// exchange is one Reload.
type exchange struct {
	*Agent
	cfg     *config.Config
	undo    *[]func()
	sensors delta[sensors.Config]
	outputs delta[outputs.Config]
	bridges delta[config.Bridge]

	links []*link                 // in the order of the new configuration
	built map[*link]config.Bridge // that take the place of those that run
	room  *outputRoom             // nil if there are no outputs any more, or already were some
}

func (x *exchange) undoing(f func()) { *x.undo = append(*x.undo, f) }

// prepareLinks builds the bridges that are new, and finds out whether those that change can be built.
func (x *exchange) prepareLinks() error {
	x.built = map[*link]config.Bridge{}
	for _, c := range x.cfg.Bridges {
		l := x.link(c.Name)
		changed := slices.Contains(x.bridges.changed, c.Name)
		if had := x.readers(c.Name); l == nil && len(had) == 0 { // else it has messages of its own
			l = x.link(c.Was) // renamed while it runs
			changed = l != nil
		}
		var err error
		switch {
		case changed:
			x.built[l] = c
			_, _, err = x.newBridge(c, dialer(c, x.log), l.lanes, l.lanes[0].Live, l.key, newUsage(c))
		case l == nil:
			l, err = x.prepareLink(c)
		}
		if err != nil {
			return fmt.Errorf("bridge %s: %w", c.Name, err)
		}
		x.links = append(x.links, l)
	}
	return nil
}

// link is the one of that name that runs, or nil.
func (x *exchange) link(name string) *link {
	if i := slices.IndexFunc(x.Agent.links, func(l *link) bool { return l.config.Name == name }); i >= 0 {
		return x.Agent.links[i]
	}
	return nil
}

// readers are the names of those that a bridge has in the journal.
func (x *exchange) readers(bridge string) (names []string) {
	for _, r := range x.journal.Readers() {
		if name, ok := bridgeOf(r.Name); ok && name == bridge {
			names = append(names, r.Name)
		}
	}
	return names
}

// prepareLink makes one that is new. What it makes in the journal goes again if it is not used, and what
// it takes over from a former bridge goes back.
func (x *exchange) prepareLink(c config.Bridge) (*link, error) {
	had, former := x.readers(c.Name), x.readers(c.Was)
	x.undoing(func() {
		var err error
		var back bool
		for _, name := range former {
			now := bridgeReader + c.Name + strings.TrimPrefix(name, bridgeReader+c.Was)
			renamed, failed := x.journal.RenameReader(now, name) // none of that name if it was not taken over
			err, back = errors.Join(err, failed), back || renamed
		}
		if back {
			err = errors.Join(err, x.moveTold(c.Name, c.Was), x.moveState(c.Name, c.Was))
		}
		for _, name := range x.readers(c.Name) {
			if !slices.Contains(had, name) {
				err = errors.Join(err, x.journal.RemoveReader(name))
			}
		}
		if err != nil {
			x.log.Error("the reader of a bridge that is not used stays in the journal", "bridge", c.Name, "error", err)
		}
	})
	return x.newLink(c)
}

// switchLinks stops the bridges that are gone or changed, and starts those in their place. Their readers
// are owed messages all the time.
func (x *exchange) switchLinks() {
	var stop []*link
	for _, l := range x.Agent.links {
		_, changed := x.built[l]
		gone := !slices.Contains(x.links, l)
		if gone {
			x.server.Unroute(l.key)
		}
		if gone || changed {
			stop = append(stop, l)
		}
		if gone || changed && x.built[l].Name != l.config.Name {
			x.losses.set(l.config.Name, nil)
		}
	}
	stopAll(stop)
	x.mu.Lock()
	x.Agent.links = x.links
	x.mu.Unlock()
	for _, l := range x.links {
		c, changed := x.built[l]
		if l.stop != nil && !changed {
			continue
		}
		var err error
		if changed {
			l.stop = nil
			if err = x.build(l, c); err != nil { // the journal has failed: on as before
				x.log.Error("a bridge does not have its new configuration", "bridge", c.Name, "error", err)
				err = x.build(l, l.config)
			}
		}
		if err == nil {
			err = x.route(l)
		}
		if err != nil {
			x.log.Error("a bridge does not run: mend the storage of the journal, and start holdfast again", "bridge", l.config.Name, "error", err)
			continue
		}
		l.stop = x.startLink(l)
	}
}

// prepareOutputs makes what outputs need, if there were none.
func (x *exchange) prepareOutputs() error {
	if x.Agent.outputs != nil || len(x.cfg.Outputs) == 0 {
		return nil
	}
	none := *x.cfg
	none.Outputs = nil
	x.room = x.newRoom(&none)
	x.undoing(func() { x.forgetRoom(x.room) })
	return x.room.connect(x.journal, x.server, x.readings.status)
}

// forgetRoom takes a room that does not run out of the way of messages.
func (x *exchange) forgetRoom(r *outputRoom) {
	x.server.Unroute(r.reader)
	if err := x.journal.RemoveReader(outputsReader); err != nil {
		x.log.Error("the reader of commands stays in the journal", "error", err)
	}
}

// switchOutputs has those that are gone or changed at their safe values, and then starts the others. What
// is as it was does not move.
func (x *exchange) switchOutputs() {
	if x.room != nil {
		x.mu.Lock()
		x.Agent.outputs = x.room
		x.mu.Unlock()
		x.stops[stageOutputs] = x.start(x.room.run)
	}
	room := x.Agent.outputs
	if room == nil {
		return
	}
	x.latest.forget(x.outputs.changed...)
	room.change(x.outputs, func(name string) {
		x.latest.forget(name)
		x.readings.unpublish("outputs/"+x.cfg.Device.ID+"/"+name, "status/"+x.cfg.Device.ID+"/"+name)
	})
	if len(x.cfg.Outputs) > 0 {
		return
	}
	x.stops[stageOutputs]()
	x.stops[stageOutputs] = nil
	x.forgetRoom(room)
	x.mu.Lock()
	x.Agent.outputs = nil
	x.mu.Unlock()
}

// access takes over listeners, users, rules and certificates. After an error everything is as it was.
func (x *exchange) access() error {
	for _, l := range x.cfg.Broker.Listeners {
		// The files of those that stay may have changed too, but where they were missing before nothing gets worse.
		waits := slices.ContainsFunc(x.entrances, func(e entrance) bool { return e.Key == keyOf(l) && e.tls != nil && !e.tls.Loaded() })
		if _, err := place(l); err != nil && !waits {
			return fmt.Errorf("listener %s: %w", l.URL, err)
		}
	}
	if _, err := auth.New(access(x.cfg.Broker)); err != nil {
		return err
	}
	next := entrances(x.cfg.Broker.Listeners, x.entrances)
	if err := x.server.SetListeners(context.Background(), opened(next)); err != nil {
		return err
	}
	if err := x.auth.Configure(access(x.cfg.Broker)); err != nil { // changed since a moment ago
		return errors.Join(err, x.server.SetListeners(context.Background(), opened(x.entrances)))
	}
	if x.web != nil {
		x.web.SetLocal(localRole(x.cfg.Broker))
	}
	x.mu.Lock()
	x.entrances = next
	x.mu.Unlock()
	for _, t := range x.certificates() {
		if err := t.Reload(); err != nil {
			x.reloaded(t.Name(), true, err)
		} else {
			x.logCertificate(t)
		}
	}
	x.noteCRLs()
	x.server.Reauthorize()
	return nil
}
