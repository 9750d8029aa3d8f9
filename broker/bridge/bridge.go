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
// Errors: New returns what a person has to correct. Everything that happens later is retried, shown
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
	"holdfast/broker/dial"
	"holdfast/broker/journal"
	"holdfast/broker/wire"
)

// Options configure a Bridge. Name, Upstreams, ClientID, Reader or Lanes, and Out or In have to be set.
type Options struct {
	Name      string        // for logs
	Upstreams []string      // URLs of package dial, tried in turn
	ClientID  string        // unique on the upstream
	Protocol  wire.Version  // V5 or V311; 0 means 5, and 3.1.1 where the upstream does not speak that
	MaxPacket int           // bytes, where the upstream takes less than it says; 0 means no limit of ours
	KeepAlive time.Duration // whole seconds up to 65535; 0 means 30 s
	Window    int           // most messages in flight; 0 means 100

	// Dial opens a connection up to where MQTT begins; nil means package dial without options.
	// Heard, if set, is told the upstream's topic of every message that comes from there and is no repeat. It must
	// not block.
	Heard func(topic string)
	Dial  func(ctx context.Context, u *url.URL) (net.Conn, error)
	// Credentials are asked for at each connection; nil connects without. They are never logged.
	Credentials func() (username, password string, err error)
	// Adapt, if set, fits a message to the upstream after the rules: name is the topic to send it under
	// instead, passOn whether its RETAIN is passed on. An error is why the upstream will never take it.
	Adapt func(topic string, m *broker.Message, retain bool) (name string, passOn bool, err error)

	Out    []Rule
	Reader *journal.Reader // its only consumer is Run
	Lanes  []*Lane         // instead: what is sent first is that of the highest priority

	LiveFirst bool // what comes while there is a connection does not wait for what waited before: see README.md
	Share     int  // percent of the window and of Rate that what waited may take with LiveFirst, 1 to 99; 0 means 50
	Rate      Rate

	// Status is the topic upstream, of no rule, on which the bridge says whether the gateway is there: Online when a
	// connection has begun, Offline as its will and before it ends in order, both retained. Empty for none.
	Status string

	Announce string // topic of messages of the gateway's own in Reader, sent as they are; empty for none

	In            []Rule        // of upstream topics to local ones
	SessionExpiry time.Duration // how long the upstream keeps for us what it would send, over MQTT 5; 0 means 7 days
	// Publish publishes a message of the upstream here, in the order of the calls, so that it does not go
	// out by this bridge's rules. Changes become durable with it; then, or if they do not, done is told,
	// which does not block. With In.
	Publish func(m *broker.Message, changes []journal.Change, done func(error))
	// Retained returns what is retained here of a local topic, and Clear publishes the deletion of a message that it has
	// returned, as Publish does; it does nothing and is false if that is not retained any more. Both or neither: without them what
	// is deleted upstream while the link is down stays retained here.
	Retained func(topic string) Retained
	Clear    func(m *broker.Message, changes []journal.Change, done func(error)) bool
	// Journal keeps what is known of messages that have come in, and Origin is this gateway's name on
	// those that go out over MQTT 5. Both with In; without them messages go out unmarked.
	Journal *journal.Journal
	Origin  string

	// Refused, if set, keeps a message that the upstream will never take. When it returns nil the message
	// is durable there, and leaves the journal; else it is tried again at the next connection.
	Refused func(d *journal.Delivery, reason string) error

	BackoffMin time.Duration // ceiling of the first wait between connections; 0 means 1 s
	BackoffMax time.Duration // ceiling of any such wait; 0 means 60 s
	AckTimeout time.Duration // how long the oldest message in flight may stay unacknowledged; 0 means 30 s
	// References are hosts, or HOST:PORT, that an upstream of MQTT 5 may name as another server to use. None are followed
	// else, nor any without TLS: the bridge would hand its password to whoever forges one packet.
	References []string
	FailBack   time.Duration // how long the first upstream has to be reachable before another one is left for it; 0 means 1 min
	MaxQueued  int           // QoS 0 messages that wait to be sent; 0 means 1000

	// Changed, if set, is told by Run of each connection that begins, and why it ended (nil if Run did
	// that). It must not block.
	Changed func(connected bool, reason error)

	// Progress is called by Run with true when it has something to do, and with false before it waits and at
	// its end. nil tells nobody.
	Progress func(busy bool)

	Log *slog.Logger // nil discards
}

func setDefault[T comparable](v *T, value T) {
	var zero T
	if *v == zero {
		*v = value
	}
}

func (o *Options) setDefaults() {
	setDefault(&o.KeepAlive, 30*time.Second)
	setDefault(&o.Window, 100)
	setDefault(&o.BackoffMin, time.Second)
	setDefault(&o.BackoffMax, max(time.Minute, o.BackoffMin))
	setDefault(&o.AckTimeout, 30*time.Second)
	setDefault(&o.MaxQueued, 1000)
	setDefault(&o.FailBack, time.Minute)
	setDefault(&o.SessionExpiry, 7*24*time.Hour)
	setDefault(&o.Share, 50)
	if o.Dial == nil {
		o.Dial = dial.New(dial.Options{}).Dial
	}
	if o.Progress == nil {
		o.Progress = func(bool) {}
	}
	setDefault(&o.Log, slog.New(slog.DiscardHandler))
}

