package demo

import (
	"encoding/json"
	"sync"

	"holdfast/broker"
	"holdfast/gateway/fakeupstream"
	"holdfast/gateway/tap"
	"holdfast/sensors"
)

// ledger follows every reading by its number, from three places that share no code: where the sensor
// was read, where the local broker settled it, and where it arrived upstream.
type ledger struct {
	*fakeupstream.Ledger

	mu      sync.Mutex
	taken   int
	refused int
	latest  map[string]sensors.Reading // by sensor and quantity
}

// device is the one stream of numbers there is.
const device = "demo"

func newLedger() *ledger {
	return &ledger{Ledger: fakeupstream.NewLedger(), latest: map[string]sensors.Reading{}}
}

// take notes one of the gateway's events.
func (l *ledger) take(e tap.Event) {
	switch e := e.(type) {
	case tap.Reading:
		l.mu.Lock()
		defer l.mu.Unlock()
		l.taken++
		l.latest[e.Sensor+"/"+e.Quantity] = e.Reading
	case tap.Settled:
		if e.Err == nil {
			l.Acknowledged(device, e.Seq)
			return
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		l.refused++
	}
}

// arrived is called for each message that the upstream takes.
func (l *ledger) arrived(m *broker.Message) {
	var reading struct{ Seq uint64 }
	if json.Unmarshal(m.Payload, &reading) == nil && reading.Seq != 0 {
		l.Arrived(device, m.Topic, reading.Seq)
	}
}

// Totals are the ledger's sums. Lost counts acknowledged readings that never arrived.
type Totals struct {
	Taken, Acknowledged, Refused, Delivered, Duplicates, Disorder, Lost int
}

func (l *ledger) totals() Totals {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.Totals()
	return Totals{
		Taken: l.taken, Acknowledged: t.Acknowledged, Refused: l.refused, Delivered: t.Delivered,
		Duplicates: t.Duplicates, Disorder: t.Disorder, Lost: t.Missing,
	}
}
