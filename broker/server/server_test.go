package server_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"

	"holdfast/broker"
	"holdfast/broker/brokertest"
	"holdfast/broker/journal"
	"holdfast/broker/server"
	"holdfast/broker/wire"
)

// host is a server on a journal that outlives it.
type host struct {
	t       testing.TB
	dir     string
	opts    server.Options
	disk    func(journal.FS) journal.FS // stands between the journal and its directory; may be nil
	journal *journal.Journal
	*server.Server
	addr string
	stop func()
}

func newHost(t testing.TB, opts server.Options) *host {
	h := &host{t: t, dir: t.TempDir(), opts: opts}
	h.start()
	t.Cleanup(func() { h.stop() })
	return h
}

func (h *host) start() {
	h.t.Helper()
	dir, err := journal.NewDirFS(h.dir)
	if err != nil {
		h.t.Fatal(err)
	}
	fs := journal.FS(dir)
	if h.disk != nil {
		fs = h.disk(fs)
	}
	if h.journal, err = journal.Open(journal.Options{FS: fs, MaxSize: 64 << 20}); err != nil {
		h.t.Fatal(err)
	}
	h.opts.Journal, h.opts.Anonymous = h.journal, true
	if h.opts.Listeners == nil {
		h.opts.Listeners = []server.Listener{{Network: "tcp", Address: "127.0.0.1:0"}}
	}
	if h.Server, err = server.New(h.opts); err != nil {
		h.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- h.Run(ctx) }()
	h.addr = h.Addrs()[0].String()
	h.stop = func() {
		cancel()
		if err := <-ended; err != nil {
			h.t.Error(err)
		}
		if err := h.journal.Close(); err != nil {
			h.t.Error(err)
		}
	}
}

func (h *host) restart() {
	h.stop()
	h.start()
}

// client connects with a clean session that ends with the connection, or resumes a durable one.
func (h *host) client(v wire.Version, id string, durable bool) *brokertest.Client {
	h.t.Helper()
	c, _ := h.connect(v, wire.Connect{ClientID: id, CleanStart: !durable}, durable)
	return c
}

func (h *host) connect(v wire.Version, p wire.Connect, durable bool) (*brokertest.Client, *wire.Connack) {
	h.t.Helper()
	if durable && v == wire.V5 {
		p.Properties.SessionExpiry = ptr(uint32(3600))
	}
	c := brokertest.Dial(h.t, h.addr, v)
	ack := c.Connect(p)
	if ack.Code != wire.Success {
		h.t.Fatalf("CONNACK: %v", ack.Code)
	}
	return c, ack
}

func ptr[T any](v T) *T { return &v }

func subscribe(t testing.TB, c *brokertest.Client, filter string, qos byte) {
	t.Helper()
	c.Send(&wire.Subscribe{ID: 1, Subscriptions: []wire.Subscription{{Filter: filter, QoS: qos}}})
	if got := brokertest.Receive[*wire.Suback](c); got.ID != 1 || got.Codes[0] != wire.Code(qos) {
		t.Fatalf("SUBACK: %+v", got)
	}
}

// publish sends one message and waits for its acknowledgement.
func publish(t testing.TB, c *brokertest.Client, p wire.Publish) {
	t.Helper()
	if p.QoS > 0 && p.ID == 0 {
		p.ID = 7
	}
	c.Send(&p)
	switch p.QoS {
	case 1:
		if a := brokertest.Receive[*wire.Ack](c); a.Type != wire.PUBACK || a.ID != p.ID || a.Code != 0 {
			t.Fatalf("PUBACK: %+v", a)
		}
	case 2:
		if a := brokertest.Receive[*wire.Ack](c); a.Type != wire.PUBREC || a.ID != p.ID || a.Code != 0 {
			t.Fatalf("PUBREC: %+v", a)
		}
		c.Send(&wire.Ack{Type: wire.PUBREL, ID: p.ID})
		if a := brokertest.Receive[*wire.Ack](c); a.Type != wire.PUBCOMP || a.ID != p.ID || a.Code != 0 {
			t.Fatalf("PUBCOMP: %+v", a)
		}
	}
}

