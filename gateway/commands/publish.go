package commands

import (
	"encoding/binary"
	"encoding/json"
	"log/slog"
	"sync"
	"time"

	"holdfast/broker"
	"holdfast/broker/journal"
	"holdfast/broker/server"
	"holdfast/gateway/numbers"
	"holdfast/gateway/payload"
	"holdfast/sensors"
	"holdfast/sensors/outputs"
)

const (
	seqKey    = "gateway/output-seq" // number of the last state
	maxOutbox = 1024                 // states and answers queued for the journal
)

// publisher publishes states and answers, in order. They wait in a bounded outbox, so that a disk that stalls
// does not hold up an output; when it is full the oldest is dropped.
type publisher struct {
	device string
	log    *slog.Logger
	broker *Broker // set by connect
	seq    uint64  // of states; only the goroutine of run uses it

	mu      sync.Mutex
	outbox  []func()
	dropped uint64
	more    chan struct{}
}

func newPublisher(device string, log *slog.Logger) *publisher {
	return &publisher{device: device, log: log, more: make(chan struct{}, 1)}
}

func (p *publisher) connect(b *Broker) {
	p.broker = b
	p.seq, _ = numbers.Last(b.Journal, seqKey)
}

// later queues f for run, which calls it after everything before it.
func (p *publisher) later(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.outbox) >= maxOutbox {
		p.outbox = p.outbox[1:]
		if p.dropped++; p.dropped == 1 {
			p.log.Error("dropping output states and results: the journal does not accept writes")
		}
	}
	p.outbox = append(p.outbox, f)
	select {
	case p.more <- struct{}{}:
	default:
	}
}

// run publishes what is in the outbox, until stop is closed and nothing is left.
func (p *publisher) run(stop <-chan struct{}) {
	for {
		p.mu.Lock()
		var f func()
		if len(p.outbox) > 0 {
			f = p.outbox[0]
			p.outbox = p.outbox[1:]
		}
		p.mu.Unlock()
		switch {
		case f != nil:
			f()
			continue
		case stop == nil:
			return
		}
		select {
		case <-p.more:
		case <-stop:
			stop = nil // nothing is added any more: publish the rest, then end
		}
	}
}

// statePayload is the contract with consumers of states.
type statePayload struct {
	Value   *payload.Number `json:"value"` // null if it is not known where the output is
	Since   payload.Stamp   `json:"since"`
	By      outputs.Cause   `json:"by"`
	Why     string          `json:"why,omitempty"`
	ID      string          `json:"id,omitempty"`
	Waiting *waitingPayload `json:"waiting,omitempty"`
	Seq     uint64          `json:"seq"`
}

type waitingPayload struct {
	Value payload.Number `json:"value"`
	At    payload.Stamp  `json:"at"`
}

// status publishes how an output's hardware is doing.
func (p *publisher) status(s sensors.Status) { p.later(func() { p.broker.Status(s) }) }

// state publishes an output's state, retained and numbered.
func (p *publisher) state(s outputs.State) {
	p.later(func() {
		p.seq++
		x := statePayload{Since: payload.Stamp(s.Since), By: s.By, Why: s.Why, ID: s.ID, Seq: p.seq}
		if s.Known {
			v := payload.Number(s.Value)
			x.Value = &v
		}
		if s.Waiting {
			x.Waiting = &waitingPayload{payload.Number(s.WaitingFor), payload.Stamp(s.WaitingAt)}
		}
		m := &broker.Message{Topic: "outputs/" + p.device + "/" + s.Output, QoS: 1, Retain: true}
		p.publish(m, x, journal.Change{Key: seqKey, Value: binary.AppendUvarint(nil, p.seq)})
	})
}

// resultPayload answers a command.
type resultPayload struct {
	ID     string          `json:"id,omitempty"`
	Result outputs.Outcome `json:"result"`
	Reason string          `json:"reason,omitempty"`
	Until  *payload.Stamp  `json:"until,omitempty"`
	// Ignored are keys of the command that mean nothing, in quotes.
	Ignored []string      `json:"ignored,omitempty"`
	Time    payload.Stamp `json:"time"`
}

// answer returns a function that publishes the answers to a command.
func (p *publisher) answer(name string, cmd *parsed) func(outputs.Result) {
	return func(res outputs.Result) {
		x := resultPayload{ID: cmd.ID, Result: res.Outcome, Reason: res.Reason, Ignored: cmd.unknown, Time: payload.Stamp(time.Now())}
		if !res.Until.IsZero() {
			u := payload.Stamp(res.Until)
			x.Until = &u
		}
		if res.Outcome == outputs.Refused {
			p.log.Debug("command refused", "output", name, "reason", res.Reason)
		}
		p.later(func() { p.publish(&broker.Message{Topic: "outputs/" + p.device + "/" + name + "/result", QoS: 1}, x) })
	}
}

func (p *publisher) publish(m *broker.Message, x any, changes ...journal.Change) {
	var err error
	if m.Payload, err = json.Marshal(x); err == nil {
		err = p.broker.Server.Publish(m, server.PublishOptions{Changes: changes})
	}
	if err != nil {
		p.log.Error("an output's message is not stored", "topic", m.Topic, "error", err)
	}
}
