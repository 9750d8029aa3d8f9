package server_test

import (
	"bytes"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"holdfast/broker"
	"holdfast/broker/auth"
	"holdfast/broker/brokertest"
	"holdfast/broker/server"
	"holdfast/broker/wire"
)

// reached wants so many refusals and drops at a limit.
func reached(t testing.TB, s *server.Server, limit string, n uint64) {
	t.Helper()
	if got := s.Stats().Limits; got[limit] != n {
		t.Errorf("reached %v, want %s %d", got, limit, n)
	}
}

// both runs a test for both versions.
func both(t *testing.T, opts server.Options, f func(t *testing.T, h *host, v wire.Version)) {
	for _, v := range versions {
		t.Run(fmt.Sprint("MQTT ", v), func(t *testing.T) { f(t, newHost(t, opts), v) })
	}
}

// connack returns what a server says to a CONNECT.
func connack(t testing.TB, h *host, v wire.Version, p wire.Connect) (*brokertest.Client, wire.Code) {
	t.Helper()
	c := brokertest.Dial(t, h.addr, v)
	return c, c.Connect(p).Code
}

// refusedConnack wants a refusal at a limit, as 5.0 tells it.
func refusedConnack(t testing.TB, v wire.Version, got wire.Code) {
	t.Helper()
	if got == wire.Success || v == wire.V5 && got != wire.QuotaExceeded {
		t.Errorf("CONNACK %v, want a refusal", got)
	}
}

func TestConnectPacketLimit(t *testing.T) {
	both(t, server.Options{MaxConnectPacket: 8 << 10}, func(t *testing.T, h *host, v wire.Version) {
		p := wire.Connect{ClientID: "c", CleanStart: true, HasUsername: true, HasPassword: true}
		size := func() int {
			p.Version = v
			return len(wire.Append(nil, v, &p))
		}
		p.Password = make([]byte, 7<<10)
		p.Password = make([]byte, len(p.Password)+8<<10-size())
		if c, code := connack(t, h, v, p); code != wire.Success {
			t.Fatalf("%d bytes: CONNACK %v", size(), code)
		} else { // packets after it may be larger
			publish(t, c, wire.Publish{Topic: "t", Payload: make([]byte, 100<<10), QoS: 1})
		}
		p.Password = append(p.Password, 0)
		c := brokertest.Dial(t, h.addr, v)
		p.Version = v
		c.TrySend(wire.Append(nil, v, &p)[:10]) // its size is enough
		c.Closed()
		reached(t, h.Server, "connect_packet", 1)
	})
}

// TestConnectingLimit: the oldest connection without a login gives way; who is logged in, or has come later, stays.
func TestConnectingLimit(t *testing.T) {
	h := newHost(t, server.Options{MaxConnecting: 3})
	good := h.client(wire.V5, "good", false)
	var idle []*brokertest.Client
	for i := range 3 {
		c := brokertest.Dial(t, h.addr, wire.V5)
		c.SendBytes([]byte{0x10})
		idle = append(idle, c)
		for h.Stats().Connections != i+2 {
			time.Sleep(time.Millisecond) // the order of accepting
		}
	}
	reached(t, h.Server, "connecting", 0)
	last := brokertest.Dial(t, h.addr, wire.V5)
	idle[0].Closed()
	reached(t, h.Server, "connecting", 1)
	if code := last.Connect(wire.Connect{ClientID: "last", CleanStart: true}).Code; code != wire.Success {
		t.Errorf("CONNACK %v", code)
	}
	idle[1].SendBytes(wire.Append(nil, wire.V5, &wire.Connect{Version: wire.V5, ClientID: "slow", CleanStart: true})[1:])
	if a := brokertest.Receive[*wire.Connack](idle[1]); a.Code != wire.Success {
		t.Errorf("CONNACK %v", a.Code)
	}
	good.Silent()
}

