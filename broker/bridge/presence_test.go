package bridge

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"holdfast/broker"
	"holdfast/broker/brokertest"
	"holdfast/broker/journal"
	"holdfast/broker/server"
	"holdfast/broker/wire"
)

const statusTopic = "north/status/pi"

func withStatus(v wire.Version) func(*Options) {
	return func(o *Options) { o.Protocol, o.Status = v, statusTopic }
}

// online reads what a bridge says first, and acknowledges it.
func (p *peer) online() {
	p.t.Helper()
	p.ack(p.says(Online))
}

func (p *peer) says(payload string) (id uint16) {
	p.t.Helper()
	m := p.publish()
	if m.Topic != statusTopic || string(m.Payload) != payload || !m.Retain || m.QoS != 1 {
		p.t.Fatalf("got %+v, want %s on %s", m, payload, statusTopic)
	}
	return m.ID
}

// TestStatus: the will is with the upstream before anything else is, online is acknowledged before a message of
// the journal goes, and offline comes behind the last one.
func TestStatus(t *testing.T) {
	versions(t, func(t *testing.T, v wire.Version) {
		u, s := newUpstream(t), newStore(t)
		s.numbers(0, 2)
		b := run(t, s, []string{u.url()}, withStatus(v))
		p, connect := u.accept()
		w := connect.Will
		if w == nil || w.Topic != statusTopic || string(w.Payload) != Offline || !w.Retain || w.QoS != 1 || w.Delay != 0 {
			t.Fatalf("will %+v", w)
		}
		receive := uint16(1) // which the status does not exceed either
		p.send(&wire.Connack{Properties: wire.Properties{ReceiveMaximum: &receive}})
		id := p.says(Online)
		p.send(&wire.Ping{Type: wire.PINGRESP}) // nothing follows before the acknowledgement
		p.ack(id)
		if v == wire.V5 {
			p.ack(p.expect(0)...)
			p.ack(p.expect(1)...)
		} else {
			p.ack(p.expect(0, 1)...)
		}
		b.quit()
		p.ack(p.says(Offline))
		d, ok := p.read().(*wire.Disconnect)
		if !ok || d.Code != wire.Success {
			t.Fatalf("got %+v, want DISCONNECT", d)
		}
		b.stop()
	})
}

// TestStatusOfABrokenConnection: a connection that the bridge gives up ends so that the will is published.
func TestStatusOfABrokenConnection(t *testing.T) {
	versions(t, func(t *testing.T, v wire.Version) {
		u, s := newUpstream(t), newStore(t)
		s.numbers(0, 1)
		run(t, s, []string{u.url()}, func(o *Options) {
			withStatus(v)(o)
			o.AckTimeout = 50 * time.Millisecond
		})
		p := u.welcome()
		p.online()
		p.expect(0) // and no acknowledgement
		packet, err := p.r.ReadPacket()
		d, said := packet.(*wire.Disconnect)
		if v == wire.V5 && (!said || d.Code != wire.DisconnectWithWill) || v != wire.V5 && err == nil {
			t.Fatalf("got %+v, %v", packet, err)
		}
		p = u.welcome()
		p.online()
		p.ack(p.expect(0)...)
	})
}

// TestStatusIsRepeated: a will that the upstream publishes late does not have the last word.
func TestStatusIsRepeated(t *testing.T) {
	u, s := newUpstream(t), newStore(t)
	run(t, s, []string{u.url()}, func(o *Options) {
		withStatus(wire.V5)(o)
		o.KeepAlive = time.Second
	})
	p := u.welcome()
	p.online()
	for {
		switch m := p.read().(type) {
		case *wire.Ping:
			p.send(&wire.Ping{Type: wire.PINGRESP})
			continue
		case *wire.Publish:
			if string(m.Payload) != Online {
				t.Fatalf("got %+v", m)
			}
			p.ack(m.ID)
		default:
			t.Fatalf("got %+v", m)
		}
		break
	}
}

// TestStatusThatIsNotAllowed: messages go all the same, and nothing is said any more, however an upstream does
// not allow it.
func TestStatusThatIsNotAllowed(t *testing.T) {
	quiet := func(t *testing.T, u *upstream, b *running) {
		t.Helper()
		p, connect := u.accept()
		if connect.Will != nil {
			t.Fatalf("will %+v", connect.Will)
		}
		p.send(&wire.Connack{})
		p.ack(p.expect(0)...)
		b.logs.wait("does not let the gateway say")
		b.quit()
		p.goodbye()
	}
	versions(t, func(t *testing.T, v wire.Version) {
		t.Run("will", func(t *testing.T) {
			u, s := newUpstream(t), newStore(t)
			s.numbers(0, 1)
			b := run(t, s, []string{u.url()}, withStatus(v))
			p, _ := u.accept()
			p.send(&wire.Connack{Code: wire.NotAuthorized})
			quiet(t, u, b)
		})
		t.Run("closed", func(t *testing.T) {
			u, s := newUpstream(t), newStore(t)
			s.numbers(0, 1)
			b := run(t, s, []string{u.url()}, withStatus(v))
			for range presenceDisconnects + 1 {
				p := u.welcome()
				p.says(Online)
				p.Close()
			}
			quiet(t, u, b)
		})
	})
	t.Run("refused", func(t *testing.T) {
		u, s := newUpstream(t), newStore(t)
		b := run(t, s, []string{u.url()}, withStatus(wire.V5))
		p := u.welcome()
		p.send(&wire.Ack{Type: wire.PUBACK, ID: p.says(Online), Code: wire.NotAuthorized})
		s.numbers(0, 1)
		p.ack(p.expect(0)...)
		p.Close()
		s.numbers(0, 1)
		quiet(t, u, b)
	})
	t.Run("credentials", func(t *testing.T) { // the will is not to blame
		u, s := newUpstream(t), newStore(t)
		b := run(t, s, []string{u.url()}, withStatus(wire.V5))
		for range 2 {
			p, _ := u.accept()
			p.send(&wire.Connack{Code: wire.NotAuthorized})
		}
		if _, connect := u.accept(); connect.Will == nil || strings.Contains(b.logs.String(), "does not let") {
			t.Errorf("will %+v, log\n%s", connect.Will, b.logs)
		}
	})
}

