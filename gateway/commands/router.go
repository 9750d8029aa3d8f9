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

	connected   func(bridge string) bool
	clockSynced func() bool
	waited      func(journal.Time) time.Duration // Journal.Waited
	changed     chan struct{}                    // configs have changed
	interrupted journal.Interruption             // commands from before it, and their ids, may be forgotten

	mu      sync.Mutex
	configs map[string]outputs.Config
	queues  map[string]*queue // by output; made by its first command
	running context.Context   // of run; nil before and at its end
	workers sync.WaitGroup
}

// newRouter brings every output to its safe value.
func newRouter(all []outputs.Config, opts *Options) *router {
	if opts.ClockSynced == nil {
		opts.ClockSynced = clockSynced
	}
	r := &router{
		device: opts.Device, log: opts.Log, connected: opts.Connected, clockSynced: opts.ClockSynced, out: newPublisher(opts.Device, opts.Log),
		configs: map[string]outputs.Config{}, queues: map[string]*queue{}, changed: make(chan struct{}, 1),
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

// connect subscribes to commands.
func (r *router) connect(b *Broker) (err error) {
	r.journal, r.waited, r.interrupted = b.Journal, b.Journal.Waited, b.Journal.Interruption()
	r.out.connect(b)
	filters := []server.FilterQoS{{Filter: "outputs/" + r.device + "/+/set", QoS: 2}}
	r.reader, err = tap.Durable(b.Journal, b.Server, readerName, filters, r.deliver)
	return err
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
	r.mu.Lock()
	r.running = nil // no more workers
	r.mu.Unlock()
	r.workers.Wait()
	close(stopPublishing)
	<-published
}

// deliver queues a command that the journal does not keep.
func (r *router) deliver(m *broker.Message) {
	r.enqueue(request{m: m, age: func() freshness { return freshness{ageKnown: true} }, settled: func() {}})
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
			r.enqueue(request{m: d.Message, age: func() freshness { return r.freshness(&d) }, settled: func() { r.reader.Ack(d.Seq) }})
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
func (r *router) carryOut(ctx context.Context, name string, q request) {
	var cmd outputs.Command
	c, ok := r.config(name)
	if !ok {
		r.refuse(name, cmd, q, errNoOutput)
		return
	}
	f := q.age()
	f.now, f.clockSynced = time.Now(), r.clockSynced()
	if f.interrupted = r.interrupted.Epoch > 0; f.interrupted {
		f.since = r.waited(r.interrupted.Time)
	}
	cmd, text, err := parseCommand(q.m, &c, f)
	if err == nil {
		cmd.Value, err = r.control.Parse(name, text)
	}
	if err == nil && cmd.ID != "" {
		err = r.first(ctx, name, cmd.ID)
	}
	if err != nil {
		r.refuse(name, cmd, q, err)
		return
	}
	once := sync.OnceFunc(q.settled)
	answer := r.out.answer(name, cmd)
	r.control.Command(name, cmd, func(res outputs.Result) { answer(res); once() })
}

var errNoOutput = errors.New("there is no output of this name")

// refuse answers a command that is not carried out.
func (r *router) refuse(name string, cmd outputs.Command, q request, err error) {
	r.out.answer(name, cmd)(outputs.Result{Outcome: outputs.Refused, Reason: err.Error()})
	q.settled()
}

// output returns the name in a command's topic.
func (r *router) output(m *broker.Message) string {
	name := strings.TrimPrefix(m.Topic, "outputs/"+r.device+"/")
	return strings.TrimSuffix(name, "/set")
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
	r.control.Change(d.Stop(), d.Begin)
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
