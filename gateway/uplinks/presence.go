package uplinks

import (
	"time"

	"holdfast/broker"
	"holdfast/broker/server"
)

// announceTimeout is how long a start or an end waits for the disk to take the gateway's presence.
const announceTimeout = 2 * time.Second

// StatusTopic is where a gateway publishes whether it is there, in the words of package bridge.
func StatusTopic(device string) string { return "status/" + device }

// Announce publishes a gateway's presence at its own broker, retained, before clients come and before they are
// disconnected: what the journal retains from the last run was true then. Each bridge announces it to its
// upstream itself. It returns when that is on disk, or takes too long; an error is that it will not be.
func Announce(device, presence string, s *server.Server) error {
	done := make(chan error, 1)
	m := &broker.Message{Topic: StatusTopic(device), Payload: []byte(presence), QoS: 1, Retain: true}
	err := s.Publish(m, server.PublishOptions{Here: true, Done: func(err error) { done <- err }})
	if err == nil {
		select {
		case err = <-done:
		case <-time.After(announceTimeout): // it is tried all the same
		}
	}
	return err
}
