package gateway

import (
	"encoding/binary"
	"encoding/json"
	"log/slog"
	"math"
	"strconv"
	"sync"
	"time"

	"holdfast/broker"
	"holdfast/broker/journal"
	"holdfast/broker/server"
	"holdfast/gateway/config"
	"holdfast/sensors"
)

// publisher turns readings and statuses into messages. Readings are numbered, by device, without a
// gap: the number is stored with the reading, in one record, so one that was lost before it was
// durable leaves none. Nor does one that the journal refuses: its number goes to the next.
type publisher struct {
	device  string
	server  *server.Server
	observe Observer
	latest  *latest
	lazy    bool
	kept    bool // there is a journal
	log     *slog.Logger

	mu   sync.Mutex
	seq  uint64
	last error // of the last publish, so that a failure is logged once
}

func newPublisher(cfg *config.Config, j *journal.Journal, kept bool, s *server.Server, observe Observer, l *latest, log *slog.Logger) (*publisher, error) {
	p := &publisher{device: cfg.Device.ID, kept: kept, server: s, observe: observe, latest: l, lazy: cfg.Journal.CommitEvery > 0, log: log}
	var skipped uint64
	if p.seq, skipped = lastNumber(j, seqKey); skipped > 0 {
		skipReadings(j, p.seq, skipped, log)
	}
	return p, nil
}

// readingPayload is the contract with whoever consumes readings.
type readingPayload struct {
	Value number `json:"value"`
	Unit  string `json:"unit"`
	Time  stamp  `json:"time"`
	Seq   uint64 `json:"seq"`
}

// number is printed with at most six decimals, which no sensor exceeds, no exponent, and no -0.
type number float64

func (n number) MarshalJSON() ([]byte, error) {
	return strconv.AppendFloat(nil, math.Round(float64(n)*1e6)/1e6+0, 'f', -1, 64), nil
}

// stamp is a time in UTC with milliseconds, or null if there is none.
type stamp time.Time

func (t stamp) MarshalJSON() ([]byte, error) {
	if time.Time(t).IsZero() {
		return []byte("null"), nil
	}
	return time.Time(t).UTC().AppendFormat(nil, `"2006-01-02T15:04:05.000Z"`), nil
}

// reading publishes r. Calls come from the workers of several buses at once; the lock keeps numbers
// and messages in the same order.
func (p *publisher) reading(r sensors.Reading) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seq++
	seq := p.seq
	payload, err := json.Marshal(readingPayload{number(r.Value), r.Unit, stamp(r.Time), seq})
	if err != nil {
		p.report(err)
		return
	}
	p.latest.reading(r, seq)
	if p.observe != nil {
		p.observe.Taken(r, seq)
	}
	m := &broker.Message{Topic: "sensors/" + p.device + "/" + r.Sensor + "/" + r.Quantity, Payload: payload, QoS: 1}
	opts := server.PublishOptions{
		Lazy:    p.lazy,
		Changes: []journal.Change{{Key: seqKey, Value: binary.AppendUvarint(nil, seq)}},
	}
	if p.observe != nil {
		opts.Done = func(err error) { p.observe.Settled(seq, err) }
	}
	err = p.server.Publish(m, opts)
	if err != nil && p.kept {
		p.seq-- // a hole would be a loss that nobody is told of
	}
	p.report(err)
}

type statusPayload struct {
	State    sensors.State `json:"state"`
	Class    sensors.Class `json:"class,omitempty"`
	Reason   string        `json:"reason,omitempty"`
	Since    stamp         `json:"since"`
	LastGood stamp         `json:"last_good"`
}

// status publishes s, retained, so that whoever subscribes later still learns it.
func (p *publisher) status(s sensors.Status) {
	p.latest.status(s)
	payload, err := json.Marshal(statusPayload{s.State, s.Class, s.Reason, stamp(s.Since), stamp(s.LastGood)})
	p.mu.Lock()
	defer p.mu.Unlock()
	if err == nil {
		m := &broker.Message{Topic: "status/" + p.device + "/" + s.Sensor, Payload: payload, QoS: 1, Retain: true}
		err = p.server.Publish(m, server.PublishOptions{Lazy: p.lazy})
	}
	p.report(err)
}

// unpublish takes retained messages back.
func (p *publisher) unpublish(topics ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, topic := range topics {
		p.report(p.server.Publish(&broker.Message{Topic: topic, QoS: 1, Retain: true}, server.PublishOptions{Lazy: p.lazy}))
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
