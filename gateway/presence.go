package gateway

import (
	"time"

	"holdfast/broker"
	"holdfast/broker/server"
)

// sayTimeout is how long a start or an end waits for the disk to take what the gateway says of itself.
const sayTimeout = 2 * time.Second

// statusTopic is where the gateway says whether it is there, in the words of package bridge.
func (a *Agent) statusTopic() string { return "status/" + a.cfg.Device.ID }

// say has it said at the local broker, retained, before clients come and before they are told to go: what the
// journal retains from the last run was true then. Each bridge says it to its upstream itself.
func (a *Agent) say(payload string) {
	done := make(chan error, 1)
	m := &broker.Message{Topic: a.statusTopic(), Payload: []byte(payload), QoS: 1, Retain: true}
	err := a.server.Publish(m, server.PublishOptions{Here: true, Done: func(err error) { done <- err }})
	if err == nil {
		select {
		case err = <-done:
		case <-time.After(sayTimeout): // it is tried all the same
		}
	}
	if err != nil && a.broken == nil { // else nothing can be kept, and that was said
		a.log.Warn("the gateway's status is not retained", "topic", m.Topic, "error", err)
	}
}
