package bridge

import (
	"net"
	"testing"

	"holdfast/broker"
	"holdfast/broker/brokertest"
	"holdfast/broker/wire"
)

// subscriber is a client with a session that lasts.
type subscriber struct{ *peer }

// subscribe connects to m; a session that m still has goes on.
func subscribe(t testing.TB, m interface{ Addr() string }) *subscriber {
	t.Helper()
	c, err := net.Dial("tcp", m.Addr())
	if err != nil {
		t.Fatal(err)
	}
	return subscribeOver(t, c)
}

// subscribeOver is subscribe on a connection, which ends with the test.
func subscribeOver(t testing.TB, c net.Conn) *subscriber {
	t.Helper()
	t.Cleanup(func() { c.Close() })
	p := &peer{c, t, wire.NewReader(c, 0), wire.V311}
	p.send(&wire.Connect{Version: wire.V311, ClientID: "subscriber"})
	ack, ok := p.read().(*wire.Connack)
	if !ok || ack.Code != wire.Success {
		t.Fatalf("got %+v, want CONNACK", ack)
	}
	if !ack.SessionPresent {
		p.send(&wire.Subscribe{ID: 1, Subscriptions: []wire.Subscription{{Filter: "#", QoS: 1}}})
		if _, ok := p.read().(*wire.Suback); !ok {
			t.Fatal("want SUBACK")
		}
	}
	return &subscriber{p}
}

// until acknowledges messages up to number last. First deliveries have to come without a gap, from
// next on; it returns the next one.
func (s *subscriber) until(last, next int) int {
	s.t.Helper()
	for next <= last {
		m := s.publish()
		s.ack(m.ID)
		switch n := number(m.Payload); {
		case n > next:
			s.t.Fatalf("got message %d, want %d first", n, next)
		case n == next:
			next++
		}
	}
	return next
}

func TestMosquittoRestarts(t *testing.T) {
	m := brokertest.StartMosquitto(t, brokertest.MosquittoOptions{Persistence: true})
	s := newStore(t)
	b := run(t, s, []string{m.URL()}, nil)
	sub := subscribe(t, m)
	next := 0
	const each = 1000
	for round := range 3 {
		s.numbers(round*each, (round+1)*each)
		next = sub.until((round+1)*each-each/2, next) // so that it stops in the middle of a window
		m.Stop()
		m.Start()
		sub = subscribe(t, m)
	}
	sub.until(3*each-1, next)
	b.stop()
	if st := b.Stats(); st.Depth != 0 || st.Acknowledged != 3*each || st.Reconnects == 0 {
		t.Errorf("got %+v, want %d acknowledged", st, 3*each)
	}
}

func TestMosquittoKilledAndReplaced(t *testing.T) {
	first := brokertest.StartMosquitto(t, brokertest.MosquittoOptions{})
	second := brokertest.StartMosquitto(t, brokertest.MosquittoOptions{})
	s := newStore(t)
	here, there := subscribe(t, first), subscribe(t, second)
	b := run(t, s, []string{first.URL(), second.URL()}, nil)
	s.numbers(0, 100)
	here.until(99, 0)
	first.Kill()
	b.logs.wait("upstream lost")
	s.numbers(100, 200)
	there.until(199, 100) // what the first acknowledged last may come again
	b.stop()
	if st := b.Stats(); st.Depth != 0 || st.Upstream != second.URL() {
		t.Errorf("got %+v, want all acknowledged by the second", st)
	}
}

// BenchmarkDrain empties a backlog of 256-byte messages into a Mosquitto with one subscriber.
func BenchmarkDrain(b *testing.B) {
	m := brokertest.StartMosquitto(b, brokertest.MosquittoOptions{})
	s := newStore(b)
	sub := subscribe(b, m)
	var messages []*broker.Message
	for n := range b.N {
		message := numbered(n)
		message.Payload = append(message.Payload, make([]byte, 252)...)
		messages = append(messages, message)
	}
	s.add(messages...)
	b.ReportAllocs()
	b.ResetTimer()
	br := run(b, s, []string{m.URL()}, nil)
	sub.until(b.N-1, 0)
	b.StopTimer()
	br.stop()
}
