package demo

import (
	"encoding/json"
	"sync"

	"holdfast/broker"
	"holdfast/sensors"
)

// ledger follows every reading by its number, from three places that share no code: where the sensor
// was read, where the local broker settled it, and where it arrived upstream.
type ledger struct {
	mu        sync.Mutex
	taken     map[uint64]bool
	acked     map[uint64]bool
	refused   map[uint64]error
	delivered map[uint64]int
	last      map[string]uint64 // by topic
	disorder  int
	latest    map[string]sensors.Reading // by sensor and quantity
}

func newLedger() *ledger {
	return &ledger{
		taken: map[uint64]bool{}, acked: map[uint64]bool{}, refused: map[uint64]error{},
		delivered: map[uint64]int{}, last: map[string]uint64{}, latest: map[string]sensors.Reading{},
	}
}

// Taken and Settled make ledger a gateway.Observer.
func (l *ledger) Taken(r sensors.Reading, seq uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.taken[seq] = true
	l.latest[r.Sensor+"/"+r.Quantity] = r
}

func (l *ledger) Settled(seq uint64, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.refused[seq] = err
	} else {
		l.acked[seq] = true
	}
}

// arrived is called for each message that the upstream takes.
func (l *ledger) arrived(m *broker.Message) {
	var reading struct{ Seq uint64 }
	if json.Unmarshal(m.Payload, &reading) != nil || reading.Seq == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.delivered[reading.Seq]++
	if l.delivered[reading.Seq] == 1 {
		if reading.Seq < l.last[m.Topic] {
			l.disorder++
		}
		l.last[m.Topic] = reading.Seq
	}
}

// Totals are the ledger's sums. Lost counts acknowledged readings that never arrived.
type Totals struct {
	Taken, Acknowledged, Refused, Delivered, Duplicates, Disorder, Lost int
}

func (l *ledger) totals() Totals {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := Totals{
		Taken: len(l.taken), Acknowledged: len(l.acked), Refused: len(l.refused),
		Delivered: len(l.delivered), Disorder: l.disorder,
	}
	for _, n := range l.delivered {
		t.Duplicates += n - 1
	}
	for seq := range l.acked {
		if l.delivered[seq] == 0 {
			t.Lost++
		}
	}
	return t
}