// TestUnfinishedLimit: the memory of unfinished packets of all connections is bounded; who has the most of it
// gives way, and small packets of others pass at any time.
func TestUnfinishedLimit(t *testing.T) {
	both(t, server.Options{MaxPacket: 256 << 10, MaxUnfinished: 512 << 10}, func(t *testing.T, h *host, v wire.Version) {
		var hogs []*brokertest.Client
		for i := range 8 {
			c := h.client(v, fmt.Sprint("hog", i), false)
			c.TrySend(append([]byte{0x30, 0x80, 0x80, 0x0c, 0, 1, 'a'}, make([]byte, 150<<10)...))
			hogs = append(hogs, c)
		}
		deadline := time.Now().Add(20 * time.Second)
		for h.Stats().Limits["unfinished"] < 5 && time.Now().Before(deadline) {
			time.Sleep(time.Millisecond)
		}
		if n := h.Stats().Limits["unfinished"]; n < 5 || n >= 8 {
			t.Errorf("%d connections closed", n)
		}
		c := h.client(v, "good", false)
		publish(t, c, wire.Publish{Topic: "t", Payload: make([]byte, 10<<10), QoS: 1})
		for _, c := range hogs {
			c.Close()
		}
	})
}

// TestPacketTime: a packet that has begun ends, keep alive or not; one that goes on has time for each 64 KiB.
func TestPacketTime(t *testing.T) {
	timedWith(t, server.Options{PacketTimeout: 30 * time.Second}, func(t *testing.T, s *server.Server, dial func(wire.Version) *brokertest.Client) {
		for i, keepAlive := range []uint16{0, 600} {
			for _, v := range versions {
				c := dial(v)
				c.Connect(wire.Connect{ClientID: "c", CleanStart: true, KeepAlive: keepAlive})
				time.Sleep(100 * time.Second)
				c.Silent()
				begun := time.Now()
				c.SendBytes([]byte{0x30, 0x80, 0x80, 0x04, 0, 1})
				time.Sleep(29 * time.Second)
				c.SendBytes([]byte{'a'})
				c.Closed()
				if took := time.Since(begun); took != 30*time.Second {
					t.Errorf("keep alive %d: ended after %v", keepAlive, took)
				}
			}
			reached(t, s, "packet_time", uint64(2*i+2))
		}
		c := dial(wire.V5)
		c.Connect(wire.Connect{ClientID: "slow", CleanStart: true})
		packet := wire.Append(nil, wire.V5, &wire.Publish{Topic: "t", Payload: make([]byte, 128<<10), QoS: 1, ID: 1})
		for len(packet) > 0 { // 4 KiB each second and a half
			n := min(4<<10, len(packet))
			c.SendBytes(packet[:n])
			packet = packet[n:]
			time.Sleep(1500 * time.Millisecond)
		}
		if a := brokertest.Receive[*wire.Ack](c); a.Code != 0 {
			t.Errorf("%+v", a)
		}
		time.Sleep(time.Hour) // and no deadline is left behind
		c.Silent()
		c.Close()
	})
}

