package gateway

import (
	"testing"
	"time"

	"holdfast/broker/wire"
)

// TestACounterGoesOnAfterARestart: the total survives in the journal, although no reader is owed readings.
func TestACounterGoesOnAfterARestart(t *testing.T) {
	s := newSite(t, `sensors:
  - {name: water, driver: counter, bus: simulated, line: 4, scale: 0.5, unit: L, start: 10, every: 20ms}
`)
	const topic = "sensors/site/water/total"
	is := func(want float64) func(message) bool {
		return func(m message) bool { return m.Value != nil && *m.Value == want }
	}
	s.hear(topic, is(10))
	s.pi.GPIO(4).Set(false)
	s.pi.GPIO(4).Pulse(7, time.Millisecond)
	s.hear(topic, is(13.5))
	s.stop()
	s.start()
	s.hear(topic, is(13.5))
	s.pi.GPIO(4).Pulse(1, time.Millisecond)
	s.hear(topic, is(14))
}

func TestALocalTopicIsASensor(t *testing.T) {
	s := newSite(t, `sensors:
  - {name: plug, driver: mqtt, topic: shelly/plug/status, every: 10ms, values: {power: "apower", on: output}, units: {power: W}}
`)
	// The sensor subscribes when it is opened: what was said before that is none of its.
	for s.agent.Status().Clients.Subscriptions < 3+1+1 { // the client's, start's, the sensor's
		s.client.Silent()
	}
	for payload, want := range map[string]float64{`{"apower":42.5,"output":true}`: 42.5, `{"apower":"-1","output":"on"}`: -1} {
		s.publish(wire.Publish{Topic: "shelly/plug/status", Payload: []byte(payload)})
		if got := s.hear("sensors/site/plug/power", func(m message) bool { return true }); *got.Value != want {
			t.Errorf("got %v, want %v", *got.Value, want)
		}
		s.hear("sensors/site/plug/on", func(m message) bool { return m.Value != nil && *m.Value == 1 })
	}
}
