package sensors

import (
	"fmt"
	"sync"
)

var errNoBroker = fmt.Errorf("%w: there is no broker here: only a running gateway can read topics", ErrPermanent)

// Host is what the process around it does for a driver, beside the hardware. It is safe for concurrent
// use.
type Host interface {
	// Subscribe calls f for each message on a topic of the local broker, until cancel. f must not block
	// and must not keep payload.
	Subscribe(topic string, f func(payload []byte)) (cancel func(), err error)
	// Recall returns what a sensor had remembered last, in this process or one before; nil if nothing.
	Recall(sensor string) []byte
	// Remember keeps a few bytes for a sensor. It does not wait for the disk: a power cut may bring back
	// what was remembered before.
	Remember(sensor string, state []byte)
}

// NoHost is the Host of a process that offers nothing: it remembers until it ends.
type NoHost struct {
	mu     sync.Mutex
	states map[string][]byte
}

// Subscribe is not possible.
func (*NoHost) Subscribe(string, func([]byte)) (func(), error) { return nil, errNoBroker }

// Recall returns what this process has remembered.
func (h *NoHost) Recall(sensor string) []byte {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.states[sensor]
}

// Remember keeps state in memory.
func (h *NoHost) Remember(sensor string, state []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.states == nil {
		h.states = map[string][]byte{}
	}
	h.states[sensor] = state
}