// TestFilterWeights: a filter counts by its levels and bytes, in a session and of all, and what is given back can
// be had again.
func TestFilterWeights(t *testing.T) {
	deep := func(i int) string { return fmt.Sprintf("%d/", i) + strings.Repeat("a/", 61) + "a" }
	long := func(i int) string { return fmt.Sprintf("%d/", i) + strings.Repeat("x", 1000) }
	plain := func(i int) string { return fmt.Sprintf("plain/%d/state", i) }
	for _, c := range []struct {
		what   string
		filter func(i int) string
		id     string
		weight int
	}{
		{"plain", plain, "c", 1}, {"deep", deep, "c", 8}, {"long", long, "c", 8}, {"a long client identifier", plain, strings.Repeat("i", 1000), 8},
	} {
		t.Run(c.what, func(t *testing.T) {
			both(t, server.Options{MaxSubscriptions: 32, MaxFilters: 96, UserShare: 50}, func(t *testing.T, h *host, v wire.Version) {
				try := func(x *brokertest.Client, n int) (granted int) {
					for i := range n {
						x.Send(&wire.Subscribe{ID: 1, Subscriptions: []wire.Subscription{{Filter: c.filter(i), QoS: 1}}})
						code := brokertest.Receive[*wire.Suback](x).Codes[0]
						if code == 1 {
							granted++
						} else if code != wire.QuotaExceeded && code != wire.Unspecified {
							t.Fatalf("SUBACK %v", code)
						}
					}
					return granted
				}
				first := h.client(v, c.id, false)
				most := 32 / c.weight
				if n := try(first, most+2); n != most {
					t.Errorf("a session has %d, want %d", n, most)
				}
				reached(t, h.Server, "subscriptions", 2)
				second := h.client(v, c.id[1:]+"d", false)
				rest := 48/c.weight - most // the user's share
				if n := try(second, rest+2); n != rest {
					t.Errorf("the second has %d, want %d", n, rest)
				}
				reached(t, h.Server, "user_share", 2)
				first.Send(&wire.Unsubscribe{ID: 1, Filters: []string{c.filter(0)}})
				brokertest.Receive[*wire.Suback](first)
				if n := try(second, rest+2); n != rest+1 {
					t.Errorf("after one was given back %d, want %d", n, rest+1)
				}
			})
		})
	}
}

// TestMatchingLimit: filters that branch are refused where a publish would take too many steps, also when many
// sessions have a few each; plain ones go on.
func TestMatchingLimit(t *testing.T) {
	both(t, server.Options{MaxMatching: 200, UserShare: 100, MaxSubscriptions: 10_000}, func(t *testing.T, h *host, v wire.Version) {
		refused := 0
		for k := range 8 {
			c := h.client(v, fmt.Sprint("c", k), false)
			for i := range 32 {
				n := k*32 + i
				var l []string
				for bit := range 8 {
					l = append(l, []string{"a", "+"}[n>>bit&1])
				}
				c.Send(&wire.Subscribe{ID: 1, Subscriptions: []wire.Subscription{{Filter: strings.Join(l, "/")}}})
				if brokertest.Receive[*wire.Suback](c).Codes[0] >= 0x80 {
					refused++
				}
			}
			subscribe(t, c, fmt.Sprintf("devices/%d/+/state", k), 1)
		}
		if refused == 0 || h.Stats().Limits["matching"] != uint64(refused) {
			t.Errorf("%d refused, %v", refused, h.Stats().Limits)
		}
	})
}

// TestWillLimit: the wills of clients, connected or with a delay, have so many bytes; each that ends gives its own
// back.
func TestWillLimit(t *testing.T) {
	both(t, server.Options{MaxWills: 8 << 10, UserShare: 50}, func(t *testing.T, h *host, v wire.Version) {
		will := func(id string) wire.Connect {
			w := &wire.Will{Topic: "w", Payload: make([]byte, (1024-256)/2-1), QoS: 1} // 1,024 bytes, since it counts twice
			if v == wire.V5 {
				w.Delay = 3600
			}
			return wire.Connect{ClientID: id, CleanStart: true, Will: w, Properties: wire.Properties{SessionExpiry: ptr(uint32(3600))}}
		}
		var clients []*brokertest.Client
		for i := range 4 {
			c, code := connack(t, h, v, will(fmt.Sprint(i)))
			if code != wire.Success {
				t.Fatalf("will %d: %v", i, code)
			}
			clients = append(clients, c)
		}
		_, code := connack(t, h, v, will("beyond"))
		refusedConnack(t, v, code)
		reached(t, h.Server, "user_share", 1)
		h.client(v, "none", false)
		clients[0].Send(&wire.Disconnect{})
		clients[0].Closed()
		if v == wire.V5 { // a delayed will stays in memory with its session
			clients[1].Close()
			for h.Stats().Connected > 3 {
				time.Sleep(time.Millisecond)
			}
			_, code = connack(t, h, v, will("instead"))
			if code != wire.Success {
				t.Errorf("CONNACK %v", code)
			}
			_, code = connack(t, h, v, will("beyond"))
			refusedConnack(t, v, code)
			if c, code := connack(t, h, v, will("1")); code == wire.Success { // its own will is gone, and there is room
				c.Close()
			} else {
				t.Errorf("CONNACK %v", code)
			}
			return
		}
		if _, code = connack(t, h, v, will("instead")); code != wire.Success {
			t.Errorf("CONNACK %v", code)
		}
	})
}

