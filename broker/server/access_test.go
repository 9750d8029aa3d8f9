package server_test

import (
	"context"
	"crypto/tls"
	"net"
	"testing"
	"time"

	"holdfast/broker"
	"holdfast/broker/auth"
	"holdfast/broker/brokertest"
	"holdfast/broker/listen"
	"holdfast/broker/server"
	"holdfast/broker/wire"
)

// guarded is a host whose users are anna, who may do everything, and ben, who may read pub/# but for
// pub/secret/#, and write in/%u.
func guarded(t *testing.T, change func(*server.Options, *auth.Options)) (*host, *auth.Auth) {
	t.Helper()
	hash := auth.NewHash([]byte("right"))
	opts := auth.Options{
		Users: []auth.User{{Name: "anna", Hash: hash}, {Name: "ben", Hash: hash}},
		Rules: []auth.Rule{
			{Topic: "#", Access: auth.ReadWrite, User: "anna"},
			{Topic: "pub/#", Access: auth.Read, User: "ben"},
			{Topic: "pub/secret/#", Access: auth.Deny, User: "ben"},
			{Topic: "in/%u", Access: auth.Write},
			{Topic: "pump/%cn", Access: auth.ReadWrite},
			{Topic: "guests", Access: auth.Read, Anonymous: true},
		},
	}
	var so server.Options
	if change != nil {
		change(&so, &opts)
	}
	a, err := auth.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	so.Auth = a
	return newHost(t, so), a
}

func as(user, password string, p wire.Connect) wire.Connect {
	p.HasUsername, p.Username = true, user
	p.HasPassword, p.Password = true, []byte(password)
	return p
}

func TestLoginRefusals(t *testing.T) {
	h, _ := guarded(t, func(o *server.Options, _ *auth.Options) {
		o.ConnectTimeout = time.Minute // a slow machine takes long for a password: that is no other refusal
	})
	for _, v := range versions {
		code := func(p wire.Connect) wire.Code {
			t.Helper()
			c := brokertest.Dial(t, h.addr, v)
			p.CleanStart = true
			ack := c.Connect(p)
			if ack.Code != wire.Success {
				c.Closed()
			}
			return ack.Code
		}
		if got := code(as("anna", "right", wire.Connect{})); got != wire.Success {
			t.Errorf("right: %v", got)
		}
		if got := code(as("anna", "wrong", wire.Connect{})); got != wire.BadUserNameOrPassword {
			t.Errorf("wrong: %v", got)
		}
		if got := code(as("ben", "right", wire.Connect{Will: &wire.Will{Topic: "in/anna"}})); got != wire.NotAuthorized {
			t.Errorf("a will that is not allowed: %v", got)
		}
		if got := code(as("ben", "right", wire.Connect{Will: &wire.Will{Topic: "in/ben"}})); got != wire.Success {
			t.Errorf("a will that is allowed: %v", got)
		}
	}
	// Programs of this machine take turns after some failures; who would wait too long is refused.
	const many = 14
	for v, want := range map[wire.Version]wire.Code{wire.V5: wire.ConnectionRateExceeded, wire.V311: wire.ServerUnavailable} {
		codes := make(chan wire.Code, many)
		for range many {
			c := brokertest.Dial(t, h.addr, v)
			go func() { codes <- c.Connect(as("stranger", "x", wire.Connect{CleanStart: true})).Code }()
		}
		seen := map[wire.Code]int{}
		for range many {
			seen[<-codes]++
		}
		if seen[want] == 0 || seen[want]+seen[wire.BadUserNameOrPassword] != many {
			t.Errorf("many at once: %v, want some %v", seen, want)
		}
	}
	if got := h.Stats().LoginsRefused; got != 2*2+2*many {
		t.Errorf("%d refusals are counted", got)
	}
}

func TestAnonymousPerListener(t *testing.T) {
	no := false
	h := newHost(t, server.Options{Listeners: []server.Listener{
		{Network: "tcp", Address: "127.0.0.1:0"}, {Network: "tcp", Address: "127.0.0.1:0", Anonymous: &no},
	}})
	for i, want := range []wire.Code{wire.Success, wire.NotAuthorized} {
		c := brokertest.Dial(t, h.Addrs()[i].String(), wire.V5)
		if got := c.Connect(wire.Connect{CleanStart: true}).Code; got != want {
			t.Errorf("listener %d: %v, want %v", i, got, want)
		}
	}
}

