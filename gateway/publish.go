package gateway

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"

	"holdfast/broker"
	"holdfast/broker/journal"
	"holdfast/broker/server"
	"holdfast/gateway/config"
	"holdfast/gateway/numbers"
	"holdfast/gateway/payload"
	"holdfast/gateway/tap"
	"holdfast/sensors"
)

// publisher turns readings and statuses into messages. Readings are numbered, by device, without a
// gap: one record stores the number with the reading, so a reading that is lost before it is
// durable leaves no gap. Nor does one that the journal refuses: the next reading gets its number.
type publisher struct {
	device string
	server *server.Server
	hub    *tap.Hub
	lazy   bool
	kept   bool // there is a journal
	log    *slog.Logger

	mu       sync.Mutex
	seq      uint64
	last     error           // of the last publish, so that a failure is logged once
	retained map[string]bool // sensors whose readings are retained; replaced, never changed
}

func newPublisher(cfg *config.Config, j *journal.Journal, kept bool, s *server.Server, hub *tap.Hub, log *slog.Logger) *publisher {
	p := &publisher{device: cfg.Device.ID, kept: kept, server: s, hub: hub, lazy: cfg.Journal.CommitEvery > 0, log: log, retained: cfg.Retained}
	var skipped uint64
	if p.seq, skipped = numbers.Last(j, numbers.Readings); skipped > 0 {
		numbers.SkipReadings(j, p.seq, skipped, log)
	}
	return p
}

// readingPayload is the contract with consumers of readings.
type readingPayload struct {
	Value payload.Number `json:"value"`
	Unit  string         `json:"unit"`
	Time  payload.Stamp  `json:"time"`
	Seq   uint64         `json:"seq"`
}

// reading publishes r. Calls come from the workers of several buses at once; the lock keeps numbers
// and messages in the same order. What cannot be a message gets no number.
func (p *publisher) reading(r sensors.Reading) {
	p.mu.Lock()
	defer p.mu.Unlock()
	seq := p.seq + 1
	topic := "sensors/" + p.device + "/" + r.Sensor + "/" + r.Quantity
	text, err := json.Marshal(readingPayload{payload.Number(r.Value), r.Unit, payload.Stamp(r.Time), seq})
	if err = errors.Join(err, broker.CheckTopic(topic)); err != nil {
		p.report(err)
		return
	}
	p.seq = seq
	p.hub.Publish(tap.Reading{Reading: r, Seq: seq})
	m := &broker.Message{Topic: topic, Payload: text, QoS: 1, Retain: p.retained[r.Sensor]}
	opts := server.PublishOptions{
		Lazy:    p.lazy && !r.Urgent,
		AtOnce:  true,
		Changes: []journal.Change{{Key: numbers.Readings, Value: binary.AppendUvarint(nil, seq)}},
		Done:    func(err error) { p.hub.Publish(tap.Settled{Seq: seq, Err: err}) },
	}
	err = p.server.Publish(m, opts)
	if err != nil && p.kept {
		p.seq-- // a hole would be a loss that is not announced
	}
	p.report(err)
}

// readingNumber returns a function that finds the number of a reading of this device in its message, as reading prints it.
func readingNumber(device string) func(m *broker.Message) (uint64, bool) {
	prefix, mark := "sensors/"+device+"/", []byte(`,"seq":`)
	return func(m *broker.Message) (uint64, bool) {
		i := bytes.LastIndex(m.Payload, mark)
		if i < 0 || !strings.HasPrefix(m.Topic, prefix) {
			return 0, false
		}
		digits, ok := bytes.CutSuffix(m.Payload[i+len(mark):], []byte("}"))
		n, err := strconv.ParseUint(string(digits), 10, 64)
		return n, ok && err == nil
	}
}

type statusPayload struct {
	State    sensors.State `json:"state"`
	Class    sensors.Class `json:"class,omitempty"`
	Reason   string        `json:"reason,omitempty"`
	Since    payload.Stamp `json:"since"`
	LastGood payload.Stamp `json:"last_good"`
}

// status publishes s, retained, so that later subscribers get it too.
func (p *publisher) status(s sensors.Status) {
	p.hub.Publish(s)
	text, err := json.Marshal(statusPayload{s.State, s.Class, s.Reason, payload.Stamp(s.Since), payload.Stamp(s.LastGood)})
	p.mu.Lock()
	defer p.mu.Unlock()
	if err == nil {
		m := &broker.Message{Topic: "status/" + p.device + "/" + s.Sensor, Payload: text, QoS: 1, Retain: true}
		err = p.server.Publish(m, server.PublishOptions{Lazy: p.lazy})
	}
	p.report(err)
}

// retain sets which sensors' readings are retained from now on.
func (p *publisher) retain(sensors map[string]bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.retained = sensors
}

// retains returns which sensors' readings are retained.
func (p *publisher) retains() map[string]bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.retained
}

// clear clears the retained readings of sensors whose readings are not to be retained, and of those in changed, which may
// not publish the same any more. What a client has retained there, which is no reading, stays.
func (p *publisher) clear(changed []string) {
	retained, number := p.retains(), readingNumber(p.device)
	prefix := "sensors/" + p.device + "/"
	var gone []string
	for _, m := range p.server.RetainedMessages(prefix + "+/+") {
		name, _, _ := strings.Cut(strings.TrimPrefix(m.Topic, prefix), "/")
		if _, ours := number(m); ours && (!retained[name] || slices.Contains(changed, name)) {
			gone = append(gone, m.Topic)
		}
	}
	p.unpublish(gone...)
}

// unpublish clears retained messages.
func (p *publisher) unpublish(topics ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, topic := range topics {
		opts := server.PublishOptions{Lazy: p.lazy, AtOnce: strings.HasPrefix(topic, "sensors/")} // as its readings
		p.report(p.server.Publish(&broker.Message{Topic: topic, QoS: 1, Retain: true}, opts))
	}
}

// report logs a change from publishing to not publishing and back. Called with mu held.
func (p *publisher) report(err error) {
	switch {
	case err != nil && p.last == nil:
		p.log.Error("readings are not stored", "error", err)
	case err == nil && p.last != nil:
		p.log.Info("readings are stored again")
	}
	p.last = err
}