// receive takes one message and completes its handshake.
func receive(t testing.TB, c *brokertest.Client) *wire.Publish {
	t.Helper()
	p := brokertest.Receive[*wire.Publish](c)
	switch p.QoS {
	case 1:
		c.Send(&wire.Ack{Type: wire.PUBACK, ID: p.ID})
	case 2:
		c.Send(&wire.Ack{Type: wire.PUBREC, ID: p.ID})
		if a := brokertest.Receive[*wire.Ack](c); a.Type != wire.PUBREL || a.ID != p.ID {
			t.Fatalf("PUBREL: %+v", a)
		}
		c.Send(&wire.Ack{Type: wire.PUBCOMP, ID: p.ID})
	}
	return p
}

var versions = []wire.Version{wire.V311, wire.V5}

// each runs a test for both versions, and for sessions that end with the connection and durable ones.
func each(t *testing.T, f func(t *testing.T, h *host, v wire.Version, durable bool)) {
	for _, v := range versions {
		for _, durable := range []bool{false, true} {
			t.Run(fmt.Sprintf("version %d, durable %v", v, durable), func(t *testing.T) {
				f(t, newHost(t, server.Options{}), v, durable)
			})
		}
	}
}

func TestEveryQoSToEveryQoS(t *testing.T) {
	each(t, func(t *testing.T, h *host, v wire.Version, durable bool) {
		pub := h.client(v, "publisher", durable)
		for granted := range byte(3) {
			sub := h.client(v, fmt.Sprint("subscriber", granted), durable)
			subscribe(t, sub, "a/+/c", granted)
			for qos := range byte(3) {
				publish(t, pub, wire.Publish{Topic: "a/b/c", Payload: []byte{qos}, QoS: qos})
				got := receive(t, sub)
				if got.Topic != "a/b/c" || got.Payload[0] != qos || got.QoS != min(qos, granted) || got.Dup || got.Retain {
					t.Errorf("published at %d, granted %d: got %+v", qos, granted, got)
				}
			}
			sub.Silent()
			sub.Close()
		}
	})
}

func TestOfflineMessagesComeInOrderAfterARestart(t *testing.T) {
	const n = 3000
	for _, v := range versions {
		t.Run(fmt.Sprint("version ", v), func(t *testing.T) {
			h := newHost(t, server.Options{})
			sub := h.client(v, "sub", true)
			subscribe(t, sub, "#", 2)
			sub.Close()
			pub := h.client(v, "pub", false)
			for i := range n {
				pub.Send(&wire.Publish{Topic: "t", Payload: fmt.Appendf(nil, "%d", i), QoS: 1 + byte(i%2), ID: uint16(i%50 + 1)})
				if i%50 == 49 { // within the receive maximum
					settle(t, pub, 50)
				}
			}
			h.restart()
			sub, ack := h.connect(v, wire.Connect{ClientID: "sub"}, true)
			if !ack.SessionPresent {
				t.Fatal("session is gone")
			}
			order := map[byte]int{1: -2, 2: -1}
			for range n {
				got := receiveAny(t, sub)
				var i int
				fmt.Sscan(string(got.Payload), &i)
				if want := order[got.QoS] + 2; i != want {
					t.Fatalf("QoS %d: got message %d, want %d", got.QoS, i, want)
				}
				order[got.QoS] = i
			}
		})
	}
}

// settle reads the answers to a publisher of n messages, in any order.
func settle(t testing.TB, c *brokertest.Client, n int) {
	t.Helper()
	for n > 0 {
		switch a := brokertest.Receive[*wire.Ack](c); a.Type {
		case wire.PUBREC:
			c.Send(&wire.Ack{Type: wire.PUBREL, ID: a.ID})
		case wire.PUBACK, wire.PUBCOMP:
			n--
		}
	}
}