func TestSubscribeDenied(t *testing.T) {
	h, _ := guarded(t, nil)
	for v, want := range map[wire.Version]wire.Code{wire.V5: wire.NotAuthorized, wire.V311: wire.Unspecified} {
		c, _ := h.connect(v, as("ben", "right", wire.Connect{ClientID: "b", CleanStart: true}), false)
		filters := []string{"#", "pub/#", "pub/secret/x", "in/ben", "+/x", "pub/+/x", "$SYS/#"}
		var p wire.Subscribe
		for _, f := range filters {
			p.Subscriptions = append(p.Subscriptions, wire.Subscription{Filter: f, QoS: 1})
		}
		p.ID = 3
		c.Send(&p)
		got := brokertest.Receive[*wire.Suback](c).Codes
		for i, code := range []wire.Code{want, 1, want, want, want, 1, want} {
			if got[i] != code {
				t.Errorf("version %d, %s: got %v, want %v", v, filters[i], got[i], code)
			}
		}
	}
}

// TestPublishDenied: MQTT 5 gets a refusal, 3.1.1 an acknowledgement, and neither is delivered; answers keep
// the order of the publishes.
func TestPublishDenied(t *testing.T) {
	h, _ := guarded(t, nil)
	for v, want := range map[wire.Version]wire.Code{wire.V5: wire.NotAuthorized, wire.V311: wire.Success} {
		for _, durable := range []bool{false, true} {
			watch, _ := h.connect(wire.V5, as("anna", "right", wire.Connect{ClientID: "watch", CleanStart: true}), true)
			subscribe(t, watch, "#", 2)
			c, _ := h.connect(v, as("ben", "right", wire.Connect{ClientID: "b", CleanStart: true}), durable)
			c.Send(
				&wire.Publish{Topic: "in/ben", QoS: 1, ID: 1}, &wire.Publish{Topic: "in/anna", QoS: 1, ID: 2},
				&wire.Publish{Topic: "pub/x", QoS: 0}, &wire.Publish{Topic: "pub/x", QoS: 2, ID: 3, Retain: true},
				&wire.Publish{Topic: "in/ben", QoS: 2, ID: 4},
			)
			for i, code := range []wire.Code{wire.Success, want, want, wire.Success} {
				a := brokertest.Receive[*wire.Ack](c)
				if a.ID != uint16(i+1) || a.Code != code {
					t.Errorf("version %d: answer %d is %+v, want %v", v, i+1, a, code)
				}
			}
			for _, id := range []uint16{3, 4} {
				c.Send(&wire.Ack{Type: wire.PUBREL, ID: id})
				a := brokertest.Receive[*wire.Ack](c)
				if ended := id == 3 && v == wire.V5; a.Type != wire.PUBCOMP || a.ID != id || (a.Code != wire.Success) != ended {
					t.Errorf("version %d: %+v", v, a)
				}
			}
			for range 2 {
				if got := receive(t, watch); got.Topic != "in/ben" {
					t.Errorf("delivered: %s", got.Topic)
				}
			}
			watch.Silent()
		}
	}
	if st := h.Stats(); st.Dropped.Denied != 4*3 || st.Retained != 0 {
		t.Errorf("%d denied, %d retained", st.Dropped.Denied, st.Retained)
	}
}