func (o *Options) validate() error {
	switch {
	case (o.Reader == nil) == (len(o.Lanes) == 0):
		return errors.New("want a journal reader, or lanes of them")
	case o.ClientID == "":
		return errors.New("no client id")
	case o.Protocol != 0 && o.Protocol != wire.V311 && o.Protocol != wire.V5:
		return fmt.Errorf("protocol %d, want 3.1.1 or 5", o.Protocol)
	case o.KeepAlive%time.Second != 0 || o.KeepAlive < 0 || o.KeepAlive > math.MaxUint16*time.Second:
		return fmt.Errorf("keep alive %v, want whole seconds from 1 to 65535", o.KeepAlive)
	case o.Window < 0 || o.Window > math.MaxUint16:
		return fmt.Errorf("window %d, want 1 to 65535", o.Window)
	case o.BackoffMin < 0 || o.BackoffMax < o.BackoffMin:
		return fmt.Errorf("backoff from %v to %v", o.BackoffMin, o.BackoffMax)
	case o.AckTimeout < 0 || o.FailBack < 0 || o.MaxQueued < 0 || o.MaxPacket < 0:
		return errors.New("a negative limit")
	case o.Share < 1 || o.Share > 99:
		return fmt.Errorf("share %d %%, want 1 to 99", o.Share)
	case o.Rate.Messages < 0 || o.Rate.Bytes < 0:
		return errors.New("a negative rate")
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
			if err := r.validate(); err != nil {
				return fmt.Errorf("%s rule: %w", name, err)
			}
		}
	}
	return CheckRules(o.Out, o.In, o.Protocol == wire.V5)
}

// Stats are totals since New, and the present state.
type Stats struct {
	Name      string
	Connected bool
	Upstream  string       // connected to, or tried last
	Version   wire.Version // of the present connection or the last one; 0 before the first
	Since     time.Time    // of the connection, or of its loss; zero before the first

	Sent         uint64 // messages of the journal handed to a connection, resends included
	Resent       uint64 // of them, sent before
	Acknowledged uint64 // by the upstream, or written where the rule says QoS 0
	QoS0Sent     uint64 // live messages handed to a connection
	QoS0Dropped  uint64 // live messages that met no connection or a full queue
	Refused      uint64 // by the upstream, for good; or no rule, or no possible topic
	Expired      uint64 // message expiry interval was over

	Received   uint64 // messages of the upstream that were published here
	Duplicates uint64 // of the upstream, that had been published here before
	Looped     uint64 // messages that have been at this gateway before

	Reconnects uint64 // connections after the first
	InFlight   int    // sent and not acknowledged
	Depth      uint64 // in the journal for this bridge
	LastError  string // why the last connection ended or failed; empty if none did
}

// maxReasons are logged, each once.
const maxReasons = 100

// Bridge is one connection to one upstream at a time. Deliver and Stats are safe for concurrent use;
// Run is called once.
type Bridge struct {
	opts      Options
	upstreams []*url.URL
	log       *slog.Logger
	live      chan *broker.Message
	feed      *feed
	sign      sign

	// Of Run.
	in     *inbound // nil without in rules
	marker marker
	window window
	poison poison
	rival  rival
	moved  *url.URL // named by the upstream, to be tried next
	ids    ids      // of packets
	// condemned are messages to be refused, by sequence number, and why.
	condemned map[uint64]string
	tries     map[uint64]int // by sequence number, of messages that were not taken
	unheard   int            // connections one after the other that the upstream has ended before it acknowledged the status

	mu          sync.Mutex
	stats       Stats
	connections uint64
	refusals    map[string]bool // reasons that were logged
	problems    map[string]problem
	old         map[string]time.Time // hosts that do not speak MQTT 5, and until when that is believed
	mute        map[string]time.Time // hosts that take no status, likewise
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
	b := &Bridge{
		opts: opts, log: opts.Log.With("bridge", opts.Name), live: make(chan *broker.Message, opts.MaxQueued),
		refusals: make(map[string]bool), problems: make(map[string]problem), old: make(map[string]time.Time), mute: make(map[string]time.Time),
		window: newWindow(opts.Window), tries: make(map[uint64]int),
		poison: newPoison(), ids: newIDs(uint16(rand.Uint32())), condemned: make(map[uint64]string),
		feed:  newFeed(&opts),
		rival: rival{wait: backoff{min: opts.BackoffMax / 4, max: rivalWaits * opts.BackoffMax}},
	}
	for _, upstream := range opts.Upstreams {
		u, err := dial.ParseURL(upstream)
		if err != nil {
			return nil, fmt.Errorf("bridge: upstream: %w", err)
		}
		b.upstreams = append(b.upstreams, u)
	}
	var err error
	if b.sign, err = newSign(&opts); err != nil {
		return nil, fmt.Errorf("bridge: status: %w", err)
	}
	b.stats.Name = opts.Name
	b.marker.init(&b.opts)
	return b, nil
}

// Deliver sends m at QoS 0, if there is a connection. It never blocks. m must not be changed later.
func (b *Bridge) Deliver(m *broker.Message) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.stats.Connected {
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
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.stats
	s.Depth = b.feed.depth()
	return s
}

// count changes figures.
func (b *Bridge) count(change func(s *Stats)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	change(&b.stats)
}

// refused counts a message that cannot be sent, ever, and logs the first for each reason.
func (b *Bridge) refused(topic, reason string) {
	b.mu.Lock()
	b.stats.Refused++
	told := b.refusals[reason] || len(b.refusals) >= maxReasons
	if !told {
		b.refusals[reason] = true
	}
	b.mu.Unlock()
	if !told {
		b.log.Warn("message refused; more with this reason are only counted", "reason", reason, "topic", topic)
	}
}
