package bridge

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"sync"
	"testing"
	"time"

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
		next = s.take(s.publish(), next)
	}
	return next
}

// take acknowledges a message and returns the next number, which is next as long as the message has come before.
func (s *subscriber) take(m *wire.Publish, next int) int {
	s.t.Helper()
	s.ack(m.ID)
	n := number(m.Payload)
	if n > next {
		s.t.Fatalf("got message %d, want %d first", n, next)
	}
	return max(next, n+1)
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

// TestMosquittoRetained: what changed or was deleted at a real broker while the link was down, at either QoS, is put right at
// the reconnect and after a restart, and all else stays: there are more retained messages than it queues for a client.
func TestMosquittoRetained(t *testing.T) {
	const many = 1100
	versions(t, func(t *testing.T, version wire.Version) {
		m := brokertest.StartMosquitto(t, brokertest.MosquittoOptions{MaxQueued: 1000})
		c, err := net.Dial("tcp", m.Addr())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		p := &peer{c, t, wire.NewReader(c, 0), wire.V311}
		p.send(&wire.Connect{Version: wire.V311, ClientID: "publisher", CleanStart: true})
		p.read()
		retain := func(qos byte, topic, value string) {
			t.Helper()
			p.send(&wire.Publish{Topic: "site/" + topic, Payload: []byte(value), QoS: qos, ID: uint16(qos), Retain: true})
			p.send(&wire.Ping{Type: wire.PINGREQ})
			for range 1 + qos {
				p.read()
			}
		}
		want := map[string]string{}
		for n := range many {
			topic := fmt.Sprintf("state/%04d", n)
			want["local/"+topic] = "1"
			retain(0, topic, "1")
		}
		s := newStore(t)
		l := newLocalRetained(s)
		var mu sync.Mutex
		var up net.Conn // nil and down while there is no link
		down := false
		link := func(is bool) {
			mu.Lock()
			defer mu.Unlock()
			if down = !is; down && up != nil {
				up.Close()
			}
		}
		start := func() *running {
			return run(t, s, []string{m.URL()}, func(o *Options) {
				l.options(version, Rule{Filter: "site/#", QoS: 1, Strip: "site/", Prefix: "local/"})(o)
				o.Dial = func(ctx context.Context, u *url.URL) (nc net.Conn, err error) {
					mu.Lock()
					defer mu.Unlock()
					if down {
						return nil, errors.New("no link")
					}
					up, err = net.Dial("tcp", u.Host)
					return up, err
				}
			})
		}
		until := func() {
			t.Helper()
			for deadline := time.Now().Add(time.Minute); !maps.Equal(l.now(), want); {
				if time.Now().After(deadline) {
					t.Fatalf("%d are retained here, want %d", len(l.now()), len(want))
				}
				time.Sleep(10 * time.Millisecond)
			}
		}
		change := func(n int) {
			for qos := range byte(2) {
				changed, deleted, other := fmt.Sprintf("state/%04d", n), fmt.Sprintf("state/%04d", n+1), fmt.Sprintf("state/%04d", n+2)
				retain(qos, changed, "2")
				retain(qos, deleted, "")
				want["local/"+changed], want["local/"+other] = "2", "here"
				delete(want, "local/"+deleted)
				l.put(&broker.Message{Topic: "local/" + other, Payload: []byte("here"), Retain: true}, false)
				if version != wire.V5 || qos == 0 { // else the deletion is in its queue, as a message like others
					retain(qos, other, "")
				}
				n += 3
			}
		}
		b := start()
		var synced map[string]string // when no more have come for a while
		for deadline, quiet := time.Now().Add(time.Minute), 0; len(synced) < 1000 || quiet < 300; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%d are retained here", len(synced))
			}
			if now := l.now(); len(now) == len(synced) {
				quiet++
			} else {
				synced, quiet = now, 0
			}
		}
		for n := range many { // those it had no room for
			if topic := fmt.Sprintf("state/%04d", n); synced["local/"+topic] == "" {
				retain(1, topic, "")
				delete(want, "local/"+topic)
			}
		}
		until()
		time.Sleep(100 * time.Millisecond)
		l.published()
		link(false)
		b.logs.wait("upstream lost")
		change(0)
		link(true)
		until()
		if came := l.published(); len(came) > 12 {
			t.Errorf("published %d messages, want what has changed: %q", len(came), came[:12])
		}
		b.stop()
		l.restart()
		change(10)
		b = start()
		until()
		b.stop()
		if came := l.published(); len(came) > 12 {
			t.Errorf("after a restart: published %d messages, want what has changed: %q", len(came), came[:12])
		}
	})
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
