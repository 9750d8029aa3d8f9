package main

import (
	"fmt"
	"path/filepath"
	"testing"

	"holdfast/broker/brokertest"
	"holdfast/broker/wire"
)

// TestOnlineAndOffline: who watches at the upstream, and who comes later, knows of each gateway whether it is there:
// after a start, an orderly stop, SIGKILL, a link that is cut, and its return. At the local broker a client never finds
// what was true before the last start.
func TestOnlineAndOffline(t *testing.T) {
	upstreams := map[string]func(t *testing.T) string{
		"mosquitto": func(t *testing.T) string { return brokertest.StartMosquitto(t, brokertest.MosquittoOptions{}).Addr() },
		"holdfast": func(t *testing.T) string {
			hub := newProcess(t, "")
			hub.start(hub.write("hub.yaml", fmt.Sprintf("device: {id: hub}\ndata_dir: %s\nweb: {url: off}\nbroker: {listeners: [{url: \"mqtt://%s\"}]}\n",
				filepath.Join(hub.dir, "data"), hub.addr)))
			return hub.addr
		},
	}
	for name, upstream := range upstreams {
		for _, version := range []string{"3.1.1", "5"} {
			t.Run(name+"/"+version, func(t *testing.T) {
				t.Parallel()
				addr := upstream(t)
				link := brokertest.NewLink(t, addr)
				link.Join()
				g := newProcess(t, link.Addr())
				protocol := g.write("protocol.yaml", fmt.Sprintf("bridges:\n  - {name: up, protocol: %q}\n", version))
				fleet := statusOf(t, addr, "up/status/+")

				g.start(g.base, protocol)
				fleet.next("online")
				statusOf(t, g.addr, "status/+").next("online")
				link.Cut()
				fleet.next("offline")
				statusOf(t, addr, "up/status/+").next("offline")
				link.Join()
				fleet.next("online")

				g.kill()
				fleet.next("offline")
				g.start(g.base, protocol)
				fleet.next("online")
				statusOf(t, addr, "up/status/+").next("online")
				here := statusOf(t, g.addr, "status/+")
				here.next("online")

				g.terminate()
				here.next("offline")
				fleet.next("offline")
				statusOf(t, addr, "up/status/+").next("offline")
				g.start(g.base, protocol)
				statusOf(t, g.addr, "status/+").next("online")
				fleet.next("online")
				g.terminate()
				fleet.next("offline")
			})
		}
	}
}

// statuses is a subscription to what gateways say of themselves.
type statuses struct {
	t *testing.T
	*brokertest.Client
}

func statusOf(t *testing.T, addr, filter string) statuses {
	t.Helper()
	c := brokertest.Dial(t, addr, wire.V5)
	c.Connect(wire.Connect{CleanStart: true})
	c.Send(&wire.Subscribe{ID: 1, Subscriptions: []wire.Subscription{{Filter: filter, QoS: 1}}})
	brokertest.Receive[*wire.Suback](c)
	return statuses{t, c}
}

func (s statuses) next(want string) {
	s.t.Helper()
	if got := s.read(); got != want {
		s.t.Fatalf("got %q, want %q", got, want)
	}
}

func (s statuses) read() string {
	s.t.Helper()
	p := brokertest.Receive[*wire.Publish](s.Client)
	if p.QoS > 0 {
		s.Send(&wire.Ack{Type: wire.PUBACK, ID: p.ID})
	}
	return string(p.Payload)
}