// TestDeliveryDenied: what a subscription selects and the client may not read does not reach it, on any
// way: live, retained, or from the journal; and costs nothing there afterwards.
func TestDeliveryDenied(t *testing.T) {
	for _, v := range versions {
		h, _ := guarded(t, nil)
		post := func(topic string, retain bool) {
			for qos := range byte(3) {
				if err := h.Publish(&broker.Message{Topic: topic, Payload: []byte("x"), QoS: qos, Retain: retain}, server.PublishOptions{}); err != nil {
					t.Fatal(err)
				}
			}
		}
		post("pub/secret/kept", true)
		for _, durable := range []bool{false, true} {
			p := as("ben", "right", wire.Connect{ClientID: "b", CleanStart: !durable})
			c, _ := h.connect(v, p, durable)
			subscribe(t, c, "pub/#", 2)
			post("pub/secret/live", false)
			post("pub/open", false)
			if durable {
				for range 3 {
					receive(t, c)
				}
				c.Send(&wire.Ping{Type: wire.PINGREQ}) // by the answer the last PUBCOMP has been read
				brokertest.Receive[*wire.Ping](c)
				c.Close()
				post("pub/secret/away", false)
				post("pub/open", false)
				c, _ = h.connect(v, p, true)
			}
			for seen := 0; seen < 2; { // QoS 0 is not kept for those who are away
				if got := receive(t, c); got.Topic != "pub/open" {
					t.Errorf("version %d, durable %v: got %s", v, durable, got.Topic)
				} else if got.QoS > 0 {
					seen++
				}
			}
			c.Silent()
			c.Send(&wire.Disconnect{})
			c.Closed()
		}
		if got := h.Stats().Dropped.Unread; got < 3 {
			t.Errorf("%d are counted", got)
		}
		for _, r := range h.journal.Readers() {
			if r.Depth != 0 {
				t.Errorf("%d messages wait in the journal for %s", r.Depth, r.Name)
			}
		}
	}
}

// TestReauthorize: new rules hold for clients that are there, and those without a user any more go.
func TestReauthorize(t *testing.T) {
	var opts auth.Options
	h, a := guarded(t, func(_ *server.Options, o *auth.Options) { opts = *o })
	anna, _ := h.connect(wire.V5, as("anna", "right", wire.Connect{ClientID: "a", CleanStart: true}), false)
	ben, _ := h.connect(wire.V5, as("ben", "right", wire.Connect{ClientID: "b", CleanStart: true}), false)
	subscribe(t, ben, "pub/#", 0)
	opts.Users = opts.Users[1:]
	opts.Rules = []auth.Rule{{Topic: "pub/new", Access: auth.Read}}
	if err := a.Configure(opts); err != nil {
		t.Fatal(err)
	}
	h.Reauthorize()
	if code := anna.Closed(); code != wire.NotAuthorized {
		t.Errorf("got %v", code)
	}
	for _, topic := range []string{"pub/old", "pub/new"} {
		if err := h.Publish(&broker.Message{Topic: topic}, server.PublishOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if got := receive(t, ben); got.Topic != "pub/new" {
		t.Errorf("got %s", got.Topic)
	}
	ben.Silent()
}

// TestCertificateName: a verified certificate is a name of its own.
func TestCertificateName(t *testing.T) {
	ca := brokertest.NewAuthority(t)
	cert, key := ca.Issue("server")
	x, err := listen.NewTLS(listen.TLSOptions{Cert: cert, Key: key, ClientCA: ca.File})
	if err != nil {
		t.Fatal(err)
	}
	no := false
	h, _ := guarded(t, func(o *server.Options, _ *auth.Options) {
		for _, ws := range []*listen.WebSocket{nil, {}} {
			place := listen.Options{Network: "tcp", Address: "127.0.0.1:0", TLS: x, WebSocket: ws}
			o.Listeners = append(o.Listeners, server.Listener{Open: place.Open, Anonymous: &no})
		}
	})
	for i := range 2 {
		for name, want := range map[string]wire.Code{"p1": wire.Success, "": wire.NotAuthorized} {
			addr := h.Addrs()[i].String()
			nc, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			nc = tls.Client(nc, ca.Client(name))
			if i == 1 {
				if nc, _, err = listen.DialWebSocket(context.Background(), nc, "wss://"+addr); err != nil {
					t.Fatal(err)
				}
			}
			c := brokertest.NewClient(t, nc, wire.V5)
			if got := c.Connect(wire.Connect{CleanStart: true}).Code; got != want {
				t.Fatalf("certificate %q: %v, want %v", name, got, want)
			}
			if name == "" {
				continue
			}
			subscribe(t, c, "pump/p1", 0)
			c.Send(&wire.Publish{Topic: "pump/p2", QoS: 1, ID: 1})
			if a := brokertest.Receive[*wire.Ack](c); a.Code != wire.NotAuthorized {
				t.Errorf("another's topic: %v", a.Code)
			}
		}
	}
}