// receiveAny takes the next message, answering the handshakes of others that come before it.
func receiveAny(t testing.TB, c *brokertest.Client) *wire.Publish {
	t.Helper()
	for {
		p, err := c.Next()
		if err != nil {
			t.Fatal(err)
		}
		switch p := p.(type) {
		case *wire.Ack:
			c.Send(&wire.Ack{Type: wire.PUBCOMP, ID: p.ID})
		case *wire.Publish:
			if p.QoS == 1 {
				c.Send(&wire.Ack{Type: wire.PUBACK, ID: p.ID})
			} else if p.QoS == 2 {
				c.Send(&wire.Ack{Type: wire.PUBREC, ID: p.ID})
			}
			return p
		default:
			t.Fatalf("unexpected %s", brokertest.Describe(p))
		}
	}
}

func TestUnacknowledgedIsSentAgainUnderItsIdentifier(t *testing.T) {
	for _, v := range versions {
		for _, restarted := range []bool{false, true} {
			t.Run(fmt.Sprintf("version %d, restarted %v", v, restarted), func(t *testing.T) {
				h := newHost(t, server.Options{})
				sub := h.client(v, "sub", true)
				subscribe(t, sub, "t/#", 2)
				pub := h.client(v, "pub", false)
				publish(t, pub, wire.Publish{Topic: "t/1", QoS: 1})
				one := brokertest.Receive[*wire.Publish](sub)
				publish(t, pub, wire.Publish{Topic: "t/2", QoS: 2})
				two := brokertest.Receive[*wire.Publish](sub)
				publish(t, pub, wire.Publish{Topic: "t/3", QoS: 2})
				three := brokertest.Receive[*wire.Publish](sub)
				sub.Send(&wire.Ack{Type: wire.PUBREC, ID: three.ID})
				if a := brokertest.Receive[*wire.Ack](sub); a.Type != wire.PUBREL {
					t.Fatalf("want PUBREL, got %+v", a)
				}
				sub.Close()
				if restarted {
					h.restart()
				}
				sub, _ = h.connect(v, wire.Connect{ClientID: "sub"}, true)
				again := map[string]*wire.Publish{}
				for range 3 {
					p, err := sub.Next()
					if err != nil {
						t.Fatal(err)
					}
					switch p := p.(type) {
					case *wire.Ack:
						if p.Type != wire.PUBREL || p.ID != three.ID {
							t.Errorf("want PUBREL of %d, got %+v", three.ID, p)
						}
						sub.Send(&wire.Ack{Type: wire.PUBCOMP, ID: p.ID})
					case *wire.Publish:
						again[p.Topic] = p
						if !p.Dup {
							t.Errorf("%s: without DUP", p.Topic)
						}
					}
				}
				if p := again["t/1"]; p == nil || !restarted && p.ID != one.ID {
					t.Errorf("QoS 1: got %+v, want identifier %d", p, one.ID)
				}
				if p := again["t/2"]; p == nil || p.ID != two.ID {
					t.Errorf("QoS 2: got %+v, want identifier %d", p, two.ID)
				}
				sub.Send(&wire.Ack{Type: wire.PUBACK, ID: again["t/1"].ID}, &wire.Ack{Type: wire.PUBREC, ID: two.ID})
				brokertest.Receive[*wire.Ack](sub)
				sub.Send(&wire.Ack{Type: wire.PUBCOMP, ID: two.ID})
				sub.Silent()
				sub.Close()
				sub, _ = h.connect(v, wire.Connect{ClientID: "sub"}, true)
				sub.Silent() // nothing is left
			})
		}
	}
}

func TestRepeatedQoS2IsPublishedOnce(t *testing.T) {
	for _, v := range versions {
		t.Run(fmt.Sprint("version ", v), func(t *testing.T) {
			h := newHost(t, server.Options{})
			sub := h.client(v, "sub", true)
			subscribe(t, sub, "t", 1)
			pub := h.client(v, "pub", true)
			pub.Send(&wire.Publish{Topic: "t", Payload: []byte("once"), QoS: 2, ID: 9})
			brokertest.Receive[*wire.Ack](pub)
			receive(t, sub)
			sub.Silent()
			h.restart()
			pub = h.client(v, "pub", true)
			publish(t, pub, wire.Publish{Topic: "t", Payload: []byte("once"), QoS: 2, ID: 9, Dup: true})
			publish(t, pub, wire.Publish{Topic: "t", Payload: []byte("new"), QoS: 2, ID: 9})
			sub = h.client(v, "sub", true)
			if got := receive(t, sub); string(got.Payload) != "new" {
				t.Errorf("got %q again", got.Payload)
			}
			sub.Silent()
		})
	}
}

