package commands

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"holdfast/broker"
	"holdfast/broker/journal"
	"holdfast/broker/server"
	"holdfast/gateway/config"
	"holdfast/gateway/tap"
	"holdfast/sensors"
	"holdfast/sensors/outputs"
)

const (
	readerName    = "outputs"             // of the journal: commands that were acknowledged
	idsKey        = "gateway/output-ids/" // and the output's name: hashes of the last commands' ids
	rememberedIDs = 64
)

// router gives commands to their outputs, each through a queue of its own: the disk that remembers the id of one
// output's command holds up the next command to that output, and no other.
//
// A command of QoS 1 or 2 is on disk when it is acknowledged, and settled when it was answered. One that a crash
// leaves is checked for its age at the next start.
type router struct {
	device  string
	control *outputs.Controller
	out     *publisher
	log     *slog.Logger

	journal *journal.Journal
	reader  *journal.Reader

	ages

	connected func(bridge string) bool
	changed   chan struct{} // configs have changed
	hub       *tap.Hub
	server    *server.Server

	subscription

	mu      sync.Mutex
	configs map[string]outputs.Config
	sources map[string][]string  // by source, as outputs.Follow.String prints it: the outputs that follow it
	warned  map[string]time.Time // by output and text
	queues  map[string]*queue    // by output; made by its first command
	running context.Context      // of run; nil before and at its end
	workers sync.WaitGroup
}

// ages is what shows how old a command is. It does not change once the router is connected.
type ages struct {
	clockSynced func() bool
	waited      func(journal.Time) time.Duration // Journal.Waited
	interrupted journal.Interruption             // commands from before it, and their ids, may be forgotten
	clocks      *clocks
}

// subscription is the one to readings of this device.
type subscription struct {
	following sync.Mutex // while it changes; before mu of the router
	unfollow  func()     // ends it; nil if there is none
	ended     bool       // there is to be none any more
}

// newRouter brings every output to its safe value.
func newRouter(all []outputs.Config, opts *Options) *router {
	if opts.ClockSynced == nil {
		opts.ClockSynced = clockSynced
	}
	r := &router{
		device: opts.Device, log: opts.Log, connected: opts.Connected, out: newPublisher(opts.Device, opts.Log),
		ages: ages{clockSynced: opts.ClockSynced, clocks: newClocks()}, hub: opts.Hub,
		configs: map[string]outputs.Config{}, queues: map[string]*queue{}, warned: map[string]time.Time{}, changed: make(chan struct{}, 1),
	}
	for _, c := range all {
		r.configs[c.Name] = c
	}
	r.control = outputs.New(all, outputs.Options{
		Buses: opts.Buses, Log: opts.Log,
		State: func(s outputs.State) {
			opts.State(s)
			r.out.state(s)
		},
		Status: func(s sensors.Status) { r.out.status(s) },
	})
	r.control.Secure()
	return r
}

// connect subscribes to commands, and to what outputs follow.
func (r *router) connect(b *Broker) (err error) {
	r.journal, r.server, r.waited, r.interrupted = b.Journal, b.Server, b.Journal.Waited, b.Journal.Interruption()
	r.out.connect(b)
	if r.reader, err = tap.Durable(b.Journal, b.Server, readerName, r.filters(), r.deliver); err != nil {
		return err
	}
	r.subscribe()
	return nil
}

// run carries out commands until ctx ends, and leaves every output at its safe value and every state published.
func (r *router) run(ctx context.Context) {
	published, stopPublishing := make(chan struct{}), make(chan struct{})
	go func() { defer close(published); r.out.run(stopPublishing) }()
	r.mu.Lock()
	r.running = ctx
	for _, q := range r.queues {
		r.startWorker(q)
	}
	r.mu.Unlock()
	var work sync.WaitGroup
	work.Go(func() { r.control.Run(ctx) })
	work.Go(func() { r.take(ctx) })
	work.Go(func() { r.watchBridges(ctx) })
	work.Wait()
	r.unsubscribe(true)
	r.mu.Lock()
	r.running = nil // no more workers
	r.mu.Unlock()
	r.workers.Wait()
	close(stopPublishing)
	<-published
}

