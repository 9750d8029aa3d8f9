package gateway

import (
	"errors"
	"log/slog"
	"sync"

	"holdfast/broker"
	"holdfast/broker/journal"
	"holdfast/broker/server"
	"holdfast/sensors"
)

// stateKey is the journal's key for a sensor's state, such as a counter's total.
const stateKey = "gateway/state/"

// host serves the sensors' drivers.
type host struct {
	journal *journal.Journal
	server  *server.Server
	log     *slog.Logger

	mu     sync.Mutex
	states map[string][]byte // newer than the journal's, perhaps
}

var _ sensors.Host = (*host)(nil)

func newHost(j *journal.Journal, s *server.Server, log *slog.Logger) *host {
	h := &host{journal: j, server: s, log: log, states: map[string][]byte{}}
	j.Range(stateKey, func(key string, value []byte) bool {
		h.states[key[len(stateKey):]] = value
		return true
	})
	return h
}

// Subscribe listens to the local broker.
func (h *host) Subscribe(topic string, f func(payload []byte)) (cancel func(), err error) {
	if err := broker.CheckTopic(topic); err != nil {
		return nil, errors.Join(sensors.ErrPermanent, err)
	}
	return h.server.Subscribe(topic, func(m *broker.Message) { f(m.Payload) })
}

// Recall returns the state that a sensor has stored with Remember.
func (h *host) Recall(sensor string) []byte {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.states[sensor]
}

// Remember stores a sensor's state in the journal with the next shared commit: it costs no flush of its own.
func (h *host) Remember(sensor string, state []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.states[sensor] = state
	e := journal.Entry{Changes: []journal.Change{{Key: stateKey + sensor, Value: state}}, Lazy: true}
	if err := h.journal.Append(e); err != nil {
		h.log.Error("a sensor's state is not kept for the next start", "sensor", sensor, "error", err)
	}
}