func TestRetained(t *testing.T) {
	each(t, func(t *testing.T, h *host, v wire.Version, durable bool) {
		pub := h.client(v, "pub", durable)
		for i, qos := range []byte{0, 1, 2} {
			publish(t, pub, wire.Publish{Topic: fmt.Sprint("r/", i), Payload: []byte("old"), QoS: qos, Retain: true})
			publish(t, pub, wire.Publish{Topic: fmt.Sprint("r/", i), Payload: []byte{'0' + qos}, QoS: qos, Retain: true})
		}
		publish(t, pub, wire.Publish{Topic: "r/3", Payload: []byte("x"), QoS: 1, Retain: true})
		publish(t, pub, wire.Publish{Topic: "r/3", QoS: 1, Retain: true})
		pub.Close()
		h.restart()
		sub := h.client(v, "sub", durable)
		subscribe(t, sub, "r/+", 2)
		for i := range 3 {
			got := receive(t, sub)
			if got.Topic != fmt.Sprint("r/", i) || !got.Retain || got.QoS != byte(i) || string(got.Payload) != fmt.Sprint(i) {
				t.Errorf("got %+v", got)
			}
		}
		sub.Silent()
		pub = h.client(v, "pub", durable)
		publish(t, pub, wire.Publish{Topic: "r/0", Payload: []byte("live"), QoS: 1, Retain: true})
		if got := receive(t, sub); got.Retain {
			t.Errorf("live message has RETAIN: %+v", got)
		}
	})
}

func TestSubscriptionOptions(t *testing.T) {
	each(t, func(t *testing.T, h *host, v wire.Version, durable bool) {
		if v != wire.V5 {
			return
		}
		c := h.client(v, "c", durable)
		publish(t, c, wire.Publish{Topic: "a", QoS: 1, Payload: []byte("kept"), Retain: true})
		want := func(id uint32, s wire.Subscription) {
			c.Send(&wire.Subscribe{ID: 3, Subscriptions: []wire.Subscription{s}, Properties: wire.Properties{SubscriptionID: &id}})
			brokertest.Receive[*wire.Suback](c)
		}
		want(11, wire.Subscription{Filter: "a", QoS: 1, RetainHandling: 1, RetainAsPublished: true})
		if got := receive(t, c); len(got.SubscriptionIDs) != 1 || got.SubscriptionIDs[0] != 11 {
			t.Errorf("got %+v", got)
		}
		want(11, wire.Subscription{Filter: "a", QoS: 1, RetainHandling: 1, RetainAsPublished: true})
		want(12, wire.Subscription{Filter: "+", QoS: 0, RetainHandling: 2})
		c.Silent()
		other := h.client(v, "other", false)
		publish(t, other, wire.Publish{Topic: "a", QoS: 2, Payload: []byte("live"), Retain: true})
		if got := receive(t, c); !got.Retain || got.QoS != 1 || len(got.SubscriptionIDs) != 2 {
			t.Errorf("overlapping: got %+v", got)
		}
		want(11, wire.Subscription{Filter: "a", QoS: 1, RetainHandling: 2, NoLocal: true})
		want(12, wire.Subscription{Filter: "+", QoS: 1, RetainHandling: 2, NoLocal: true})
		publish(t, c, wire.Publish{Topic: "a", QoS: 1})
		c.Silent()
		c.Send(&wire.Unsubscribe{ID: 4, Filters: []string{"a", "+", "never"}})
		got := brokertest.Receive[*wire.Suback](c)
		if fmt.Sprint(got.Codes) != fmt.Sprint([]wire.Code{0, 0, wire.NoSubscriptionExisted}) {
			t.Errorf("UNSUBACK: %v", got.Codes)
		}
		publish(t, other, wire.Publish{Topic: "a", QoS: 1})
		c.Silent()
		c.Send(&wire.Subscribe{ID: 5, Subscriptions: []wire.Subscription{{Filter: "$share/g/a"}, {Filter: strings.Repeat("a/", 64)}}})
		got = brokertest.Receive[*wire.Suback](c)
		if fmt.Sprint(got.Codes) != fmt.Sprint([]wire.Code{0, wire.TopicFilterInvalid}) {
			t.Errorf("SUBACK: %v", got.Codes)
		}
	})
}