// TestSessionsGiveWay: a table that is full of absent sessions lets temporary clients in, and durable ones in the
// place of the oldest that has no messages; one with messages never goes.
func TestSessionsGiveWay(t *testing.T) {
	both(t, server.Options{MaxSessions: 20, UserShare: 100}, func(t *testing.T, h *host, v wire.Version) {
		away := func(id string, filter string) {
			c := h.client(v, id, true)
			subscribe(t, c, filter, 1)
			c.Send(&wire.Disconnect{})
			c.Closed()
		}
		away("oldest, with a message", "jobs")
		away("oldest, empty", "nothing")
		for i := range 16 {
			away(fmt.Sprint(i), "nothing")
		}
		publish(t, h.client(v, "publisher", false), wire.Publish{Topic: "jobs", Payload: []byte("x"), QoS: 1})
		reached(t, h.Server, "sessions", 0)
		h.client(v, "temporary", false)
		reached(t, h.Server, "sessions", 0)
		h.client(v, "new", true)
		reached(t, h.Server, "sessions", 1)
		if _, ack := h.connect(v, wire.Connect{ClientID: "0"}, true); !ack.SessionPresent {
			t.Error("not the oldest went")
		}
		c, ack := h.connect(v, wire.Connect{ClientID: "oldest, with a message"}, true)
		if !ack.SessionPresent {
			t.Fatal("the session with a message is gone")
		}
		if m := receive(t, c); string(m.Payload) != "x" {
			t.Errorf("got %q", m.Payload)
		}
		if _, ack := h.connect(v, wire.Connect{ClientID: "oldest, empty"}, true); ack.SessionPresent {
			t.Error("the oldest empty one is still there")
		}
		for i := range 20 { // all places are taken by clients that are there: a new one is refused
			_, code := connack(t, h, v, wire.Connect{ClientID: fmt.Sprint("t", i), CleanStart: true})
			if i >= 17 {
				refusedConnack(t, v, code)
			}
		}
	})
}

// TestSessionExpiryLimit: no session outlives the limit, whatever its client asks for, and CONNACK of 5.0 has it.
func TestSessionExpiryLimit(t *testing.T) {
	timedWith(t, server.Options{MaxExpiry: time.Hour}, func(t *testing.T, s *server.Server, dial func(wire.Version) *brokertest.Client) {
		for _, v := range versions {
			come := func(expiry uint32) *wire.Connack {
				c := dial(v)
				p := wire.Connect{ClientID: "c"}
				if v == wire.V5 {
					p.Properties.SessionExpiry = &expiry
				}
				ack := c.Connect(p)
				c.Send(&wire.Disconnect{})
				c.Closed()
				return ack
			}
			for _, asked := range []uint32{3600, 3601, 1<<32 - 1} {
				ack := come(asked)
				if told := ack.Properties.SessionExpiry; v == wire.V5 && (told == nil) != (asked == 3600) {
					t.Errorf("asked for %d, told %v", asked, told)
				}
				time.Sleep(59 * time.Minute)
				if ack := come(asked); !ack.SessionPresent {
					t.Errorf("%d: gone too early", asked)
				}
				time.Sleep(61 * time.Minute)
				if n := s.Stats().Sessions; n != 0 {
					t.Errorf("%d: %d sessions are left", asked, n)
				}
			}
		}
	})
}

