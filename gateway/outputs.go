package gateway

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"holdfast/broker"
	"holdfast/broker/journal"
	"holdfast/broker/server"
	"holdfast/gateway/config"
	"holdfast/sensors"
	"holdfast/sensors/bus"
	"holdfast/sensors/outputs"
)

const (
	outputsReader = "outputs"             // of the journal: commands that were acknowledged
	outputSeqKey  = "gateway/output-seq"  // number of the last state
	outputIDsKey  = "gateway/output-ids/" // and the output's name: hashes of the last commands' ids
	rememberedIDs = 64
	liveCommands  = 64   // of QoS 0 that wait
	maxUnsaid     = 1024 // states and answers that wait for the journal
)

// outputRoom turns messages into commands, and states and answers into messages.
//
// A command of QoS 1 or 2 is on disk when it is acknowledged, and is settled when it was answered. What
// a crash leaves is judged by its age at the next start. States and answers wait in a bounded queue, so
// that a disk that stalls does not hold up an output.
type outputRoom struct {
	device  string
	control *outputs.Controller
	status  func(sensors.Status)
	log     *slog.Logger

	journal *journal.Journal
	server  *server.Server
	reader  *journal.Reader
	live    chan *broker.Message
	linked  func(bridge string) bool // whether a bridge is connected
	rewired chan struct{}            // configs have changed

	clockSet func() bool
	waited   func(journal.Time) time.Duration // Journal.Waited
	seq      uint64                           // of states; only the goroutine of say uses it

	interrupted journal.Interruption // commands from before it, and their ids, may be forgotten

	mu      sync.Mutex
	configs map[string]outputs.Config
	unsaid  []func()
	dropped uint64
	more    chan struct{}
}

// newOutputs has every output at its safe value before anything else is built: after a crash they may
// be anywhere.
func newOutputs(cfg *config.Config, buses *bus.Set, linked func(bridge string) bool, l *latest, log *slog.Logger) *outputRoom {
	r := &outputRoom{
		device: cfg.Device.ID, configs: map[string]outputs.Config{}, linked: linked, log: log, clockSet: clockSet,
		live: make(chan *broker.Message, liveCommands), more: make(chan struct{}, 1), rewired: make(chan struct{}, 1),
	}
	for _, c := range cfg.Outputs {
		r.configs[c.Name] = c
	}
	r.control = outputs.New(cfg.Outputs, outputs.Options{
		Buses: buses, Log: log,
		State: func(s outputs.State) {
			l.output(s)
			r.later(func() { r.sayState(s) })
		},
		Status: func(s sensors.Status) { r.later(func() { r.status(s) }) },
	})
	r.control.Secure()
	return r
}

// connect subscribes to commands. status publishes a status.
func (r *outputRoom) connect(j *journal.Journal, s *server.Server, status func(sensors.Status)) (err error) {
	r.journal, r.server, r.status, r.waited = j, s, status, j.Waited
	r.seq, _ = lastNumber(j, outputSeqKey)
	r.interrupted = j.Interruption()
	if r.reader, err = j.OpenReader(outputsReader); err != nil {
		return err
	}
	return s.Route(server.Route{
		Name: outputsReader, Reader: r.reader, Deliver: r.deliver,
		Filters: []server.FilterQoS{{Filter: "outputs/" + r.device + "/+/set", QoS: 2}},
	})
}

// run takes commands until ctx ends, and leaves every output at its safe value and everything said.
func (r *outputRoom) run(ctx context.Context) error {
	said := make(chan struct{})
	stopSaying := make(chan struct{})
	go func() { defer close(said); r.say(stopSaying) }()
	var work sync.WaitGroup
	work.Go(func() { r.control.Run(ctx) })
	work.Go(func() { r.take(ctx) })
	work.Go(func() { r.watchLinks(ctx) })
	work.Wait()
	close(stopSaying)
	<-said
	return nil
}

// deliver takes a command that the journal does not keep.
func (r *outputRoom) deliver(m *broker.Message) {
	select {
	case r.live <- m:
	default:
		r.answer(r.output(m), outputs.Command{})(outputs.Result{Outcome: outputs.Refused, Reason: "too many commands at once"})
	}
}