func TestPropertiesPassUnchanged(t *testing.T) {
	h := newHost(t, server.Options{})
	sub := h.client(wire.V5, "sub", true)
	subscribe(t, sub, "t", 1)
	f := wire.Forwarded{
		UTF8: true, ContentType: "text/plain", ResponseTopic: "r", CorrelationData: []byte{1, 0, 2},
		User: []wire.UserProperty{{Name: "a", Value: "1"}, {Name: "a", Value: "2"}},
	}
	pub := h.client(wire.V5, "pub", false)
	forward := f.Append(nil)
	publish(t, pub, wire.Publish{Topic: "t", QoS: 1, TopicAlias: 5, Forward: forward, Expires: true, Expiry: 100})
	publish(t, pub, wire.Publish{Topic: "", QoS: 1, TopicAlias: 5, Forward: forward, Expires: true, Expiry: 100})
	for range 2 {
		got := receive(t, sub)
		if got.Topic != "t" || string(got.Forward) != string(forward) || !got.Expires || got.Expiry > 100 || got.Expiry < 90 {
			t.Errorf("got %+v", got)
		}
	}
	pub.Send(&wire.Publish{Topic: "", QoS: 1, TopicAlias: 6, ID: 1})
	if code := pub.Closed(); code != wire.ProtocolError {
		t.Errorf("unset alias: %v", code)
	}
}

func TestOutboundReceiveMaximum(t *testing.T) {
	for _, durable := range []bool{false, true} {
		t.Run(fmt.Sprint("durable ", durable), func(t *testing.T) {
			h := newHost(t, server.Options{})
			p := wire.Connect{ClientID: "sub", CleanStart: true}
			p.Properties.ReceiveMaximum = ptr(uint16(2))
			sub, _ := h.connect(wire.V5, p, durable)
			subscribe(t, sub, "t", 1)
			pub := h.client(wire.V5, "pub", false)
			for i := range 500 {
				publish(t, pub, wire.Publish{Topic: "t", QoS: 1, Payload: fmt.Append(nil, i)})
			}
			one := brokertest.Receive[*wire.Publish](sub)
			two := brokertest.Receive[*wire.Publish](sub)
			sub.Silent()
			sub.Send(&wire.Ack{Type: wire.PUBACK, ID: two.ID}) // out of order
			three := brokertest.Receive[*wire.Publish](sub)
			sub.Silent()
			sub.Send(&wire.Ack{Type: wire.PUBACK, ID: one.ID}, &wire.Ack{Type: wire.PUBACK, ID: three.ID})
			for i := 3; i < 500; i++ {
				if got := receive(t, sub); string(got.Payload) != fmt.Sprint(i) {
					t.Fatalf("got %s, want %d", got.Payload, i)
				}
			}
			sub.Silent()
		})
	}
}

func TestInboundReceiveMaximum(t *testing.T) {
	h := newHost(t, server.Options{MaxInflight: 3})
	c, ack := h.connect(wire.V5, wire.Connect{ClientID: "c", CleanStart: true}, false)
	if got := *ack.Properties.ReceiveMaximum; got != 3 {
		t.Fatalf("receive maximum %d", got)
	}
	for id := range uint16(3) {
		c.Send(&wire.Publish{Topic: "t", QoS: 2, ID: id + 1})
		brokertest.Receive[*wire.Ack](c)
	}
	c.Send(&wire.Publish{Topic: "t", QoS: 2, ID: 3, Dup: true}) // none more
	brokertest.Receive[*wire.Ack](c)
	c.Send(&wire.Publish{Topic: "t", QoS: 2, ID: 4})
	if code := c.Closed(); code != wire.ReceiveMaximumExceeded {
		t.Errorf("got %v", code)
	}
}