// TestRetainedReserve: clients fill their part of the limits; what this process publishes has room, what cannot be
// kept deletes what was retained, and $SYS does not count.
func TestRetainedReserve(t *testing.T) {
	for what, opts := range map[string]server.Options{
		"messages": {MaxRetained: 16}, "bytes": {MaxRetainedBytes: 16 * 100}, "with $SYS": {MaxRetained: 16, SysInterval: time.Second},
	} {
		t.Run(what, func(t *testing.T) {
			both(t, opts, func(t *testing.T, h *host, v wire.Version) {
				c := h.client(v, "c", false)
				retain := func(topic, payload string) {
					publish(t, c, wire.Publish{Topic: topic, Payload: []byte(payload), QoS: 1, Retain: true})
				}
				own := func(topic, payload string) {
					done := make(chan error, 1)
					err := h.Publish(&broker.Message{Topic: topic, Payload: []byte(payload), QoS: 1, Retain: true}, server.PublishOptions{Done: func(err error) { done <- err }})
					if err != nil || <-done != nil {
						t.Fatal(err)
					}
				}
				kept := func(topic string) string {
					r := h.client(v, "", false)
					defer r.Close()
					subscribe(t, r, topic, 0)
					r.Send(&wire.Ping{Type: wire.PINGREQ})
					for trips := 0; ; { // the retained message may come behind the first answers
						p, err := r.Next()
						if err != nil {
							t.Fatal(err)
						}
						if m, ok := p.(*wire.Publish); ok {
							return string(m.Payload)
						}
						if _, ok := p.(*wire.Ping); ok {
							if trips++; trips == 50 {
								return ""
							}
							r.Send(&wire.Ping{Type: wire.PINGREQ})
						}
					}
				}
				text := func(n int) string { return fmt.Sprint(n) + strings.Repeat("x", 98-len(fmt.Sprint(n))) }
				for i := range 14 {
					retain(fmt.Sprintf("%02d", i), text(i))
				}
				reached(t, h.Server, "retained", 0)
				retain("14", text(14))
				reached(t, h.Server, "retained", 1)
				if got := kept("14"); got != "" {
					t.Errorf("beyond the limit: %q", got)
				}
				own("p0", text(0))
				own("p0", text(1))
				own("p1", text(2))
				reached(t, h.Server, "retained", 1)
				if got := kept("p0"); got != text(1) {
					t.Errorf("the process's own: %q", got)
				}
				// All is taken: a value that is larger cannot be kept, and the older one is not served.
				if what == "bytes" {
					retain("03", strings.Repeat("y", 500))
					if got := kept("03"); got != "" {
						t.Errorf("stale: %q", got)
					}
					own("p1", strings.Repeat("y", 500))
					if got := kept("p1"); got != "" {
						t.Errorf("stale: %q", got)
					}
					h.restart()
					c = h.client(v, "c", false)
					if got := kept("03") + kept("p1"); got != "" {
						t.Errorf("stale after a restart: %q", got)
					}
				}
				retain("00", "")
				retain("14", text(14))
				if got := kept("14"); got != text(14) {
					t.Errorf("in a place that is free again: %q", got)
				}
				if got := kept("13"); !bytes.Equal([]byte(got), []byte(text(13))) {
					t.Errorf("another: %q", got)
				}
			})
		})
	}
}