// take hands commands to the outputs, in order.
func (r *outputRoom) take(ctx context.Context) {
	r.reader.Attach()
	defer r.reader.Detach()
	retry := time.NewTimer(0)
	defer retry.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case m := <-r.live:
			r.command(ctx, m, judge{ageKnown: true}, func() {})
			continue
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
			r.command(ctx, d.Message, r.judge(&d), func() { r.reader.Ack(d.Seq) })
		}
	}
}

// judge tells how long a command has been with us: exactly if it came in the boot that runs, and otherwise
// only if the clock was right then and is now.
func (r *outputRoom) judge(d *journal.Delivery) judge {
	return judge{
		age: r.waited(d.Time), ageKnown: !d.Time.Earlier || d.Time.Synced && r.clockSet(),
		forgotten: r.interrupted.Epoch > 0 && d.Seq < r.interrupted.First,
	}
}

// command gives one command to its output. settled is called when it was answered.
func (r *outputRoom) command(ctx context.Context, m *broker.Message, j judge, settled func()) {
	name := r.output(m)
	var cmd outputs.Command
	answer := func(res outputs.Result) { r.answer(name, cmd)(res) }
	refuse := func(err error) {
		answer(outputs.Result{Outcome: outputs.Refused, Reason: err.Error()})
		settled()
	}
	c, ok := r.config(name)
	if !ok {
		refuse(errors.New("there is no output of this name"))
		return
	}
	j.now, j.clockSet = time.Now(), r.clockSet()
	if j.interrupted = r.interrupted.Epoch > 0; j.interrupted {
		j.since = r.waited(r.interrupted.Time)
	}
	var text string
	var err error
	if cmd, text, err = parseCommand(m, &c, j); err == nil {
		cmd.Value, err = r.control.Parse(name, text)
	}
	if err == nil && cmd.ID != "" {
		err = r.first(ctx, name, cmd.ID)
	}
	if err != nil {
		refuse(err)
		return
	}
	once := sync.OnceFunc(settled)
	reply := r.answer(name, cmd)
	r.control.Command(name, cmd, func(res outputs.Result) { reply(res); once() })
}

func (r *outputRoom) output(m *broker.Message) string {
	name := strings.TrimPrefix(m.Topic, "outputs/"+r.device+"/")
	return strings.TrimSuffix(name, "/set")
}

// first notes the id of a command on disk before it is carried out, so that no crash has it carried
// out twice. It is an error if the id is there already.
func (r *outputRoom) first(ctx context.Context, name, id string) error {
	sum := sha256.Sum256([]byte(id))
	hash := sum[:8]
	key := outputIDsKey + name
	known, _ := r.journal.Get(key)
	for i := 0; i+len(hash) <= len(known); i += len(hash) {
		if string(known[i:i+len(hash)]) == string(hash) {
			return fmt.Errorf("id %q: it was taken before: a new command needs an id that none had", id)
		}
	}
	known = append(hash[:len(hash):len(hash)], known[:min(len(known), (rememberedIDs-1)*len(hash))]...)
	kept := make(committed, 1)
	err := r.journal.Append(journal.Entry{Changes: []journal.Change{{Key: key, Value: known}}, Done: kept})
	if err == nil {
		select {
		case err = <-kept:
		case <-ctx.Done():
			err = errors.New("the gateway is stopping")
		}
	}
	if err != nil {
		return fmt.Errorf("id: it cannot be noted, so the command could be carried out twice: %w", err)
	}
	return nil
}

// committed tells when an entry is on disk.
type committed chan error

func (c committed) Committed(_ *journal.Entry, _ uint64, err error) { c <- err }

func (r *outputRoom) config(name string) (outputs.Config, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c, ok := r.configs[name]
	return c, ok
}

// change stops outputs and starts others, as outputs.Controller.Change. gone is told of those that
// are not configured any more, after their last word.
func (r *outputRoom) change(d delta[outputs.Config], gone func(name string)) {
	r.mu.Lock()
	for _, name := range d.removed {
		delete(r.configs, name)
	}
	for _, c := range d.begin {
		r.configs[c.Name] = c
	}
	r.mu.Unlock()
	r.control.Change(d.stop(), d.begin)
	for _, name := range d.removed {
		r.later(func() { gone(name) })
	}
	select {
	case r.rewired <- struct{}{}:
	default:
	}
}