// stalled is a connection that can be left as if the network had gone: the other side hears nothing of it.
type stalled struct {
	net.Conn
	gone atomic.Bool
}

func (s *stalled) leave() {
	s.gone.Store(true)
	_ = s.Conn.SetReadDeadline(time.Now().Add(-time.Second))
}

func (s *stalled) Close() error {
	if s.gone.Load() {
		return nil
	}
	return s.Conn.Close()
}

func (s *stalled) SetReadDeadline(t time.Time) error {
	if s.gone.Load() {
		return nil
	}
	return s.Conn.SetReadDeadline(t)
}

func (s *stalled) Write(b []byte) (int, error) {
	if s.gone.Load() {
		return len(b), nil
	}
	return s.Conn.Write(b)
}

// TestStatusAtATakeOver: the bridge comes back while the upstream still holds its last connection for alive.
// What is retained afterwards is online, with clean sessions and with those that last.
func TestStatusAtATakeOver(t *testing.T) {
	brokers := map[string]func(t *testing.T) string{
		"mosquitto": func(t *testing.T) string { return brokertest.StartMosquitto(t, brokertest.MosquittoOptions{}).Addr() },
		"holdfast":  startServer,
	}
	for name, start := range brokers {
		for _, v := range []wire.Version{wire.V311, wire.V5} {
			for _, lasting := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/%d/lasting=%v", name, v, lasting), func(t *testing.T) {
					addr := start(t)
					watcher := watch(t, addr)
					s := newStore(t)
					var mu sync.Mutex
					var last *stalled
					b := run(t, s, []string{"mqtt://" + addr}, func(o *Options) {
						withStatus(v)(o)
						o.Out = []Rule{{Filter: "t/#", QoS: 1}}
						o.Dial = func(ctx context.Context, u *url.URL) (net.Conn, error) {
							nc, err := net.Dial("tcp", u.Host)
							if err != nil {
								return nil, err
							}
							t.Cleanup(func() { nc.Close() })
							mu.Lock()
							defer mu.Unlock()
							last = &stalled{Conn: nc}
							return last, nil
						}
						if lasting {
							o.In, o.Journal = []Rule{{Filter: "cmd/#", QoS: 1}}, s.j
							o.Publish = func(_ *broker.Message, _ []journal.Change, done func(error)) { done(nil) }
						}
					})
					for n := range 4 {
						if n > 0 {
							mu.Lock()
							last.leave()
							mu.Unlock()
						}
						s.numbers(n, n+1)
						if status := watcher.before(n); status != Online {
							t.Fatalf("%s before message %d", status, n)
						}
					}
					if late := watch(t, addr); late.next() != Online {
						t.Error("another status is retained")
					}
					b.stop()
					if got := watcher.next(); got != Offline {
						t.Errorf("%s at the end", got)
					}
					if late := watch(t, addr); late.next() != Offline {
						t.Error("another status is retained after the end")
					}
				})
			}
		}
	}
}

func startServer(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	anybody := true
	srv, err := server.New(server.Options{Journal: newStore(t).j, Listeners: []server.Listener{{
		Open: func(context.Context) (net.Listener, error) { return l, nil }, Anonymous: &anybody,
	}}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var ended sync.WaitGroup
	ended.Go(func() {
		if err := srv.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		cancel()
		ended.Wait()
	})
	return l.Addr().String()
}

// watcher subscribes to the status and to numbered messages.
type watcher struct{ *peer }

func watch(t *testing.T, addr string) watcher {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	p := &peer{c, t, wire.NewReader(c, 0), wire.V311}
	p.send(&wire.Connect{Version: wire.V311, CleanStart: true})
	if ack, ok := p.read().(*wire.Connack); !ok || ack.Code != wire.Success {
		t.Fatalf("got %+v, want CONNACK", ack)
	}
	p.send(&wire.Subscribe{ID: 1, Subscriptions: []wire.Subscription{{Filter: statusTopic, QoS: 1}, {Filter: "t/n", QoS: 1}}})
	if _, ok := p.read().(*wire.Suback); !ok {
		t.Fatal("want SUBACK")
	}
	return watcher{p}
}

func (w watcher) next() string {
	w.t.Helper()
	m := w.publish()
	w.ack(m.ID)
	return string(m.Payload)
}

// before reads up to message n, and returns the newest status by then.
func (w watcher) before(n int) (status string) {
	w.t.Helper()
	for {
		m := w.publish()
		w.ack(m.ID)
		if m.Topic == statusTopic {
			status = string(m.Payload)
		} else if number(m.Payload) == n {
			return status
		}
	}
}
