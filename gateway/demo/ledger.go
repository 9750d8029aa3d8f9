package demo

import (
	"encoding/json"
	"sync"

	"holdfast/broker"
	"holdfast/gateway/fakeupstream"
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

// Taken and Settled make ledger a gateway.Observer.
func (l *ledger) Taken(r sensors.Reading, _ uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.taken++
	l.latest[r.Sensor+"/"+r.Quantity] = r
}

func (l *ledger) Settled(seq uint64, err error) {
	if err == nil {
		l.Acknowledged(device, seq)
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refused++
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
