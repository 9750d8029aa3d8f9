package gateway

import (
	"testing"

	"holdfast/broker"
	"holdfast/broker/server"
)

// TestOwnMessagesRankAboveClients: the gateway's own messages have a queue in each bridge, one priority above those
// of clients, unless a rule has a priority; messages from another bridge rank as a client's.
func TestOwnMessagesRankAboveClients(t *testing.T) {
	s := planSite(t, "bridges: [{name: a, upstream: [\"mqtt://127.0.0.1:1\"], out: [{filter: alarms/#, priority: 3}, {filter: '#'}]}]\n")
	s.start()
	own := func(topic string) {
		done := make(chan error, 1)
		err := s.agent.made.server.Publish(&broker.Message{Topic: topic, Payload: []byte("x"), QoS: 1}, server.PublishOptions{Done: func(err error) { done <- err }})
		if err != nil || <-done != nil {
			t.Fatal(err)
		}
	}
	s.put("x/evil", 3)
	s.put("alarms/evil", 1)
	own("x/good")
	own("x/good")
	own("alarms/good")
	got := s.readers()
	want := "bridge/a 3 waiting, priority 1; bridge/a/own 2 waiting, priority 2; bridge/a/p3 2 waiting, priority 3"
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	s.stop()
}
