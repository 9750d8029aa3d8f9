package outbox_test

import (
	"testing"

	"holdfast/broker/outbox"
	"holdfast/broker/outbox/outboxtest"
)

// TestFaults runs the faults that every sink has to get over with a sink that has no protocol: with an answer for each
// message, and with one for each batch.
func TestFaults(t *testing.T) {
	for name, batches := range map[string]bool{"each": false, "batches": true} {
		t.Run(name, func(t *testing.T) {
			outboxtest.Run(t, func(t *testing.T, o outbox.Options) outboxtest.Subject {
				sink := outboxtest.NewScripted(batches)
				box, err := outbox.New(o, sink)
				if err != nil {
					t.Fatal(err)
				}
				return outboxtest.Subject{Run: box.Run, Stats: box.Stats, Upstream: sink}
			})
		})
	}
}