// TestPublisherShare: where the journal fills up, one client's messages take no more than a share of it. It is
// refused, and counted; another goes on.
func TestPublisherShare(t *testing.T) {
	both(t, server.Options{MaxBacklog: 1 << 30}, func(t *testing.T, h *host, v wire.Version) {
		away := h.client(v, "away", true)
		subscribe(t, away, "#", 1)
		away.Send(&wire.Disconnect{})
		away.Closed()
		good := h.client(v, "good", false)
		publish(t, good, wire.Publish{Topic: "good", Payload: []byte("first"), QoS: 1})
		flood := h.client(v, "flood", false)
		taken := 0
		for taken < 100 {
			flood.Send(&wire.Publish{Topic: "evil", Payload: make([]byte, 1000<<10), QoS: 1, ID: 7})
			p, err := flood.Next()
			if a, ok := p.(*wire.Ack); err != nil || !ok || a.Code != 0 { // 3.1.1 is disconnected
				if v == wire.V5 && (err != nil || a.Code != wire.QuotaExceeded) {
					t.Errorf("got %+v, %v", p, err)
				}
				break
			}
			taken++
		}
		if taken < 16 || taken > 40 { // a quarter of 64 MiB, and no more than half, from where space is short
			t.Errorf("%d MB were taken", taken)
		}
		publish(t, good, wire.Publish{Topic: "good", Payload: []byte("last"), QoS: 1})
		reached(t, h.Server, "backlog", 1)
		for _, r := range h.journal.Readers() {
			if r.Name == "session/away" && (len(r.Lost) > 0 || r.Depth != uint64(taken)+2) {
				t.Errorf("%d wait, lost %v", r.Depth, r.Lost)
			}
		}
	})
}

// TestTopicAliasBytes: the topics behind a client's aliases are bounded together, and one that is replaced counts
// no more.
func TestTopicAliasBytes(t *testing.T) {
	h := newHost(t, server.Options{})
	c := h.client(wire.V5, "c", false)
	set := func(alias uint16, size int) wire.Packet {
		return &wire.Publish{Topic: strings.Repeat("t", size), TopicAlias: alias}
	}
	for range 3 {
		c.Send(set(1, 4<<10), set(2, 4<<10), &wire.Ping{Type: wire.PINGREQ})
		brokertest.Receive[*wire.Ping](c)
	}
	reached(t, h.Server, "topic_aliases", 0)
	c.Send(set(3, 1))
	if d := brokertest.Receive[*wire.Disconnect](c); d.Code != wire.QuotaExceeded {
		t.Errorf("got %+v", d)
	}
	reached(t, h.Server, "topic_aliases", 1)
}

// TestClientsThatDoNotReadAreBounded: what is queued for clients that do not read, or sent and not answered, takes no
// more memory than its limit, as the server counts it.
func TestClientsThatDoNotReadAreBounded(t *testing.T) {
	for _, qos := range []byte{0, 1, 2} {
		t.Run(fmt.Sprint("QoS ", qos), func(t *testing.T) {
			both(t, server.Options{MaxQueuedTotal: 4 << 20}, func(t *testing.T, h *host, v wire.Version) {
				for i := range 10 {
					c := h.client(v, fmt.Sprint("slow", i), i%2 == 0)
					subscribe(t, c, "big", qos)
				}
				p := h.client(v, "p", false)
				payload := make([]byte, 200<<10)
				for range 40 {
					publish(t, p, wire.Publish{Topic: "big", Payload: payload, QoS: 1})
				}
				if got, most := h.Waiting(), int64(5<<20); got > most {
					t.Errorf("%d bytes in memory for clients that do not read, want at most %d", got, most)
				}
			})
		})
	}
}

// TestAbsentClientsLeaveMemory: retained messages that clients were sent, did not answer and left behind do not take
// the memory from those who are here.
func TestAbsentClientsLeaveMemory(t *testing.T) {
	both(t, server.Options{MaxQueuedTotal: 2 << 20}, func(t *testing.T, h *host, v wire.Version) {
		p := h.client(v, "p", false)
		publish(t, p, wire.Publish{Topic: "kept", Payload: make([]byte, 200<<10), QoS: 1, Retain: true})
		for i := range 20 {
			c := h.client(v, fmt.Sprint("away", i), true)
			subscribe(t, c, "kept", 1)
			brokertest.Receive[*wire.Publish](c)
			c.Close()
		}
		for h.Stats().Connections != 1 {
			time.Sleep(time.Millisecond)
		}
		if got, most := h.Waiting(), int64(800<<10); got > most {
			t.Errorf("%d bytes are kept for clients that are away, want at most %d", got, most)
		}
		if n := h.Stats().Limits["queued_total"]; n < 15 {
			t.Errorf("%d sessions have given up deliveries", n)
		}
		c := h.client(v, "here", false)
		subscribe(t, c, "live", 0)
		publish(t, p, wire.Publish{Topic: "live", Payload: make([]byte, 100<<10), QoS: 1})
		if m := brokertest.Receive[*wire.Publish](c); m.Topic != "live" {
			t.Errorf("got %+v", m)
		}
		c = h.client(v, "away0", true) // whose delivery there was room for
		if m := brokertest.Receive[*wire.Publish](c); m.Topic != "kept" || !m.Dup {
			t.Errorf("got %s, duplicate %v", m.Topic, m.Dup)
		}
	})
}

