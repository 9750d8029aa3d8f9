package gateway

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"holdfast/broker"
	"holdfast/broker/brokertest"
	"holdfast/broker/wire"
)

// pair is two gateways that have nothing in common but an upstream. What a's button says moves b's
// relay, and what the relay says comes back to a.
type pair struct {
	a, b         *site
	linkA, linkB *brokertest.Link
	done, heard  chan string // commands that were carried out, at b, and that a hears of
}

// newPair makes both ends speak a version to an upstream at an address.
func newPair(t *testing.T, protocol, upstream string) *pair {
	x := &pair{
		linkA: brokertest.NewLink(t, upstream), linkB: brokertest.NewLink(t, upstream),
		done: make(chan string, 1000), heard: make(chan string, 1000),
	}
	site := func(id, upstream, rest string) *site {
		s := planSite(t, fmt.Sprintf(`bridges:
  - name: cloud
    upstream: ["mqtt://%s"]
    protocol: %q
%s`, upstream, protocol, rest))
		s.config = strings.Replace(s.config, "{id: site}", "{id: "+id+"}", 1)
		return s
	}
	x.a = site("a", x.linkA.Addr(), `
    out: [{filter: "buttons/#", prefix: "house/"}]
    in: [{filter: "house/results/#", strip: "house/"}]
`)
	x.b = site("b", x.linkB.Addr(), `
    in: [{filter: "house/buttons/b/#", strip: "house/buttons/", prefix: "outputs/"}]
    out: [{filter: "outputs/b/+/result", strip: "outputs/b/", prefix: "house/results/"}]
outputs:
  - {name: relay, driver: gpio-output, bus: simulated, line: 1, safe: off, command_expiry: 10m}
`)
	x.linkA.Join()
	x.linkB.Join()
	x.b.start()
	x.a.start()
	x.results(x.b, "outputs/b/relay/result", x.done)
	x.results(x.a, "results/#", x.heard)
	return x
}

func (x *pair) results(s *site, filter string, c chan<- string) {
	_, err := s.agent.Subscribe(filter, func(m *broker.Message) {
		var r struct{ ID, Result string }
		if err := json.Unmarshal(m.Payload, &r); err != nil {
			s.t.Errorf("%s: %v", m.Payload, err)
		}
		c <- r.ID + " " + r.Result
	})
	if err != nil {
		s.t.Fatal(err)
	}
}

// press publishes at a what a button says: numbered, so that what was carried out can be counted.
func (x *pair) press(from, to int) {
	x.a.t.Helper()
	for n := from; n < to; n++ {
		value := "off"
		if n%2 == 0 {
			value = "on"
		}
		x.a.publish(wire.Publish{Topic: "buttons/b/relay/set", QoS: 1, Payload: fmt.Appendf(nil, `{"value":%q,"id":"n%d"}`, value, n)})
		if a := brokertest.Receive[*wire.Ack](x.a.client); a.Code >= 0x80 {
			x.a.t.Fatalf("PUBACK: %+v", a)
		}
	}
}

// moved waits until the relay has carried out every command, and a has heard of it: each once, and in
// order. 3.1.1 cannot tell a command that was sent again from another one: there the relay refuses the
// second one by its id, and a may hear twice.
func (x *pair) moved(from, to int, once bool) {
	x.a.t.Helper()
	for name, results := range map[string]chan string{"carried out": x.done, "heard of": x.heard} {
		last := fmt.Sprintf("n%d done", from-1)
		for n := from; n < to; {
			got := <-results
			switch want := fmt.Sprintf("n%d done", n); {
			case got == want:
				last = got
				n++
			case once, !strings.HasSuffix(got, "refused") && (name == "carried out" || later(got, last)):
				x.a.t.Fatalf("%s: %q, want %q", name, got, want)
			}
		}
	}
}

func later(a, b string) bool {
	var m, n int
	fmt.Sscanf(a, "n%d", &m)
	fmt.Sscanf(b, "n%d", &n)
	return m > n
}

// TestButtonToRelayAndBack: a command crosses two gateways and an upstream, and its result comes back;
// the link is cut at either end, in the middle of a stream of commands and for a while.
func TestButtonToRelayAndBack(t *testing.T) {
	upstreams := map[string]func(t *testing.T) string{
		"mosquitto": func(t *testing.T) string { return brokertest.StartMosquitto(t, brokertest.MosquittoOptions{}).Addr() },
		"holdfast": func(t *testing.T) string {
			hub := newSite(t, "")
			return hub.agent.made.server.Addrs()[0].String()
		},
	}
	for _, version := range []string{"mosquitto/3.1.1", "mosquitto/5", "holdfast/3.1.1", "holdfast/5"} {
		t.Run(version, func(t *testing.T) {
			name, protocol, _ := strings.Cut(version, "/")
			x := newPair(t, protocol, upstreams[name](t))
			x.press(0, 4)
			x.moved(0, 4, protocol == "5")
			n := 4
			for round, link := range []*brokertest.Link{x.linkA, x.linkB, x.linkA, x.linkB} {
				link.Cut()
				x.press(n, n+10)
				link.Join()
				if round >= 2 { // in the middle of the drain
					link.Cut()
					link.Join()
				}
				x.press(n+10, n+20)
				x.moved(n, n+20, protocol == "5")
				n += 20
			}
			st := x.b.agent.Status().Bridges[0]
			if protocol == "5" && st.Received != uint64(n) {
				t.Errorf("%d commands came in, want %d: %+v", st.Received, n, st)
			}
		})
	}
}