func TestTakeover(t *testing.T) {
	for _, v := range versions {
		t.Run(fmt.Sprint("version ", v), func(t *testing.T) {
			h := newHost(t, server.Options{})
			watch := h.client(v, "watch", false)
			subscribe(t, watch, "will", 1)
			first, _ := h.connect(v, wire.Connect{
				ClientID: "c", Will: &wire.Will{Topic: "will", Payload: []byte("gone"), QoS: 1},
			}, true)
			subscribe(t, first, "t", 1)
			second, ack := h.connect(v, wire.Connect{ClientID: "c"}, true)
			if !ack.SessionPresent {
				t.Error("session was not taken over")
			}
			if code := first.Closed(); v == wire.V5 && code != wire.SessionTakenOver {
				t.Errorf("the first client gets %v", code)
			}
			if got := receive(t, watch); string(got.Payload) != "gone" {
				t.Errorf("will: %+v", got)
			}
			publish(t, watch, wire.Publish{Topic: "t", QoS: 1})
			receive(t, second)
			second.Silent() // nothing twice
		})
	}
}

func TestWills(t *testing.T) {
	each(t, func(t *testing.T, h *host, v wire.Version, durable bool) {
		watch := h.client(v, "watch", false)
		subscribe(t, watch, "will/#", 2)
		with := func(topic string, delay uint32) *brokertest.Client {
			c, _ := h.connect(v, wire.Connect{ClientID: topic, CleanStart: !durable, Will: &wire.Will{
				Topic: "will/" + topic, Payload: []byte("x"), QoS: 1, Retain: true, Delay: delay,
			}}, durable)
			return c
		}
		orderly := with("orderly", 0)
		orderly.Send(&wire.Disconnect{})
		orderly.Closed()
		broken := with("broken", 0)
		broken.SendBytes([]byte{0xf0, 0}) // no packet that a client may send
		broken.Closed()
		if got := receive(t, watch); got.Topic != "will/broken" || got.Retain {
			t.Errorf("got %+v", got)
		}
		lost := with("lost", 0)
		lost.Close()
		if got := receive(t, watch); got.Topic != "will/lost" {
			t.Errorf("got %+v", got)
		}
		if v == wire.V5 && durable {
			delayed := with("delayed", 1000)
			delayed.Close()
			with("delayed", 0).Send(&wire.Disconnect{}) // back in time: no will
			ended := with("ended", 1000)
			ended.Close()
			// A clean start ends the session, and the will cannot wait for its delay.
			c, _ := h.connect(v, wire.Connect{ClientID: "ended", CleanStart: true}, true)
			if got := receive(t, watch); got.Topic != "will/ended" {
				t.Errorf("got %+v", got)
			}
			c.Silent()
		}
		watch.Silent()
		late := h.client(v, "late", false)
		subscribe(t, late, "will/lost", 1)
		if got := receive(t, late); !got.Retain {
			t.Errorf("will was not retained: %+v", got)
		}
	})
}

func TestSessionsEnd(t *testing.T) {
	each(t, func(t *testing.T, h *host, v wire.Version, durable bool) {
		c := h.client(v, "c", durable)
		subscribe(t, c, "t", 1)
		c.Send(&wire.Disconnect{})
		c.Closed()
		c, ack := h.connect(v, wire.Connect{ClientID: "c"}, true)
		if ack.SessionPresent != durable {
			t.Fatalf("session present %v", ack.SessionPresent)
		}
		if v == wire.V5 { // a session may be ended with its connection
			c.Send(&wire.Disconnect{Properties: wire.Properties{SessionExpiry: ptr(uint32(0))}})
		} else {
			c.Send(&wire.Disconnect{})
		}
		c.Closed()
		if v != wire.V5 {
			c = h.client(v, "c", false) // a clean session removes the old one
			c.Send(&wire.Disconnect{})
			c.Closed()
		}
		h.restart()
		for _, r := range h.journal.Readers() {
			t.Errorf("reader %s is left", r.Name)
		}
		if _, ack := h.connect(v, wire.Connect{ClientID: "c"}, true); ack.SessionPresent {
			t.Error("session is present")
		}
	})
}

