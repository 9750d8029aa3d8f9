package uplinks

import (
	"errors"
	"slices"
	"sync/atomic"

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

// uplink is a configured bridge, with the parts that survive a change of its configuration: its backlog, and the
// route to that.
type uplink struct {
	config config.Bridge
	key    *journal.Reader // of the route: the first one that received new messages
	queues []*outbox.Queue
	pick   func(rule int, own bool) *journal.Reader
	losses *announced // nil if losses are not announced
	dialer atomic.Pointer[dial.Dialer]
	now    atomic.Pointer[sender]
	usage  atomic.Pointer[usage]
	stop   func() // nil while the bridge does not run
}

// deliver takes messages that the journal does not keep.
func (l *uplink) deliver(m *broker.Message) {
	l.usage.Load().out.note(m.Topic)
	l.sender().Deliver(m)
}

// sender returns what delivers the uplink's messages now.
func (l *uplink) sender() sender { return *l.now.Load() }

// isLive reports whether a reader receives new messages.
func (l *uplink) isLive(reader string) bool {
	return slices.ContainsFunc(l.queues, func(queue *outbox.Queue) bool { return queue.Live().Name() == reader })
}

// newUplink builds a bridge that does nothing yet.
func (u *Uplinks) newUplink(c config.Bridge) (*uplink, error) {
	l := &uplink{}
	return l, u.build(l, c)
}

// build gives an uplink, whose bridge does not run, a bridge of another configuration, with its backlog.
func (u *Uplinks) build(l *uplink, c config.Bridge) error {
	if err := u.adopt(c); err != nil {
		return err
	}
	queues, pick, err := u.openQueues(c, l.isLive)
	if err != nil {
		return err
	}
	live := queues[slices.IndexFunc(queues, func(l *outbox.Queue) bool { return l.Priority() == int(c.Priority) })].Live
	if l.key == nil {
		l.key = live()
	}
	dialer := dialer(c, u.log)
	used := newUsage(c, u.opts.Now())
	if sinkOf(u.opts.Sinks, c) != nil {
		used.client = "" // only MQTT has one
	}
	s, losses, err := u.newSender(c, dialer, queues, live, l.key, used)
	if err != nil {
		return err
	}
	l.config, l.queues, l.pick, l.losses = c, queues, pick, losses
	l.dialer.Store(dialer)
	l.usage.Store(used)
	l.now.Store(&s)
	return nil
}

// newSender returns what delivers the messages of queues, and how its losses are announced, nil if they are not.
func (u *Uplinks) newSender(c config.Bridge, dialer *dial.Dialer, queues []*outbox.Queue, live func() *journal.Reader, key *journal.Reader, used *usage) (sender, *announced, error) {
	losses := &announced{name: c.Name, topic: c.Losses, reader: live}
	opts := outbox.Options{
		Name: c.Name, Queues: queues, Window: c.Window, LiveFirst: c.Drain == config.DrainLiveFirst, Share: c.DrainShare, Rate: outbox.Rate(c.Rate),
		Changed: u.changed(c.Name), Progress: u.opts.Progress("bridge " + c.Name), Log: u.log,
		Refused: func(d *journal.Delivery, reason string) error {
			if c.Losses != "" && d.Message.Topic == c.Losses {
				u.losses.refused(losses, reason)
				return nil
			}
			return u.dead.keep(c.Name, d, reason)
		},
	}
	var s sender
	var err error
	if kind := sinkOf(u.opts.Sinks, c); kind != nil {
		s, err = u.newSink(kind, c, opts, dialer)
	} else {
		s, err = u.newBridge(c, opts, dialer, key, used)
	}
	if err != nil || c.Losses == "" {
		return s, nil, err
	}
	losses.connected = func() bool { return s.Stats().Connected }
	return s, losses, nil
}

// newBridge returns the sender to MQTT brokers.
func (u *Uplinks) newBridge(c config.Bridge, box outbox.Options, dialer *dial.Dialer, key *journal.Reader, used *usage) (sender, error) {
	own := StatusTopic(u.opts.Device)
	opts := bridge.Options{
		Options: box, ClientID: c.ClientID, Protocol: protocols[c.Protocol], MaxPacket: int(c.MaxPacket),
		KeepAlive: c.KeepAlive, Announce: c.Losses, Status: c.Status,
		SessionExpiry: c.SessionExpiry, FailBack: c.FailBack, References: c.References, Journal: u.journal, Origin: u.opts.Device,
		Publish: func(m *broker.Message, changes []journal.Change, done func(error)) {
			if m.Topic == own { // an upstream's claim about this gateway stays out
				done(nil)
				return
			}
			// done gets the journal's errors, and the bridge has checked the topic.
			_ = u.server.Publish(m, server.PublishOptions{From: key, Changes: changes, Done: done})
		},
		Retained: func(topic string) (r bridge.Retained) {
			r.Message, r.Ours, r.Before = u.server.Retained(topic, key)
			return r
		},
		Clear: func(m *broker.Message, changes []journal.Change, done func(error)) bool {
			gone := &broker.Message{Topic: m.Topic, QoS: 1, Retain: true}
			err := u.server.Publish(gone, server.PublishOptions{From: key, Changes: changes, Done: done, Instead: m})
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
	opts.Out, opts.In = config.Rules(c.Out), config.Rules(c.In)
	return bridge.New(opts)
}

// route makes the server queue the messages that the configuration sends for an uplink, from now on.
func (u *Uplinks) route(l *uplink) error {
	pick, used, rules := l.pick, l.usage.Load(), config.Rules(l.config.Out)
	r := server.Route{Name: l.config.Name, Reader: l.key, Deliver: l.deliver, Pick: func(topic string, own bool) *journal.Reader {
		rule := rules.Match(topic)
		used.out.noteRule(rule)
		return pick(rule, own)
	}}
	for _, out := range l.config.Out {
		r.Filters = append(r.Filters, server.FilterQoS{Filter: out.Filter, QoS: out.QoS})
	}
	u.losses.set(l.config.Name, l.losses)
	return u.server.Route(r)
}