// deliver queues a command that the journal does not keep.
func (r *router) deliver(m *broker.Message) {
	r.route(request{m: m, age: func() freshness { return freshness{ageKnown: true} }, settled: func() {}})
}

// take moves commands from the journal to the queues, in order.
func (r *router) take(ctx context.Context) {
	r.reader.Attach()
	defer r.reader.Detach()
	retry := time.NewTimer(0)
	defer retry.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.reader.Ready():
		case <-retry.C:
		}
		for ctx.Err() == nil {
			d, ok, err := r.reader.TryNext()
			if err != nil {
				r.log.Error("commands cannot be read from the journal; trying again", "error", err)
				retry.Reset(time.Second)
			}
			if err != nil || !ok {
				break
			}
			r.route(request{m: d.Message, age: func() freshness { return r.freshness(&d) }, settled: func() { r.reader.Ack(d.Seq) }})
		}
	}
}

// freshness returns how long ago the gateway took a command: exactly if that was in the boot that runs, and
// otherwise only if the clock was right then and is now.
func (r *router) freshness(d *journal.Delivery) freshness {
	return freshness{
		age: r.waited(d.Time), ageKnown: !d.Time.Earlier || d.Time.Synced && r.clockSynced(),
		forgotten: r.interrupted.Epoch > 0 && d.Seq < r.interrupted.First,
	}
}

// carryOut gives one command to its output, or refuses it.
func (r *router) carryOut(ctx context.Context, q *queue, x request) {
	name := q.name
	var cmd parsed
	c, ok := r.config(name)
	if !ok {
		r.refuse(name, &cmd, x, errNoOutput)
		return
	}
	cmd, err := r.read(q, &c, x)
	if err == nil {
		cmd.Value, err = r.control.Parse(name, cmd.text)
	}
	if err == nil && cmd.once != "" {
		err = r.first(ctx, name, cmd.once)
	}
	if err != nil {
		r.refuse(name, &cmd, x, err)
		return
	}
	once := sync.OnceFunc(x.settled)
	answer := r.out.answer(name, &cmd)
	r.control.Command(name, cmd.Command, func(res outputs.Result) {
		if !x.follows || !res.Renewed { // a reading that repeats the one before is no news
			answer(res)
		}
		once()
	})
}

// read returns the command in a request, or why it is refused.
func (r *router) read(q *queue, c *outputs.Config, x request) (cmd parsed, err error) {
	if x.reading != nil {
		return readingCommand(x.reading, c)
	}
	f := x.age()
	f.now, f.clockSynced, f.follows = time.Now(), r.clockSynced(), x.follows
	if f.interrupted = r.interrupted.Epoch > 0; f.interrupted {
		f.interruptedSince = r.waited(r.interrupted.Time)
	}
	sender := func(by string) string { return strings.Join([]string{q.name, x.m.Topic, by}, "\x00") }
	f.since = func(by string, sent time.Time) (time.Duration, bool) { return r.clocks.since(sender(by), sent, f.now) }
	cmd, err = parseCommand(x.m, c, f)
	if cmd.sent != nil && f.ageKnown && !queuedOnTheWay(x.m) {
		r.clocks.note(sender(cmd.Why), *cmd.sent, f.now.Add(-f.age))
	}
	if len(cmd.unknown) > 0 {
		r.warn(q.name, "a command has keys that mean nothing to an output, which are ignored: correct or remove them", "keys", strings.Join(cmd.unknown, ", "))
	}
	if err == nil && x.follows {
		cmd.Why = "follows " + x.m.Topic
		err = q.last.pass(&cmd)
	}
	return cmd, err
}

var errNoOutput = errors.New("there is no output of this name")

