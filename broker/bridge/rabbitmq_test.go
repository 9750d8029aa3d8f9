package bridge

import (
	"testing"

	"holdfast/broker/brokertest"
)

// TestRabbitMQ: a node with durable queues is killed in the middle of a drain and comes back.
func TestRabbitMQ(t *testing.T) {
	m := brokertest.StartRabbitMQ(t)
	s := newStore(t)
	sub := subscribe(t, m)
	b := run(t, s, []string{m.URL()}, nil)
	const n = 2000
	s.numbers(0, n)
	next := sub.until(n/2, 0)
	m.Kill()
	b.logs.wait("upstream lost")
	m.Start()
	sub = subscribe(t, m)
	sub.until(n-1, next)
	b.stop()
	if st := b.Stats(); st.Depth != 0 || st.Acknowledged != n || st.Reconnects == 0 {
		t.Errorf("got %+v, want %d acknowledged", st, n)
	}
}
