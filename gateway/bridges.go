package gateway

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"holdfast/broker"
	"holdfast/broker/bridge"
	"holdfast/broker/dial"
	"holdfast/broker/journal"
	"holdfast/broker/outbox"
	"holdfast/broker/server"
	"holdfast/broker/wire"
	"holdfast/gateway/config"
)

// bridgeReader and a bridge's name are the name of its reader of the journal.
const bridgeReader = "bridge/"

var protocols = map[config.Protocol]wire.Version{config.Auto: 0, config.V311: wire.V311, config.V5: wire.V5}

// link is a bridge, and what stays when another configuration takes its place: what waits for it, and the
// route to that.
type link struct {
	config config.Bridge
	key    *journal.Reader // of the route: the first one that had what was new
	lanes  []*outbox.Queue
	pick   func(topic string, own bool) *journal.Reader
	tells  *announced // nil if nobody is told of losses
	dialer atomic.Pointer[dial.Dialer]
	now    atomic.Pointer[bridge.Bridge]
	usage  atomic.Pointer[usage]
	stop   func() // nil while the bridge does not run
}

// deliver takes what the journal does not keep.
func (l *link) deliver(m *broker.Message) {
	l.usage.Load().out.note(m.Topic)
	l.now.Load().Deliver(m)
}

// isLive says whether a reader is owed what is new.
func (l *link) isLive(reader string) bool {
	return slices.ContainsFunc(l.lanes, func(lane *outbox.Queue) bool { return lane.Live().Name() == reader })
}

// newLink builds a bridge that does nothing yet.
func (a *Agent) newLink(c config.Bridge) (*link, error) {
	l := &link{}
	return l, a.build(l, c)
}

// build gives a link, whose bridge does not run, one of another configuration, with what waits for it.
func (a *Agent) build(l *link, c config.Bridge) error {
	if err := a.takeOver(c); err != nil {
		return err
	}
	lanes, pick, err := a.openLanes(c, l.isLive)
	if err != nil {
		return err
	}
	live := lanes[slices.IndexFunc(lanes, func(l *outbox.Queue) bool { return l.Priority() == int(c.Priority) })].Live
	if l.key == nil {
		l.key = live()
	}
	if pick == nil && l.key != live() {
		pick = func(string, bool) *journal.Reader { return live() }
	}
	dialer := dialer(c, a.log)
	used := newUsage(c)
	b, tells, err := a.newBridge(c, dialer, lanes, live, l.key, used)
	if err != nil {
		return err
	}
	l.config, l.lanes, l.pick, l.tells = c, lanes, pick, tells
	l.dialer.Store(dialer)
	l.usage.Store(used)
	l.now.Store(b)
	return nil
}

