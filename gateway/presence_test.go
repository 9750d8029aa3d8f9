package gateway

import (
	"fmt"
	"testing"

	"holdfast/broker"
	"holdfast/broker/brokertest"
	"holdfast/broker/wire"
)

// TestOnlyTheGatewaySaysWhetherItIsThere: what an upstream has of it, such as a late will, does not come back by an in
// rule; what it has of others does.
func TestOnlyTheGatewaySaysWhetherItIsThere(t *testing.T) {
	m := brokertest.StartMosquitto(t, brokertest.MosquittoOptions{})
	c := brokertest.Dial(t, m.Addr(), wire.V311)
	c.Connect(wire.Connect{CleanStart: true})
	for i, topic := range []string{"status/site", "status/other"} {
		c.Send(&wire.Publish{Topic: topic, Payload: []byte("offline"), Retain: true, QoS: 1, ID: uint16(i + 1)})
		brokertest.Receive[*wire.Ack](c)
	}
	s := planSite(t, fmt.Sprintf("bridges: [{name: cloud, protocol: 3.1.1, upstream: [%q], in: [{filter: \"status/+\"}]}]\n", m.URL()))
	said := make(chan string, 10)
	s.before = func(a *Agent) {
		if _, err := a.Subscribe("status/+", func(m *broker.Message) { said <- m.Topic + " " + string(m.Payload) }); err != nil {
			t.Fatal(err)
		}
	}
	s.start()
	for _, want := range []string{"status/site online", "status/other offline"} {
		if got := <-said; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	s.stop()
	if got := <-said; got != "status/site offline" {
		t.Errorf("got %s at the end", got)
	}
}
