package bridge

import (
	"testing"
	"time"

	"holdfast/broker/brokertest"
	"holdfast/broker/wire"
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
	for attempt := 0; next < n; attempt++ {
		if attempt == 6 {
			t.Fatalf("nothing comes after message %d: %+v", next-1, b.Stats())
		}
		next = subscribe(t, m).untilSilent(n-1, next)
	}
	b.stop()
	if st := b.Stats(); st.Depth != 0 || st.Acknowledged != n || st.Reconnects == 0 {
		t.Errorf("got %+v, want %d acknowledged", st, n)
	}
}

// untilSilent is until, but returns when nothing comes for a while: a node that has just come back sometimes sends a session
// nothing until its client connects again.
func (s *subscriber) untilSilent(last, next int) int {
	s.t.Helper()
	defer s.Close()
	for next <= last {
		s.SetReadDeadline(time.Now().Add(20 * time.Second))
		p, err := s.r.ReadPacket()
		if err != nil {
			return next
		}
		m, ok := p.(*wire.Publish)
		if !ok {
			s.t.Fatalf("got %T, want PUBLISH", p)
		}
		next = s.take(m, next)
	}
	return next
}