func TestRefusedConnects(t *testing.T) {
	h := newHost(t, server.Options{MaxSessions: 1})
	for name, tt := range map[string]struct {
		version wire.Version
		connect wire.Connect
		want    wire.Code
	}{
		"empty id":       {wire.V311, wire.Connect{}, wire.ClientIDNotValid},
		"authentication": {wire.V5, wire.Connect{Properties: wire.Properties{AuthMethod: ptr("SCRAM")}}, wire.BadAuthenticationMethod},
		"will":           {wire.V5, wire.Connect{Will: &wire.Will{Topic: "a/#"}}, wire.TopicNameInvalid},
	} {
		c := brokertest.Dial(t, h.addr, tt.version)
		if got := c.Connect(tt.connect); got.Code != tt.want {
			t.Errorf("%s: got %v, want %v", name, got.Code, tt.want)
		}
		c.Closed()
	}
	c := brokertest.Dial(t, h.addr, wire.V5)
	ack := c.Connect(wire.Connect{})
	if ack.Properties.AssignedClientID == nil {
		t.Error("no client identifier was assigned")
	}
	c2 := brokertest.Dial(t, h.addr, wire.V5)
	if got := c2.Connect(wire.Connect{ClientID: "x"}); got.Code != wire.QuotaExceeded {
		t.Errorf("a session too many: %v", got.Code)
	}
	c3 := brokertest.Dial(t, h.addr, wire.V311)
	c3.SendBytes([]byte{0x10, 12, 0, 4, 'M', 'Q', 'T', 'T', 9, 2, 0, 0, 0, 0})
	if got := brokertest.Receive[*wire.Connack](c3); got.Code != wire.UnsupportedVersion {
		t.Errorf("version 9: %v", got.Code)
	}
	c4 := brokertest.Dial(t, h.addr, wire.V311)
	c4.Send(&wire.Ping{Type: wire.PINGREQ})
	c4.Closed()
}

func TestViolationsEndOneConnectionOnly(t *testing.T) {
	h := newHost(t, server.Options{MaxPacket: 1000})
	good := h.client(wire.V5, "good", false)
	for name, tt := range map[string]struct {
		bytes []byte
		want  wire.Code
	}{
		"second CONNECT": {wire.Append(nil, wire.V5, &wire.Connect{Version: wire.V5}), wire.ProtocolError},
		"packet too large": {wire.Append(nil, wire.V5, &wire.Publish{Topic: "t", Payload: make([]byte, 2000)}),
			wire.PacketTooLarge},
		"wildcard topic":      {wire.Append(nil, wire.V5, &wire.Publish{Topic: "a/+"}), wire.TopicNameInvalid},
		"QoS 3":               {[]byte{0x36, 3, 0, 1, 'a'}, wire.MalformedPacket},
		"AUTH":                {wire.Append(nil, wire.V5, &wire.Auth{}), wire.ProtocolError},
		"truncated SUBSCRIBE": {[]byte{0x82, 2, 0, 1}, wire.MalformedPacket},
		"PUBACK for QoS 2":    {nil, wire.ProtocolError},
		"longer session": {wire.Append(nil, wire.V5, &wire.Disconnect{
			Properties: wire.Properties{SessionExpiry: ptr(uint32(9))}}), wire.ProtocolError},
	} {
		c := h.client(wire.V5, "bad", false)
		if tt.bytes == nil {
			subscribe(t, c, "t", 2)
			publish(t, good, wire.Publish{Topic: "t", QoS: 2})
			p := brokertest.Receive[*wire.Publish](c)
			tt.bytes = wire.Append(nil, wire.V5, &wire.Ack{Type: wire.PUBACK, ID: p.ID})
		}
		c.SendBytes(tt.bytes)
		if got := c.Closed(); got != tt.want {
			t.Errorf("%s: got %v, want %v", name, got, tt.want)
		}
	}
	good.Silent()
}