func (a *Agent) newBridge(c config.Bridge, dialer *dial.Dialer, lanes []*outbox.Queue, live func() *journal.Reader, key *journal.Reader, used *usage) (*bridge.Bridge, *announced, error) {
	own := a.statusTopic()
	opts := bridge.Options{
		Options: outbox.Options{
			Name: c.Name, Queues: lanes, Window: c.Window, LiveFirst: c.Drain == config.DrainLiveFirst, Share: c.DrainShare, Rate: outbox.Rate(c.Rate),
			Changed: a.dash.changed(c.Name), Progress: a.progress.loop("bridge " + c.Name), Log: a.log,
		},
		ClientID: c.ClientID, Protocol: protocols[c.Protocol], MaxPacket: int(c.MaxPacket),
		KeepAlive: c.KeepAlive, Announce: c.Losses, Status: c.Status,
		SessionExpiry: c.SessionExpiry, FailBack: c.FailBack, References: c.References, Journal: a.journal, Origin: a.cfg.Device.ID,
		Publish: func(m *broker.Message, changes []journal.Change, done func(error)) {
			if m.Topic == own { // what an upstream says of this gateway is not for here
				done(nil)
				return
			}
			// done is told of the journal's errors, and the bridge has looked at the topic.
			_ = a.server.Publish(m, server.PublishOptions{From: key, Changes: changes, Done: done})
		},
		Retained: func(topic string) (r bridge.Retained) {
			r.Message, r.Ours, r.Before = a.server.Retained(topic, key)
			return r
		},
		Clear: func(m *broker.Message, changes []journal.Change, done func(error)) bool {
			gone := &broker.Message{Topic: m.Topic, QoS: 1, Retain: true}
			err := a.server.Publish(gone, server.PublishOptions{From: key, Changes: changes, Done: done, Instead: m})
			return !errors.Is(err, server.ErrReplaced)
		},
		Heard: used.in.note,
		Dial:  dialer.Dial, Credentials: credentials(c).Get,
	}
	if p := c.Profile; p != nil {
		opts.Adapt = func(topic string, m *broker.Message, retain bool) (string, bool, error) {
			return p.Adapt(c.ClientID, topic, m, retain)
		}
	}
	for _, u := range c.Upstream {
		opts.Upstreams = append(opts.Upstreams, u.URL)
	}
	tells := &announced{name: c.Name, topic: c.Losses, reader: live}
	opts.Refused = func(d *journal.Delivery, reason string) error {
		if c.Losses != "" && d.Message.Topic == c.Losses {
			a.losses.refused(tells, reason)
			return nil
		}
		return a.dead.keep(c.Name, d, reason)
	}
	for _, r := range c.Out {
		opts.Out = append(opts.Out, r.Bridge())
	}
	for _, r := range c.In {
		opts.In = append(opts.In, r.Bridge())
	}
	b, err := bridge.New(opts)
	if err != nil || c.Losses == "" {
		return b, nil, err
	}
	tells.connected = func() bool { return b.Stats().Connected }
	return b, tells, nil
}

// route has a link owed what its configuration sends, from now on.
func (a *Agent) route(l *link) error {
	pick, used := l.pick, l.usage.Load()
	r := server.Route{Name: l.config.Name, Reader: l.key, Deliver: l.deliver, Pick: func(topic string, own bool) *journal.Reader {
		used.out.note(topic)
		if pick == nil {
			return l.key
		}
		return pick(topic, own)
	}}
	for _, out := range l.config.Out {
		r.Filters = append(r.Filters, server.FilterQoS{Filter: out.Filter, QoS: out.QoS})
	}
	a.losses.set(l.config.Name, l.tells)
	return a.server.Route(r)
}

// bridgeStats are those of all bridges, in the order of the configuration.
func (a *Agent) bridgeStats() []bridge.Stats {
	a.mu.Lock()
	defer a.mu.Unlock()
	var all []bridge.Stats
	for _, l := range a.links {
		all = append(all, l.now.Load().Stats())
	}
	return all
}

// linked says whether a bridge is connected.
func (a *Agent) linked(name string) bool {
	return slices.ContainsFunc(a.bridgeStats(), func(s bridge.Stats) bool { return s.Name == name && s.Connected })
}

// bridgeOf returns the bridge that a reader of the journal belongs to. A bridge has several: see lanes.go.
func bridgeOf(reader string) (bridge string, ok bool) {
	rest, ok := strings.CutPrefix(reader, bridgeReader)
	bridge, _, _ = strings.Cut(rest, "/")
	return bridge, ok
}

// oldest is when the oldest message was taken that waits for a bridge; zero if none does.
func (a *Agent) oldest(bridge string) (t time.Time) {
	for _, r := range a.journal.Readers() {
		if name, ok := bridgeOf(r.Name); !ok || name != bridge || r.Depth == 0 {
			continue
		}
		if o, ok := a.journal.Oldest(r.Name); ok {
			if at := a.date(o); t.IsZero() || at.Before(t) {
				t = at
			}
		}
	}
	return t
}

