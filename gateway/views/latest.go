package views

import (
	"sync"

	"holdfast/gateway/status"
	"holdfast/gateway/tap"
	"holdfast/sensors"
	"holdfast/sensors/outputs"
)

// latest is what sensors and outputs published last. It holds one reading for each quantity.
type latest struct {
	mu       sync.Mutex
	health   map[string]status.Health    // by name, of sensors and outputs
	readings map[string][]status.Reading // by sensor, quantities in the order of their first reading
	outputs  map[string]outputs.State
}

func newLatest() *latest {
	return &latest{
		health: map[string]status.Health{}, readings: map[string][]status.Reading{}, outputs: map[string]outputs.State{},
	}
}

// take handles one event.
func (l *latest) take(e tap.Event) {
	switch e := e.(type) {
	case tap.Reading:
		l.reading(e.Reading, e.Seq)
	case sensors.Status:
		l.status(e)
	case outputs.State:
		l.output(e)
	case tap.Forgotten:
		l.forget(e.Names...)
	}
}

func (l *latest) reading(r sensors.Reading, seq uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := status.Reading{Quantity: r.Quantity, Value: r.Value, Unit: r.Unit, Time: r.Time, Seq: seq}
	all := l.readings[r.Sensor]
	for i := range all {
		if all[i].Quantity == r.Quantity {
			all[i] = now
			return
		}
	}
	l.readings[r.Sensor] = append(all, now)
}

func (l *latest) status(s sensors.Status) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.health[s.Sensor] = status.Health{
		State: string(s.State), Class: string(s.Class), Reason: s.Reason, Since: s.Since, LastGood: s.LastGood,
	}
}

func (l *latest) output(s outputs.State) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.outputs[s.Output] = s
}

// forget removes sensors and outputs that have another configuration, or none.
func (l *latest) forget(names ...string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, name := range names {
		delete(l.health, name)
		delete(l.readings, name)
		delete(l.outputs, name)
	}
}

// of returns what is known of the hardware under a name. Called with mu held.
func (l *latest) of(name string) status.Health {
	if h, ok := l.health[name]; ok {
		return h
	}
	return status.Health{State: status.Waiting}
}
