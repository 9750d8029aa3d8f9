package bridge

import (
	"context"
	"net"
	"net/url"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/broker"
	"holdfast/broker/wire"
)

// thin is a connection of so many bits per second, from here to the upstream.
type thin struct {
	net.Conn
	bits int
	dead *atomic.Bool // takes what is written, and carries nothing
}

func (c thin) Write(b []byte) (int, error) {
	time.Sleep(time.Duration(len(b)) * 8 * time.Second / time.Duration(c.bits))
	if c.dead.Load() {
		return len(b), nil
	}
	return c.Conn.Write(b)
}

// slow is a link of so many bits per second to a broker.
type slow struct {
	*memoryBroker
	bits  int
	dead  atomic.Bool
	dials atomic.Int32
}

func (s *slow) dial(context.Context, *url.URL) (net.Conn, error) {
	near, far := net.Pipe()
	s.dials.Add(1)
	go s.serve(far)
	return thin{near, s.bits, &s.dead}, nil
}

// TestASlowLink: 50 kbit/s carry a backlog and a message that takes minutes, on one connection, with no more
// in flight than a few seconds' worth.
func TestASlowLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		const messages = 300
		for n := range messages {
			m := numbered(n)
			m.Payload = append(m.Payload, make([]byte, 252)...)
			s.add(m)
		}
		s.add(&broker.Message{Topic: "large", QoS: 1, Payload: make([]byte, 900<<10)})
		got := make(chan *wire.Publish, messages+1)
		up := &slow{memoryBroker: &memoryBroker{got: func(p *wire.Publish) { got <- p }}, bits: 50_000}
		b := run(t, s, []string{"mqtt://slow"}, func(o *Options) { o.Dial = up.dial })
		for n := range messages {
			if m := <-got; number(m.Payload) != n {
				t.Fatalf("got %d, want %d", number(m.Payload), n)
			}
		}
		if st := b.Stats(); st.InFlight > 60 {
			t.Errorf("%d in flight", st.InFlight)
		}
		if m := <-got; m.Topic != "large" {
			t.Errorf("got %+v", m.Topic)
		}
		synctest.Wait()
		b.stop()
		if st := b.Stats(); st.Depth != 0 || st.Reconnects != 0 || up.dials.Load() != 1 {
			t.Errorf("got %+v after %d connections", st, up.dials.Load())
		}
	})
}

// TestAHalfOpenLink: a link that swallows everything is found out, idle or not.
func TestAHalfOpenLink(t *testing.T) {
	for name, busy := range map[string]bool{"idle": false, "QoS 0 only": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStore(t)
				up := &slow{memoryBroker: &memoryBroker{got: func(*wire.Publish) {}}, bits: 1e9}
				began := time.Now()
				b := run(t, s, []string{"mqtt://dead"}, func(o *Options) { o.Dial = up.dial })
				b.logs.wait("upstream connected")
				up.dead.Store(true)
				for up.dials.Load() == 1 {
					if busy {
						b.Deliver(numbered(0))
					}
					time.Sleep(time.Second)
				}
				if took := time.Since(began); took > 60*time.Second {
					t.Errorf("took %v, want a keep alive of 30 s and 20 s", took)
				}
				up.dead.Store(false)
				b.stop()
			})
		})
	}
}
