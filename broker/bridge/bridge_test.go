package bridge

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"holdfast/broker"
	"holdfast/broker/outbox"
	"holdfast/broker/wire"
)

func TestNothingLeavesBeforeItsAcknowledgement(t *testing.T) {
	s, u := newStore(t), newUpstream(t)
	s.numbers(0, 50)
	b := run(t, s, []string{u.url()}, func(o *Options) { o.Window = 10 })
	p := u.welcome()
	ids := p.expect(sequence(0, 10)...)
	p.ack(ids[:4]...)
	p.expect(sequence(10, 14)...)
	st := b.Stats()
	for end := time.Now().Add(time.Minute); st.Sent != 14 && time.Now().Before(end); st = b.Stats() {
		time.Sleep(time.Millisecond) // the figures follow what was sent
	}
	if st.Depth != 46 || st.Acknowledged != 4 {
		t.Errorf("got %+v, want 46 waiting and 4 acknowledged", st)
	}
	b.quit()
	p.goodbye() // and not the 15th message: the window is full
	b.stop()
	got := b.Stats()
	want := Stats{Version: got.Version, Stats: outbox.Stats{Name: "test", Upstream: u.url(), Since: got.Since, Sent: 14, Acknowledged: 4, Depth: 46}}
	if got != want || got.Version != wire.V311 || got.Since.IsZero() {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestBytesInFlightAreBounded(t *testing.T) {
	s, u := newStore(t), newUpstream(t)
	for range 3 {
		s.add(&broker.Message{Topic: "t", Payload: make([]byte, 700<<10), QoS: 1})
	}
	b := run(t, s, []string{u.url()}, nil)
	p := u.welcome()
	first, second := p.publish(), p.publish()
	b.quit()
	p.ack(first.ID, second.ID)
	p.goodbye()
	b.stop()
	if st := b.Stats(); st.Depth != 1 {
		t.Errorf("got %+v, want 1 waiting", st)
	}
}

func TestTheEndWaitsForAcknowledgements(t *testing.T) {
	s, u := newStore(t), newUpstream(t)
	s.numbers(0, 3)
	b := run(t, s, []string{u.url()}, nil)
	p := u.welcome()
	ids := p.expect(0, 1, 2)
	b.quit()
	p.ack(ids...)
	p.goodbye()
	b.stop()
	if st := b.Stats(); st.Depth != 0 || st.Acknowledged != 3 || st.InFlight != 0 {
		t.Errorf("got %+v, want 3 acknowledged", st)
	}
}

func TestAcknowledgedOutOfOrderThenClosed(t *testing.T) {
	s, u := newStore(t), newUpstream(t)
	s.numbers(0, 5)
	b := run(t, s, []string{u.url()}, nil)
	p := u.welcome()
	ids := p.expect(0, 1, 2, 3, 4)
	p.ack(ids[2], ids[4], ids[1])
	p.Close()

	p = u.welcome()
	p.ack(p.expect(0, 3)...)
	s.numbers(5, 6)
	p.ack(p.expect(5)...)
	b.stop()
	st := b.Stats()
	if st.Depth != 0 || st.Sent != 8 || st.Resent != 2 || st.Acknowledged != 6 || st.Reconnects != 1 {
		t.Errorf("got %+v, want 8 sent, 2 resent, 6 acknowledged", st)
	}
	if n := strings.Count(b.logs.String(), "upstream lost"); n != 1 {
		t.Errorf("logged the loss %d times:\n%s", n, b.logs)
	}
}

func TestNeverAcknowledged(t *testing.T) {
	s, u := newStore(t), newUpstream(t)
	s.numbers(0, 3)
	b := run(t, s, []string{u.url()}, func(o *Options) { o.AckTimeout = 50 * time.Millisecond })
	for range 3 {
		p := u.welcome()
		p.expect(0, 1, 2)
		p.goodbye()
	}
	p := u.welcome()
	p.expect(0, 1, 2)
	b.stop()
	st := b.Stats()
	if st.Depth != 3 || st.Acknowledged != 0 || st.Reconnects != 3 || !strings.Contains(st.LastError, "no acknowledgement") {
		t.Errorf("got %+v, want 3 waiting after 3 timeouts", st)
	}
}

func TestFailover(t *testing.T) {
	const password = "correct-horse"
	refuse := func(answer ...byte) func(*peer) {
		return func(p *peer) { _, _ = p.Write(answer) }
	}
	for name, script := range map[string]func(*peer){
		"closes":              func(*peer) {},
		"not authorised":      refuse(0x20, 2, 0, 5),
		"unknown return code": refuse(0x20, 2, 0, 99),
		"not MQTT":            refuse([]byte("HTTP/1.1 400 Bad Request\r\n\r\n")...),
	} {
		t.Run(name, func(t *testing.T) {
			s, bad, good := newStore(t), newUpstream(t), newUpstream(t)
			s.numbers(0, 2)
			b := run(t, s, []string{bad.url(), good.url()}, func(o *Options) {
				o.Credentials = func() (string, string, error) { return "north", password, nil }
			})
			p, connect := bad.accept()
			if connect.Version != wire.V311 || !connect.CleanStart || connect.ClientID != "gateway" ||
				connect.KeepAlive != 30 || connect.Username != "north" || string(connect.Password) != password {
				t.Errorf("got %+v", connect)
			}
			script(p)
			p.Close()
			p = good.welcome()
			p.ack(p.expect(0, 1)...)
			b.quit()
			p.goodbye()
			b.stop()
			st := b.Stats()
			if st.Upstream != good.url() || st.Depth != 0 || st.Reconnects != 0 || st.LastError == "" {
				t.Errorf("got %+v", st)
			}
			if text := b.logs.String() + st.LastError; strings.Contains(text, password) {
				t.Errorf("the password is in:\n%s", text)
			}
		})
	}
}

func TestConnectionsAreTold(t *testing.T) {
	s, u := newStore(t), newUpstream(t)
	told := make(chan string, 10)
	b := run(t, s, []string{u.url()}, func(o *Options) {
		o.Changed = func(connected bool, reason error) { told <- fmt.Sprint(connected, " ", reason != nil) }
	})
	want := func(lines ...string) {
		t.Helper()
		for _, line := range lines {
			if got := <-told; got != line {
				t.Errorf("told %q, want %q", got, line)
			}
		}
	}
	u.welcome().Close()
	want("true false", "false true")
	u.welcome()
	want("true false")
	b.stop()
	want("false false")
}

func TestTheEndDuringAHandshake(t *testing.T) {
	s, u := newStore(t), newUpstream(t)
	b := run(t, s, []string{u.url()}, nil)
	p, _ := u.accept()
	b.stop()
	if _, err := p.r.ReadPacket(); !errors.Is(err, io.EOF) {
		t.Errorf("got %v, want the end of the connection", err)
	}
}

// TestTheEndWithAStuckUpstream has to end although the upstream reads nothing, with more to send than
// the kernel buffers.
func TestTheEndWithAStuckUpstream(t *testing.T) {
	s, u := newStore(t), newUpstream(t)
	s.numbers(0, 1)
	b := run(t, s, []string{u.url()}, nil)
	p := u.welcome()
	p.expect(0)
	for range 32 {
		b.Deliver(&broker.Message{Topic: "t", Payload: make([]byte, 1<<20)})
	}
	b.stop()
	if st := b.Stats(); st.QoS0Dropped == 0 || st.QoS0Sent+st.QoS0Dropped != 32 || st.Depth != 1 {
		t.Errorf("got %+v, want every live message counted", st)
	}
}

func TestRules(t *testing.T) {
	s, u := newStore(t), newUpstream(t)
	b := run(t, s, []string{u.url()}, func(o *Options) {
		o.Out = []Rule{
			{Filter: "a/secret/#", QoS: 1, Prefix: "vault/"},
			{Filter: "a/#", QoS: 1, Strip: "a/", Prefix: "sites/north/"},
			{Filter: "a/never", QoS: 1},
			{Filter: "b/#", QoS: 0, Strip: "b/"},
		}
	})
	p := u.welcome()
	s.add(
		&broker.Message{Topic: "a/secret/1", QoS: 1, Payload: []byte("x")},
		&broker.Message{Topic: "b/", QoS: 1}, // empty when stripped
		&broker.Message{Topic: "c", QoS: 1},  // no rule
		&broker.Message{Topic: "b/", QoS: 1}, // logged once
		&broker.Message{Topic: "a/t", QoS: 2, Retain: true},
		&broker.Message{Topic: "b/t", QoS: 1},
		&broker.Message{Topic: "a/never", QoS: 1},
	)
	for _, want := range []wire.Publish{
		{Topic: "vault/a/secret/1", QoS: 1, Payload: []byte("x")},
		{Topic: "sites/north/t", QoS: 1, Retain: true},
		{Topic: "t", QoS: 0},
		{Topic: "sites/north/never", QoS: 1},
	} {
		m := p.publish()
		if m.Topic != want.Topic || m.QoS != want.QoS || m.Retain != want.Retain || string(m.Payload) != string(want.Payload) {
			t.Errorf("got %+v, want %+v", m, want)
		}
		if m.QoS > 0 {
			p.ack(m.ID)
		}
	}
	b.stop()
	if st := b.Stats(); st.Refused != 3 || st.Acknowledged != 4 || st.Depth != 0 {
		t.Errorf("got %+v, want 3 refused and 4 acknowledged", st)
	}
	if n := strings.Count(b.logs.String(), "message refused"); n != 2 {
		t.Errorf("logged %d refusals, want one for each of 2 reasons:\n%s", n, b.logs)
	}
}

func TestLive(t *testing.T) {
	s, u := newStore(t), newUpstream(t)
	b := run(t, s, []string{u.url()}, func(o *Options) {
		o.Out = []Rule{{Filter: "t/#", QoS: 1, Prefix: "up/"}}
	})
	b.Deliver(numbered(0)) // there is no connection yet
	p := u.welcome()
	b.logs.wait("upstream connected")
	b.Deliver(&broker.Message{Topic: "other"})
	b.Deliver(numbered(1))
	if m := p.publish(); m.Topic != "up/t/n" || m.QoS != 0 || number(m.Payload) != 1 {
		t.Errorf("got %+v", m)
	}
	p.Close()
	b.logs.wait("upstream lost")
	b.Deliver(numbered(2))
	b.stop()
	if st := b.Stats(); st.QoS0Sent != 1 || st.QoS0Dropped != 2 || st.Refused != 1 {
		t.Errorf("got %+v, want 1 sent, 2 dropped, 1 refused", st)
	}
}

func TestUnreadableJournal(t *testing.T) {
	s, u := newStore(t), newUpstream(t)
	s.numbers(0, 2)
	s.fs.fail.Store(true)
	b := run(t, s, []string{u.url()}, nil)
	p := u.welcome()
	b.logs.wait("journal cannot be read")
	b.Deliver(numbered(99))
	p.expect(99)
	s.fs.fail.Store(false)
	p.ack(p.expect(0, 1)...)
	b.stop()
	if st := b.Stats(); st.Depth != 0 || st.Reconnects != 0 {
		t.Errorf("got %+v, want all sent on one connection", st)
	}
	if n := strings.Count(b.logs.String(), "journal cannot be read"); n != 1 {
		t.Errorf("logged %d times", n)
	}
}

func TestLiveQueueIsBounded(t *testing.T) {
	s := newStore(t)
	b, err := New(Options{
		Options: outbox.Options{Reader: s.reader}, Upstreams: []string{"mqtt://localhost"}, ClientID: "x", Out: []Rule{{Filter: "#"}}, MaxQueued: 2,
	})
	if err != nil {
		t.Fatal(err)
	}
	b.connected(wire.V5)
	for n := range 5 {
		b.Deliver(numbered(n))
	}
	if st := b.Stats(); st.QoS0Dropped != 3 {
		t.Errorf("got %d dropped, want 3", st.QoS0Dropped)
	}
	b.disconnected()
	if st := b.Stats(); st.QoS0Dropped != 5 || len(b.live) != 0 {
		t.Errorf("got %d dropped and %d queued, want 5 and 0", st.QoS0Dropped, len(b.live))
	}
}

func TestNewRejects(t *testing.T) {
	s := newStore(t)
	valid := Options{
		Options: outbox.Options{Reader: s.reader}, Upstreams: []string{"mqtt://up.example:1884"}, ClientID: "x", Out: []Rule{{Filter: "#", QoS: 1}},
	}
	if _, err := New(valid); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*Options){
		"reader":       func(o *Options) { o.Reader = nil },
		"client id":    func(o *Options) { o.ClientID = "" },
		"protocol":     func(o *Options) { o.Protocol = wire.V31 },
		"keep alive":   func(o *Options) { o.KeepAlive = 1500 * time.Millisecond },
		"window":       func(o *Options) { o.Window = 65536 },
		"backoff":      func(o *Options) { o.BackoffMin, o.BackoffMax = 2, 1 },
		"negative":     func(o *Options) { o.MaxQueued = -1 },
		"no upstream":  func(o *Options) { o.Upstreams = nil },
		"no rule":      func(o *Options) { o.Out = nil },
		"want mqtt://": func(o *Options) { o.Upstreams = []string{"http://up.example"} },
		"password":     func(o *Options) { o.Upstreams = []string{"mqtt://user:hush@up.example"} },
		"upstream: ":   func(o *Options) { o.Upstreams = []string{"mqtt://hush:x:y"} },
		"malformed":    func(o *Options) { o.Out = []Rule{{Filter: "a/#/b"}} },
		"shared":       func(o *Options) { o.Out = []Rule{{Filter: "$share/g/a"}} },
		"QoS 2":        func(o *Options) { o.Out = []Rule{{Filter: "a", QoS: 2}} },
		"prefix":       func(o *Options) { o.Out = []Rule{{Filter: "a", Prefix: "b/+/"}} },
	} {
		o := valid
		change(&o)
		_, err := New(o)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want an error about %s", err, want)
		}
		if err != nil && strings.Contains(err.Error(), "hush") {
			t.Errorf("%v: shows a secret", err)
		}
	}
}