// TestCountedLimitsAreDocumented: each limit that is counted has a row in the README with the mark of those that are.
func TestCountedLimitsAreDocumented(t *testing.T) {
	source, err := os.ReadFile("limits/limits.go")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	names := regexp.MustCompile(`Name = "([a-z_]+)"`).FindAllStringSubmatch(string(source), -1)
	if len(names) < 10 {
		t.Fatalf("%d limits found", len(names))
	}
	for _, name := range names {
		row := "(?m)^\\| (`" + name[1] + "` \\*|[^|]* \\* \\(`" + name[1] + "`\\)) "
		if name[1] == "state" {
			row = `(?m)^\| state of sessions \* `
		}
		if !regexp.MustCompile(row).Match(text) {
			t.Errorf("the table of limits has no row for %s, marked as counted", name[1])
		}
	}
}

// TestConnectionShare: the clients of one user, or those without one, leave room for others, and one that comes back
// takes its own place. Connections that have not logged in give way to new ones.
func TestConnectionShare(t *testing.T) {
	var users []auth.User
	hash := auth.NewHash([]byte("right"))
	for _, name := range []string{"greedy", "other"} {
		users = append(users, auth.User{Name: name, Hash: hash})
	}
	a, err := auth.New(auth.Options{Users: users})
	if err != nil {
		t.Fatal(err)
	}
	both(t, server.Options{MaxConnections: 8, UserShare: 50, Anonymous: true, Auth: a}, func(t *testing.T, h *host, v wire.Version) {
		login := func(user, id string) (*brokertest.Client, wire.Code) {
			p := wire.Connect{ClientID: id, CleanStart: true}
			if user != "" {
				p.HasUsername, p.Username, p.HasPassword, p.Password = true, user, true, []byte("right")
			}
			return connack(t, h, v, p)
		}
		in := map[string][]*brokertest.Client{}
		for i, user := range []string{"greedy", ""} {
			for j := range 4 - i {
				c, code := login(user, fmt.Sprint(user, j))
				if code != wire.Success {
					t.Fatalf("user %q, client %d: CONNACK %v", user, j, code)
				}
				in[user] = append(in[user], c)
			}
		}
		_, code := login("greedy", "beyond")
		refusedConnack(t, v, code)
		reached(t, h.Server, "user_share", 1)
		for h.Stats().Connections > 7 {
			time.Sleep(time.Millisecond)
		}
		c, code := login("greedy", "greedy0") // in place of the connection that it has
		if code != wire.Success {
			t.Errorf("taking over: CONNACK %v", code)
		}
		c.Close()
		for h.Stats().Connections > 6 {
			time.Sleep(time.Millisecond)
		}
		if _, code = login("greedy", "instead"); code != wire.Success {
			t.Errorf("in place of one that has ended: CONNACK %v", code)
		}
		brokertest.Dial(t, h.addr, v) // does not log in, and has the last place
		for h.Stats().Connections < 8 {
			time.Sleep(time.Millisecond)
		}
		if _, code = login("other", "newcomer"); code != wire.Success {
			t.Errorf("a newcomer: CONNACK %v", code)
		}
		reached(t, h.Server, "connecting", 1)
		reached(t, h.Server, "user_share", 1)
	})
}