// refuse answers a command that is not carried out.
func (r *router) refuse(name string, cmd *parsed, x request, err error) {
	if x.follows {
		r.warn(name, "a reading does not move the output that follows it", "reason", err)
	}
	r.out.answer(name, cmd)(outputs.Result{Outcome: outputs.Refused, Reason: err.Error()})
	x.settled()
}

// warn logs what a sender of commands does wrong, once a minute for each output: the texts in it may be the sender's.
func (r *router) warn(name, text string, attrs ...any) {
	key := name + "\x00" + text
	r.mu.Lock()
	last, seen := r.warned[key]
	due := !seen || time.Since(last) >= time.Minute
	if due {
		r.warned[key] = time.Now()
	}
	r.mu.Unlock()
	if due {
		r.log.Warn(text, append([]any{"output", name}, attrs...)...)
	}
}

// first notes the id of a command on disk before it is carried out, so that it is not carried out again after a crash.
// It is an error if the id is there already.
func (r *router) first(ctx context.Context, name, id string) error {
	sum := sha256.Sum256([]byte(id))
	hash := sum[:8]
	key := idsKey + name
	known, _ := r.journal.Get(key)
	for i := 0; i+len(hash) <= len(known); i += len(hash) {
		if string(known[i:i+len(hash)]) == string(hash) {
			return fmt.Errorf("id %q: it was taken before: a new command needs an id that none had", id)
		}
	}
	known = append(hash[:len(hash):len(hash)], known[:min(len(known), (rememberedIDs-1)*len(hash))]...)
	err := r.journal.AppendDurable(ctx, journal.Entry{Changes: []journal.Change{{Key: key, Value: known}}})
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		err = errors.New("the gateway is stopping")
	}
	if err != nil {
		return fmt.Errorf("id: it cannot be noted, so the command could be carried out twice: %w", err)
	}
	return nil
}

func (r *router) config(name string) (outputs.Config, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c, ok := r.configs[name]
	return c, ok
}

// change stops outputs and starts others, as outputs.Controller.Change. gone is called with each that is not
// configured any more, after its last state was published.
func (r *router) change(d config.Delta[outputs.Config], gone func(name string)) {
	r.mu.Lock()
	for _, name := range d.Removed {
		delete(r.configs, name)
		if q := r.queues[name]; q != nil {
			q.close()
			delete(r.queues, name)
		}
	}
	for _, c := range d.Begin {
		r.configs[c.Name] = c
	}
	r.mu.Unlock()
	r.unsubscribe(false)
	r.control.Change(d.Stop(), d.Begin)
	if err := r.server.Route(server.Route{Name: readerName, Reader: r.reader, Deliver: r.deliver, Filters: r.filters()}); err != nil {
		r.log.Error("outputs do not follow what the configuration says", "error", err) // its topics were checked
	}
	r.subscribe()
	for _, name := range d.Removed {
		r.out.later(func() { gone(name) })
	}
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

// watchBridges checks once a second whether a bridge has lost its upstream, if an output depends on one.
func (r *router) watchBridges(ctx context.Context) {
	up := map[string]time.Time{}  // by bridge: when it was last seen connected
	notified := map[string]bool{} // by output
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		var next <-chan time.Time
		timeouts := map[string]outputs.Config{}
		r.mu.Lock()
		for name, c := range r.configs {
			if c.Link != "" {
				timeouts[name], next = c, tick.C
			}
		}
		r.mu.Unlock()
		now := time.Now()
		seen := map[string]time.Time{}
		for name, c := range timeouts {
			last, known := up[c.Link]
			if !known || r.connected(c.Link) {
				last = now
			}
			seen[c.Link] = last
			lost := now.Sub(last) > c.LinkTimeout
			if lost && !notified[name] {
				r.control.LinkLost(name)
			}
			notified[name] = lost
		}
		up = seen
		select {
		case <-ctx.Done():
			return
		case <-r.changed:
		case <-next:
		}
	}
}

// full returns the names of outputs whose queue is full.
func (r *router) full() (names []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for name, q := range r.queues {
		if q.len() >= maxQueued {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}
