package gateway

import (
	"strings"
	"testing"
	"time"

	"holdfast/broker/brokertest"
	"holdfast/broker/wire"
	"holdfast/gateway/tap"
)

// TestAnEdgeDoesNotWaitForTheSharedCommit: where readings are committed every ten minutes, that of an edge is on disk at
// once, and with it those before it. A message of a topic waits with the readings of the schedule.
func TestAnEdgeDoesNotWaitForTheSharedCommit(t *testing.T) {
	s := planSite(t, `sensors:
  - {name: door, driver: gpio-input, bus: simulated, line: 4, every: 1h}
  - {name: plug, driver: mqtt, topic: plug, every: 1h}
`)
	s.config = strings.Replace(s.config, "keep_free: 0B", "keep_free: 0B, commit_every: 10m", 1)
	type outcome struct {
		quantity string
		value    float64
	}
	taken, settled := map[uint64]outcome{}, make(chan outcome, 100)
	s.opts.Taps = []tap.Options{{Name: "test", Take: func(e tap.Event) {
		switch e := e.(type) {
		case tap.Reading:
			taken[e.Seq] = outcome{e.Sensor + "." + e.Quantity, e.Value}
		case tap.Settled:
			if e.Err != nil {
				t.Error(e.Err)
			}
			settled <- taken[e.Seq]
		}
	}}}
	s.start()
	durable := brokertest.Dial(t, s.agent.made.server.Addrs()[0].String(), wire.V5)
	expiry := uint32(3600)
	durable.Connect(wire.Connect{ClientID: "durable", Properties: wire.Properties{SessionExpiry: &expiry}})
	durable.Send(&wire.Subscribe{ID: 1, Subscriptions: []wire.Subscription{{Filter: "sensors/#", QoS: 1}}})
	brokertest.Receive[*wire.Suback](durable)
	plug := brokertest.Dial(t, s.agent.made.server.Addrs()[0].String(), wire.V5)
	plug.Connect(wire.Connect{ClientID: "plug", CleanStart: true})
	for s.agent.Status().Sensors[1].Taken == 0 { // until it listens
		plug.Send(&wire.Publish{Topic: "plug", Payload: []byte("7")})
		plug.Silent()
	}
	select {
	case o := <-settled:
		if o.quantity == "plug.value" {
			t.Errorf("%+v did not wait", o)
		}
	default:
	}
	s.pi.GPIO(4).Set(false)
	timeout := time.After(30 * time.Second)
	for want := (outcome{"door.released", 1}); ; {
		select {
		case o := <-settled:
			if o == want {
				return
			}
		case <-timeout:
			t.Fatal("the edge is not on disk")
		}
	}
}
