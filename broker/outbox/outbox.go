// Package outbox sends the messages that a journal has for one destination, by a Sink.
//
// It promises: a message leaves the journal only after the sink's other side has acknowledged it, or has refused it
// for good and Options.Refused keeps it, or its lifetime is over; whatever ends meanwhile, the rest is sent again, in
// order. First deliveries leave in the order of the journal, for each priority, unless LiveFirst says otherwise, and
// so do resends. No more than a window of messages and about 1 MiB are in flight. Memory does not depend on the
// backlog. A message at which the other side ends the connection stops no other.
//
// It does not promise that a message arrives once: what was in flight when a connection ended is sent again. It does
// not know what the other side does with a message that it has acknowledged.
//
// Errors: New returns configuration errors. Everything that happens later is retried, shown in Stats and
// logged when the state changes.
package outbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"time"

	"holdfast/broker/backoff"
	"holdfast/broker/journal"
)

// Defaults of Options, which the configuration prints.
const (
	DefaultWindow = 100
	DefaultShare  = 50 // percent
)

// Options configure an Outbox. Name and Reader or Queues have to be set.
type Options struct {
	Name   string          // for logs
	Reader *journal.Reader // its only consumer is Run
	Queues []*Queue        // instead: that of the highest priority is sent first
	Window int             // most messages in flight, up to 65535; 0 means DefaultWindow

	LiveFirst bool // what comes while there is a connection does not queue behind the backlog: see README.md
	Share     int  // percent of the window and of Rate that the backlog may take with LiveFirst, 1 to 99; 0 means DefaultShare
	Rate      Rate

	// Refused, if set, keeps a message that the other side will never take. When it returns nil the message
	// is durable there, and leaves the journal; else it is tried again at the next connection.
	Refused func(d *journal.Delivery, reason string) error

	BackoffMin time.Duration // ceiling of the first wait between connections; 0 means 1 s
	BackoffMax time.Duration // ceiling of any such wait; 0 means 60 s
	AckTimeout time.Duration // how long the oldest message in flight may stay unacknowledged; 0 means 30 s

	// Changed, if set, is called by Run for each connection that begins, and with why it ended (nil if Run ended
	// it). It must not block.
	Changed func(connected bool, reason error)

	// Progress is called by Run with true when it has something to do, and with false before it waits and at
	// its end; nil calls nothing.
	Progress func(busy bool)

	Log *slog.Logger // nil discards
}

// SetDefault gives a field that is zero its default.
func SetDefault[T comparable](v *T, value T) {
	var zero T
	if *v == zero {
		*v = value
	}
}

// SetDefaults replaces the zero values that the fields' comments give a meaning.
func (o *Options) SetDefaults() {
	SetDefault(&o.Window, DefaultWindow)
	SetDefault(&o.BackoffMin, time.Second)
	SetDefault(&o.BackoffMax, max(time.Minute, o.BackoffMin))
	SetDefault(&o.AckTimeout, 30*time.Second)
	SetDefault(&o.Share, DefaultShare)
	if o.Progress == nil {
		o.Progress = func(bool) {}
	}
	SetDefault(&o.Log, slog.New(slog.DiscardHandler))
}

// Validate returns what is wrong with the options. It is called after SetDefaults.
func (o *Options) Validate() error {
	switch {
	case (o.Reader == nil) == (len(o.Queues) == 0):
		return errors.New("want a journal reader, or queues of them")
	case o.Window < 0 || o.Window > math.MaxUint16:
		return fmt.Errorf("window %d, want 1 to 65535", o.Window)
	case o.BackoffMin < 0 || o.BackoffMax < o.BackoffMin:
		return fmt.Errorf("backoff from %v to %v", o.BackoffMin, o.BackoffMax)
	case o.AckTimeout < 0:
		return errors.New("a negative limit")
	case o.Share < 1 || o.Share > 99:
		return fmt.Errorf("share %d %%, want 1 to 99", o.Share)
	case o.Rate.Messages < 0 || o.Rate.Bytes < 0:
		return errors.New("a negative rate")
	}
	return nil
}

// Stats are totals since New, and the present state.
type Stats struct {
	Name      string
	Connected bool
	Upstream  string    // connected to, or tried last
	Since     time.Time // of the connection, or of its loss; zero before the first

	Sent         uint64 // messages of the journal handed to a connection, resends included
	Resent       uint64 // of them, sent before
	Acknowledged uint64 // by the other side, or written where no answer follows
	Refused      uint64 // for good, by the other side or because the sink cannot send them
	Expired      uint64 // message expiry interval was over

	Reconnects uint64 // connections after the first
	InFlight   int    // sent and not acknowledged
	Depth      uint64 // in the journal for this outbox
	LastError  string // why the last connection ended or failed; empty if none did
}

// maxReasons are logged, each once.
const maxReasons = 100

// Outbox sends by one connection at a time. Run is called once; everything else is safe for concurrent use.
type Outbox struct {
	opts Options
	sink Sink
	log  *slog.Logger

	// Of Run.
	scheduler *scheduler
	window    window
	poison    poison
	toRefuse  map[uint64]string // messages to be refused, by sequence number, and why
	tries     map[uint64]int    // by sequence number, of messages that were not taken

	mu          sync.Mutex
	stats       Stats
	connections uint64
	refusals    map[string]bool // reasons that were logged
	problems    map[string]problem
}