// takeOver gives a bridge what waits under its former name, and what was announced of it.
func (a *Agent) takeOver(c config.Bridge) error {
	if c.Was == "" {
		return nil
	}
	var old, own []journal.ReaderInfo
	var waiting, waitingHere uint64
	for _, r := range a.journal.Readers() {
		switch name, ok := bridgeOf(r.Name); {
		case !ok:
		case name == c.Was:
			old, waiting = append(old, r), waiting+r.Depth
		case name == c.Name:
			own, waitingHere = append(own, r), waitingHere+r.Depth
		}
	}
	if len(old) == 0 {
		return nil
	}
	if waitingHere > 0 {
		a.log.Warn("a bridge has messages of its own and takes over its former name's at a start when it has none",
			"bridge", c.Name, "was", c.Was, "waiting", waitingHere)
		return nil
	}
	for _, r := range own {
		if err := a.journal.RemoveReader(r.Name); err != nil {
			return err
		}
	}
	for _, r := range old {
		now := bridgeReader + c.Name + strings.TrimPrefix(r.Name, bridgeReader+c.Was)
		if _, err := a.journal.RenameReader(r.Name, now); err != nil {
			return fmt.Errorf("was %s: %w", c.Was, err)
		}
	}
	if err := errors.Join(a.moveTold(c.Was, c.Name), a.moveState(c.Was, c.Name)); err != nil {
		return fmt.Errorf("was %s: %w", c.Was, err)
	}
	a.log.Info("a bridge has taken over what waited under its former name", "bridge", c.Name, "was", c.Was, "waiting", waiting)
	return nil
}

// moveState gives a bridge what one of another name knew of messages that had come in, and been refused. It
// returns when that is on disk, where the bridge will look.
func (a *Agent) moveState(was, now string) error {
	var changes []journal.Change
	a.journal.Range(bridgeReader, func(key string, value []byte) bool {
		switch name, rest, _ := strings.Cut(key[len(bridgeReader):], "/"); name {
		case was:
			changes = append(changes, journal.Change{Key: key}, journal.Change{Key: bridgeReader + now + "/" + rest, Value: value})
		case now: // of a bridge that has come and gone
			changes = slices.Insert(changes, 0, journal.Change{Key: key})
		}
		return true
	})
	if len(changes) == 0 {
		return nil
	}
	return a.remember(changes)
}

// formerBridges tells of messages that wait for bridges which are not configured any more. They stay
// until a limit drops them. Where nothing waits there is nothing to keep.
func (a *Agent) formerBridges() error {
	known := func(name string) bool {
		return slices.ContainsFunc(a.cfg.Bridges, func(b config.Bridge) bool { return b.Name == name || b.Was == name })
	}
	var state []journal.Change // what they knew of messages that had come in
	a.journal.Range(bridgeReader, func(key string, _ []byte) bool {
		if name, _, _ := strings.Cut(key[len(bridgeReader):], "/"); !known(name) {
			state = append(state, journal.Change{Key: key})
		}
		return true
	})
	if len(state) > 0 { // a bridge of that name that comes next must not find it
		if err := a.remember(state); err != nil {
			a.log.Warn("what was known of bridges that are gone is still in the journal", "error", err)
		}
	}
	var text []string
	for _, r := range a.journal.Readers() {
		name, ok := bridgeOf(r.Name)
		if !ok || known(name) {
			continue
		}
		if r.Depth > 0 {
			text = append(text, fmt.Sprintf("%s: %d", strings.TrimPrefix(r.Name, bridgeReader), r.Depth))
		} else if err := a.journal.RemoveReader(r.Name); err != nil {
			return err
		}
	}
	if len(text) > 0 {
		a.log.Warn("messages wait for bridges that the configuration does not have: give a bridge `was: NAME` to send them, "+
			"or stop holdfast and give them up with `holdfast journal forget bridge/NAME`", "waiting", strings.Join(text, ", "))
	}
	return nil
}