func TestSlowSubscriberDelaysNobody(t *testing.T) {
	h := newHost(t, server.Options{MaxQueued: 64 << 10})
	slow := h.client(wire.V5, "slow", false)
	subscribe(t, slow, "t", 1)
	fast := h.client(wire.V5, "fast", false)
	subscribe(t, fast, "t", 0)
	pub := h.client(wire.V5, "pub", false)
	payload := make([]byte, 8<<10)
	for range 2000 { // 16 MiB: more than the kernel buffers
		publish(t, pub, wire.Publish{Topic: "t", QoS: 1, Payload: payload})
		brokertest.Receive[*wire.Publish](fast)
	}
	if st := h.Stats(); st.Dropped.Queue == 0 {
		t.Errorf("nothing was dropped: %+v", st)
	}
}

func TestRouteAndSubscribe(t *testing.T) {
	h := newHost(t, server.Options{})
	r, err := h.journal.OpenReader("bridge/b")
	if err != nil {
		t.Fatal(err)
	}
	live := make(chan *broker.Message, 1)
	if err := h.Route(server.Route{
		Name: "b", Reader: r, Deliver: func(m *broker.Message) { live <- m },
		Filters: []server.FilterQoS{{Filter: "s/#", QoS: 1}, {Filter: "s/a", QoS: 1}},
	}); err != nil {
		t.Fatal(err)
	}
	seen := make(chan *broker.Message, 10)
	cancel, err := h.Subscribe("s/+", func(m *broker.Message) { seen <- m })
	if err != nil {
		t.Fatal(err)
	}
	pub := h.client(wire.V311, "pub", false)
	publish(t, pub, wire.Publish{Topic: "s/a", QoS: 0, Payload: []byte("zero")})
	if m := <-live; string(m.Payload) != "zero" {
		t.Errorf("got %q", m.Payload)
	}
	publish(t, pub, wire.Publish{Topic: "s/a", QoS: 2, Payload: []byte("two")})
	r.Attach()
	d, ok, err := r.TryNext()
	if !ok || err != nil || string(d.Message.Payload) != "two" || d.QoS != 1 {
		t.Errorf("got %+v %v %v", d, ok, err)
	}
	if r.Depth() != 1 {
		t.Errorf("depth %d, want once", r.Depth())
	}
	if a, b := <-seen, <-seen; string(a.Payload) != "zero" || string(b.Payload) != "two" {
		t.Errorf("seen %q, %q", a.Payload, b.Payload)
	}
	cancel()
	done := make(chan error, 1)
	if err := h.Publish(&broker.Message{Topic: "s/x", QoS: 1}, server.PublishOptions{Done: func(err error) { done <- err }}); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if len(seen) > 0 {
		t.Error("cancelled subscription goes on")
	}
	if err := h.Publish(&broker.Message{Topic: "s/#", QoS: 1}, server.PublishOptions{}); err == nil {
		t.Error("topic with a wildcard was taken")
	}
	// Only clients share subscriptions with each other.
	if _, err := h.Subscribe("$share/g/s/a", func(*broker.Message) {}); !errors.Is(err, broker.ErrTopic) {
		t.Errorf("a shared subscription: %v, want it refused", err)
	}
	if err := h.Route(server.Route{Name: "b", Reader: r, Filters: []server.FilterQoS{{Filter: "$share/g/s/a"}}}); !errors.Is(err, broker.ErrTopic) {
		t.Errorf("a shared route: %v, want it refused", err)
	}
}

func TestListenerInUse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	h := newHost(t, server.Options{})
	s, err := server.New(server.Options{Journal: h.journal, Listeners: []server.Listener{{Network: "tcp", Address: l.Addr().String()}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Run(context.Background()); err == nil {
		t.Error("no error")
	}
}
