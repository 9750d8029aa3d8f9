// Package bridge carries messages between a journal and an upstream MQTT broker, over 3.1.1 or 5.
//
// It promises: a message is acknowledged to the journal only after the upstream has acknowledged it, and to
// the upstream only after the journal has it, so nothing is lost by an outage, a crash or a change of
// upstream. First deliveries leave in the order of the journal, for each priority, unless LiveFirst says
// otherwise, and so do resends. No more than a window of messages is in flight, and no call of the local
// broker ever waits for the upstream. What comes in by a bridge does not go out by it.
//
// It does not promise that a message arrives upstream once: what was in flight when a connection ended is
// sent again; the README says when what comes in is published once. QoS 0 messages are sent while there is
// a connection and dropped, counted, while there is none. It does not know what an upstream does with a
// message that it has acknowledged.
//
// Errors: New returns configuration errors. Everything that happens later is retried, shown
// in Stats and logged when the state changes.
package bridge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"net"
	"net/url"
	"sync"
	"time"

	"holdfast/broker"
	"holdfast/broker/backoff"
	"holdfast/broker/dial"
	"holdfast/broker/journal"
	"holdfast/broker/outbox"
	"holdfast/broker/wire"
)

// Defaults of Options, which the configuration prints.
const (
	DefaultKeepAlive     = 30 * time.Second
	DefaultFailBack      = time.Minute
	DefaultSessionExpiry = 7 * 24 * time.Hour
)

// Options configure a Bridge. Name, Upstreams, ClientID, Reader or Queues, and Out or In have to be set.
type Options struct {
	outbox.Options // what is sent when, and how often; Announce and what comes in need Name, too

	Upstreams []string      // URLs of package dial, tried in turn
	ClientID  string        // unique on the upstream
	Protocol  wire.Version  // V5 or V311; 0 means 5, and 3.1.1 where the upstream does not speak that
	MaxPacket int           // bytes, where the upstream takes less than it announces; 0 means no limit of ours
	KeepAlive time.Duration // whole seconds up to 65535; 0 means DefaultKeepAlive

	// Dial opens a connection up to where MQTT begins; nil means package dial without options.
	Dial func(ctx context.Context, u *url.URL) (net.Conn, error)
	// Credentials are asked for at each connection; nil connects without. They are never logged.
	Credentials func() (username, password string, err error)
	// Heard, if set, is called with the upstream's topic of every message that comes from there and is no repeat. It
	// must not block.
	Heard func(topic string)
	// Adapt, if set, fits a message to the upstream after the rules: name is the topic to send it under
	// instead, passOn whether its RETAIN is passed on. An error is why the upstream will never take it.
	Adapt func(topic string, m *broker.Message, retain bool) (name string, passOn bool, err error)

	Out []Rule

	// Status is the topic upstream, of no rule, on which the bridge publishes the gateway's presence: Online when a
	// connection has begun, Offline as its will and before it disconnects in order, both retained. Empty for none.
	Status string

	Announce string // topic of messages of the gateway's own in Reader, sent as they are; empty for none

	In            []Rule        // of upstream topics to local ones
	SessionExpiry time.Duration // how long the upstream keeps for us what it would send, over MQTT 5; 0 means DefaultSessionExpiry
	// Publish publishes a message of the upstream here, in the order of the calls, so that it does not go
	// out by this bridge's rules. Changes become durable with it; then, or if they do not, done is called,
	// which does not block. With In.
	Publish func(m *broker.Message, changes []journal.Change, done func(error))
	// Retained returns what is retained here of a local topic, and Clear publishes the deletion of a message that it has
	// returned, as Publish does; it does nothing and is false if that is not retained any more. Both or neither: without them what
	// is deleted upstream while the link is down stays retained here.
	Retained func(topic string) Retained
	Clear    func(m *broker.Message, changes []journal.Change, done func(error)) bool
	// Journal stores the identifiers of messages that have come in, and Origin is this gateway's name on
	// those that go out over MQTT 5. Both with In; without them messages go out unmarked.
	Journal *journal.Journal
	Origin  string

	// References are hosts, or HOST:PORT, that an upstream of MQTT 5 may name as another server to use. The bridge follows
	// no others, and none without TLS: it would send its password to an attacker who forges one packet.
	References []string
	FailBack   time.Duration // how long the first upstream has to be reachable before another one is left for it; 0 means DefaultFailBack
	MaxQueued  int           // QoS 0 messages that are queued to be sent; 0 means 1000
}

func (o *Options) setDefaults() {
	o.SetDefaults()
	outbox.SetDefault(&o.KeepAlive, DefaultKeepAlive)
	outbox.SetDefault(&o.MaxQueued, 1000)
	outbox.SetDefault(&o.FailBack, DefaultFailBack)
	outbox.SetDefault(&o.SessionExpiry, DefaultSessionExpiry)
	if o.Dial == nil {
		o.Dial = dial.New(dial.Options{}).Dial
	}
}