// watchLinks looks once a second whether a bridge has lost its upstream, if an output cares.
func (r *outputRoom) watchLinks(ctx context.Context) {
	up := map[string]time.Time{} // by bridge: when it was last seen connected
	told := map[string]bool{}    // by output
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
			if !known || r.linked(c.Link) {
				last = now
			}
			seen[c.Link] = last
			lost := now.Sub(last) > c.LinkTimeout
			if lost && !told[name] {
				r.control.LinkLost(name)
			}
			told[name] = lost
		}
		up = seen
		select {
		case <-ctx.Done():
			return
		case <-r.rewired:
		case <-next:
		}
	}
}

// later has f called by the goroutine of say.
func (r *outputRoom) later(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.unsaid) >= maxUnsaid {
		r.unsaid = r.unsaid[1:]
		if r.dropped++; r.dropped == 1 {
			r.log.Error("states and answers of outputs are dropped: the journal takes none")
		}
	}
	r.unsaid = append(r.unsaid, f)
	select {
	case r.more <- struct{}{}:
	default:
	}
}

// say publishes what waits, in order, until stop is closed and nothing is left.
func (r *outputRoom) say(stop <-chan struct{}) {
	for {
		r.mu.Lock()
		var f func()
		if len(r.unsaid) > 0 {
			f = r.unsaid[0]
			r.unsaid = r.unsaid[1:]
		}
		r.mu.Unlock()
		switch {
		case f != nil:
			f()
			continue
		case stop == nil:
			return
		}
		select {
		case <-r.more:
		case <-stop:
			stop = nil // nothing is added any more: what is left, and then the end
		}
	}
}

// statePayload is the contract with whoever watches an output.
type statePayload struct {
	Value   *number         `json:"value"` // null if it is not known where the output is
	Since   stamp           `json:"since"`
	By      outputs.Cause   `json:"by"`
	Why     string          `json:"why,omitempty"`
	ID      string          `json:"id,omitempty"`
	Waiting *waitingPayload `json:"waiting,omitempty"`
	Seq     uint64          `json:"seq"`
}

type waitingPayload struct {
	Value number `json:"value"`
	At    stamp  `json:"at"`
}

func (r *outputRoom) sayState(s outputs.State) {
	p := statePayload{Since: stamp(s.Since), By: s.By, Why: s.Why, ID: s.ID, Seq: r.seq + 1}
	if s.Known {
		v := number(s.Value)
		p.Value = &v
	}
	if s.Waiting {
		p.Waiting = &waitingPayload{number(s.WaitingFor), stamp(s.WaitingAt)}
	}
	r.seq++
	m := &broker.Message{Topic: "outputs/" + r.device + "/" + s.Output, QoS: 1, Retain: true}
	r.publish(m, p, journal.Change{Key: outputSeqKey, Value: binary.AppendUvarint(nil, r.seq)})
}

// resultPayload answers a command.
type resultPayload struct {
	ID     string          `json:"id,omitempty"`
	Result outputs.Outcome `json:"result"`
	Reason string          `json:"reason,omitempty"`
	Until  *stamp          `json:"until,omitempty"`
	Time   stamp           `json:"time"`
}

// answer returns what publishes the answers to a command.
func (r *outputRoom) answer(name string, cmd outputs.Command) func(outputs.Result) {
	return func(res outputs.Result) {
		p := resultPayload{ID: cmd.ID, Result: res.Outcome, Reason: res.Reason, Time: stamp(time.Now())}
		if !res.Until.IsZero() {
			u := stamp(res.Until)
			p.Until = &u
		}
		if res.Outcome == outputs.Refused {
			r.log.Debug("command refused", "output", name, "reason", res.Reason)
		}
		r.later(func() { r.publish(&broker.Message{Topic: "outputs/" + r.device + "/" + name + "/result", QoS: 1}, p) })
	}
}

func (r *outputRoom) publish(m *broker.Message, payload any, changes ...journal.Change) {
	var err error
	if m.Payload, err = json.Marshal(payload); err == nil {
		err = r.server.Publish(m, server.PublishOptions{Changes: changes})
	}
	if err != nil {
		r.log.Error("an output's message is not stored", "topic", m.Topic, "error", err)
	}
}
