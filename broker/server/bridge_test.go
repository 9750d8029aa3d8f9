package server_test

import (
	"fmt"
	"slices"
	"testing"

	"holdfast/broker"
	"holdfast/broker/auth"
	"holdfast/broker/brokertest"
	"holdfast/broker/server"
	"holdfast/broker/wire"
)

// TestStateTopic: a client may announce itself on the one topic below $SYS that carries its identifier, by will and by
// publishing, with or without the bridge's version byte. It is retained while the connection lasts, reaches no route
// and no bridge, and nothing of it goes to disk.
func TestStateTopic(t *testing.T) {
	for _, v := range []wire.Version{wire.V31, wire.V311, wire.V5} {
		for _, asBridge := range []bool{false, true} {
			if asBridge && v == wire.V5 {
				continue
			}
			t.Run(fmt.Sprintf("version %d, bridge %v", v, asBridge), func(t *testing.T) {
				h, _ := guarded(t, func(_ *server.Options, o *auth.Options) {
					o.Rules = append(o.Rules, auth.Rule{Topic: "$SYS/#", Access: auth.Read})
				})
				reader, err := h.journal.OpenReader("up")
				if err != nil {
					t.Fatal(err)
				}
				route := func(m *broker.Message) { t.Errorf("a route gets %s", m.Topic) }
				if err := h.Route(server.Route{Name: "up", Filters: []server.FilterQoS{{Filter: "$SYS/#", QoS: 1}}, Reader: reader, Deliver: route}); err != nil {
					t.Fatal(err)
				}
				watch := h.client(wire.V5, "watch", false)
				subscribe(t, watch, "$SYS/#", 1)
				peer, _ := h.connect(wire.V311, wire.Connect{Bridge: true, ClientID: "peer", CleanStart: true}, false)
				subscribe(t, peer, "$SYS/#", 1)
				const topic = "$SYS/broker/connection/host.one/state"
				p := as("ben", "right", wire.Connect{Bridge: asBridge, ClientID: "host.one", CleanStart: true,
					Will: &wire.Will{Topic: topic, Payload: []byte("0"), QoS: 1, Retain: true}})
				c, _ := h.connect(v, p, false)
				publish(t, c, wire.Publish{Topic: topic, Payload: []byte("1"), QoS: 1, Retain: true})
				publish(t, c, wire.Publish{Topic: topic, Payload: []byte("1"), QoS: 2, Retain: true, ID: 9})
				state := func(want string, retain bool, w *brokertest.Client) {
					t.Helper()
					if got := brokertest.Receive[*wire.Publish](w); got.Topic != topic || string(got.Payload) != want || got.Retain != retain {
						t.Errorf("got %+v, want %s", got, want)
					}
				}
				state("1", false, watch)
				state("1", false, watch)
				late := h.client(wire.V5, "late", false)
				subscribe(t, late, topic, 1)
				state("1", true, late)
				c.Close()
				state("0", false, watch)
				state("0", false, late)
				after := h.client(wire.V5, "after", false)
				subscribe(t, after, "$SYS/#", 1)
				after.Silent()
				peer.Silent()
				if n := reader.Depth(); n != 0 {
					t.Errorf("a route is owed %d messages", n)
				}
				if n := h.Stats().Retained; n != 0 {
					t.Errorf("%d messages are retained", n)
				}
				for _, other := range []string{"$SYS/broker/connection/host.two/state", "$SYS/broker/connection/host.one", "$SYS/broker/uptime"} {
					c := brokertest.Dial(t, h.addr, v)
					p.Will = &wire.Will{Topic: other}
					if got := c.Connect(p).Code; got != wire.NotAuthorized {
						t.Errorf("a will on %s: %v", other, got)
					}
					c.Close()
				}
			})
		}
	}
}

// TestMosquittoBridge bridges a stock Mosquitto, with notifications, both ways, over 3.1.1 and 5.
func TestMosquittoBridge(t *testing.T) {
	for _, version := range []string{"mqttv311", "mqttv50"} {
		for _, more := range [][]string{nil, {"try_private false"}, {"notifications_local_only true"}} {
			t.Run(fmt.Sprint(version, more), func(t *testing.T) {
				h := newHost(t, server.Options{})
				watch := h.client(wire.V5, "watch", false)
				subscribe(t, watch, "$SYS/broker/connection/#", 1)
				subscribe(t, watch, "up/#", 1)
				extra := []string{"connection holdfast", "address " + h.addr, "remote_clientid site.holdfast",
					"bridge_protocol_version " + version, "restart_timeout 1", "topic up/# out 1", "topic down/# in 1"}
				announces := !slices.Contains(more, "notifications_local_only true")
				m := brokertest.StartMosquitto(t, brokertest.MosquittoOptions{Extra: append(extra, more...)})
				if announces {
					if got := receive(t, watch); got.Topic != "$SYS/broker/connection/site.holdfast/state" || string(got.Payload) != "1" {
						t.Fatalf("got %+v", got)
					}
				}
				client := brokertest.Dial(t, m.Addr(), wire.V311)
				if ack := client.Connect(wire.Connect{ClientID: "local", CleanStart: true}); ack.Code != 0 {
					t.Fatal(ack.Code)
				}
				subscribe(t, client, "down/#", 1)
				publish(t, client, wire.Publish{Topic: "up/1", QoS: 1, Payload: []byte("there")})
				if got := receive(t, watch); got.Topic != "up/1" {
					t.Fatalf("got %+v", got)
				}
				publish(t, watch, wire.Publish{Topic: "down/1", QoS: 1, Payload: []byte("back")})
				if got := receive(t, client); got.Topic != "down/1" {
					t.Fatalf("got %+v", got)
				}
				if announces {
					m.Kill()
					if got := receive(t, watch); string(got.Payload) != "0" {
						t.Fatalf("after its end: %+v", got)
					}
				}
			})
		}
	}
}