func (o *Options) validate() error {
	if err := o.Validate(); err != nil {
		return err
	}
	switch {
	case o.ClientID == "":
		return errors.New("no client id")
	case o.Protocol != 0 && o.Protocol != wire.V311 && o.Protocol != wire.V5:
		return fmt.Errorf("protocol %d, want 3.1.1 or 5", o.Protocol)
	case o.KeepAlive%time.Second != 0 || o.KeepAlive < 0 || o.KeepAlive > math.MaxUint16*time.Second:
		return fmt.Errorf("keep alive %v, want whole seconds from 1 to 65535", o.KeepAlive)
	case o.FailBack < 0 || o.MaxQueued < 0 || o.MaxPacket < 0:
		return errors.New("a negative limit")
	case len(o.Upstreams) == 0:
		return errors.New("no upstream")
	case len(o.Out)+len(o.In) == 0:
		return errors.New("no rule")
	case len(o.In) > 0 && (o.Publish == nil || o.Journal == nil):
		return errors.New("in rules, and nowhere to publish to")
	case o.SessionExpiry < 0:
		return fmt.Errorf("session expiry %v", o.SessionExpiry)
	}
	for name, rules := range map[string][]Rule{"out": o.Out, "in": o.In} {
		for _, r := range rules {
			if err := r.Validate(); err != nil {
				return fmt.Errorf("%s rule: %w", name, err)
			}
		}
	}
	return CheckRules(o.Out, o.In, o.Protocol == wire.V5)
}

// Stats are totals since New, and the present state.
type Stats struct {
	outbox.Stats
	Version wire.Version // of the present connection or the last one; 0 before the first

	QoS0Sent    uint64 // live messages handed to a connection
	QoS0Dropped uint64 // live messages that met no connection or a full queue

	Received   uint64 // messages of the upstream that were published here
	Duplicates uint64 // of the upstream, that had been published here before
	Looped     uint64 // messages that have been at this gateway before
}

// Bridge is one connection to one upstream at a time. Deliver, Stats and Problems are safe for concurrent use;
// Run is called once.
type Bridge struct {
	opts          Options
	box           *outbox.Outbox
	log           *slog.Logger
	live          chan *broker.Message // at QoS 0, for the connection
	presenceTopic presenceTopic

	mqtt311Until      untilByHost // hosts that do not speak MQTT 5
	willDisabledUntil untilByHost // hosts that take no status

	// For Run's goroutine alone.
	in               *inbound // nil without in rules
	marker           marker
	ids              ids // of packets
	upstreams        upstreams
	conn             *connection // that is in use, or was last
	rival            rival
	presenceFailures int // connections one after the other that the upstream has ended before it acknowledged the status

	mu    sync.Mutex // guards what follows; a leaf, like the locks of untilByHost
	open  bool       // there is a connection for what Deliver takes
	stats Stats      // without the outbox's
}

// New returns a bridge that does nothing until Run.
func New(opts Options) (*Bridge, error) {
	opts.setDefaults()
	if err := opts.validate(); err != nil {
		return nil, fmt.Errorf("bridge: %w", err)
	}
	if opts.Announce != "" {
		opts.Out = append([]Rule{{Filter: opts.Announce, QoS: 1}}, opts.Out...)
	}
	opts.Log = opts.Log.With("bridge", opts.Name)
	b := &Bridge{
		opts: opts, log: opts.Log, live: make(chan *broker.Message, opts.MaxQueued),
		ids: newIDs(uint16(rand.Uint32())), rival: rival{wait: backoff.Backoff{Min: opts.BackoffMax / 4, Max: rivalWaits * opts.BackoffMax}},
	}
	for _, upstream := range opts.Upstreams {
		u, err := dial.ParseURL(upstream)
		if err != nil {
			return nil, fmt.Errorf("bridge: upstream: %w", err)
		}
		b.upstreams.all = append(b.upstreams.all, u)
	}
	var err error
	if b.presenceTopic, err = newPresenceTopic(&opts); err != nil {
		return nil, fmt.Errorf("bridge: status: %w", err)
	}
	if b.box, err = outbox.New(opts.Options, sink{b}); err != nil {
		return nil, fmt.Errorf("bridge: %w", err)
	}
	b.marker.init(&b.opts)
	return b, nil
}

// Deliver sends m at QoS 0, if there is a connection. It never blocks. m must not be changed later.
func (b *Bridge) Deliver(m *broker.Message) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.open {
		select {
		case b.live <- m:
			return
		default:
		}
	}
	b.stats.QoS0Dropped++
}

// Stats returns figures for metrics.
func (b *Bridge) Stats() Stats {
	out := b.box.Stats()
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.stats
	s.Stats = out
	return s
}

// Problems returns what is wrong although there may be a connection, each with what to do about it, in a stable order.
// It is safe for concurrent use.
func (b *Bridge) Problems() []string { return b.box.Problems() }

// problem is outbox.Outbox.Problem.
func (b *Bridge) problem(key, text string, until time.Time) bool {
	return b.box.Problem(key, text, until)
}

// refused counts a message that will never be taken, and logs the first for each reason.
func (b *Bridge) refused(topic, reason string) { b.box.NoteRefused(topic, reason) }