// New returns an outbox that does nothing until Run. Its log lines have the attributes of Options.Log.
func New(opts Options, sink Sink) (*Outbox, error) {
	opts.SetDefaults()
	if err := opts.Validate(); err != nil {
		return nil, fmt.Errorf("outbox: %w", err)
	}
	return &Outbox{
		opts: opts, sink: sink, log: opts.Log, scheduler: newScheduler(&opts), window: newWindow(opts.Window), poison: newPoison(),
		toRefuse: make(map[uint64]string), tries: make(map[uint64]int),
		stats: Stats{Name: opts.Name}, refusals: make(map[string]bool), problems: make(map[string]problem),
	}, nil
}

// Stats returns figures for metrics.
func (o *Outbox) Stats() Stats {
	o.mu.Lock()
	defer o.mu.Unlock()
	s := o.stats
	s.Depth = o.scheduler.depth()
	return s
}

// count changes figures.
func (o *Outbox) count(change func(s *Stats)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	change(&o.stats)
}

// NoteError makes text the LastError of Stats.
func (o *Outbox) NoteError(text string) { o.count(func(s *Stats) { s.LastError = text }) }

// NoteRefused counts a message that can never be sent, or that the sink refuses to take in, and logs the first for
// each reason. It is not for messages that were given to Prepare.
func (o *Outbox) NoteRefused(topic, reason string) {
	o.mu.Lock()
	o.stats.Refused++
	known := o.refusals[reason] || len(o.refusals) >= maxReasons
	if !known {
		o.refusals[reason] = true
	}
	o.mu.Unlock()
	if !known {
		o.log.Warn("message refused; more with this reason are only counted", "reason", reason, "topic", topic)
	}
}

// Run connects, sends and connects again until ctx ends. Then it stops sending, waits up to 2 s for
// acknowledgements and ends the connection; it returns nil. What is not acknowledged stays in the journal.
func (o *Outbox) Run(ctx context.Context) error {
	wait := backoff.Backoff{Min: o.opts.BackoffMin, Max: o.opts.BackoffMax}
	defer o.opts.Progress(false)
	var reported bool // this outage is in the log
	for ctx.Err() == nil {
		target := o.sink.Target()
		o.count(func(s *Stats) { s.Upstream = target })
		event := "upstream cannot be reached"
		o.opts.Progress(false) // a connection has deadlines of its own
		conn, err := o.sink.Connect(ctx)
		o.opts.Progress(true)
		var next Next
		if err == nil {
			event, reported = "upstream lost", false
			next, err = o.serve(ctx, conn, &wait)
		} else {
			o.poison.unreachable()
		}
		if ctx.Err() != nil {
			break
		}
		if conn == nil {
			next = o.sink.Ended(nil, err)
		}
		if next.Handover {
			continue
		}
		o.count(func(s *Stats) { s.LastError = err.Error() })
		if !reported {
			o.log.Warn(event, "upstream", target, "reason", err)
			reported = true
		}
		if next.Now {
			continue
		}
		if next.Slow {
			wait.Slow()
		}
		delay := wait.Next()
		if next.Delay > 0 {
			delay = next.Delay
		}
		o.log.Debug("next attempt", "in", delay, "reason", err)
		o.opts.Progress(false)
		select {
		case <-ctx.Done():
		case <-time.After(delay):
		}
	}
	return nil
}

// serve uses a connection until it ends. wait starts over if it was worth its attempt.
func (o *Outbox) serve(ctx context.Context, conn Conn, wait *backoff.Backoff) (next Next, err error) {
	o.connected()
	o.changed(true, nil)
	f := &Flow{o: o, conn: conn, began: time.Now(), retry: retry{delay: backoff.Backoff{Min: o.opts.BackoffMin, Max: o.opts.BackoffMax}}}
	err = f.run(ctx)
	f.end()
	handover := errors.Is(err, ErrHandover)
	if ctx.Err() != nil || handover {
		err = nil
	}
	o.poison.age(time.Now())
	next = o.sink.Ended(f, err)
	if next.Handover = next.Handover || handover; next.Handover {
		err, next.Cause = nil, Broken
	}
	o.disconnected()
	o.changed(false, err)
	if f.Worthwhile() {
		wait.Reset()
	}
	if o.poison.note(f, next.Cause, time.Now()) {
		wait.Reset()
	}
	o.window.restart()
	return next, err
}

func (o *Outbox) connected() {
	o.mu.Lock()
	o.stats.Connected, o.stats.Since = true, time.Now()
	o.connections++
	if o.connections > 1 {
		o.stats.Reconnects++
	}
	target := o.stats.Upstream
	o.mu.Unlock()
	o.log.Info("upstream connected", "upstream", target)
}

func (o *Outbox) disconnected() {
	o.count(func(s *Stats) { s.Connected, s.Since, s.InFlight = false, time.Now(), 0 })
}

func (o *Outbox) changed(connected bool, reason error) {
	if o.opts.Changed != nil {
		o.opts.Changed(connected, reason)
	}
}
