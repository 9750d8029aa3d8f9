package server_test

import (
	"errors"
	"testing"

	"holdfast/broker"
	"holdfast/broker/server"
	"holdfast/broker/wire"
)

// TestPublishInstead: what came by a route is known to have, until another publisher retains something else, also the same
// bytes, or a restart; and a publish instead of a retained message is one only while that is retained.
func TestPublishInstead(t *testing.T) {
	h := newHost(t, server.Options{})
	route, err := h.journal.OpenReader("bridge/a")
	if err != nil {
		t.Fatal(err)
	}
	other, err := h.journal.OpenReader("bridge/b")
	if err != nil {
		t.Fatal(err)
	}
	put := func(payload string, o server.PublishOptions) error {
		t.Helper()
		done := make(chan error, 1)
		o.Done = func(err error) { done <- err }
		err := h.Publish(&broker.Message{Topic: "r", QoS: 1, Retain: true, Payload: []byte(payload)}, o)
		if err != nil {
			if len(done) > 0 {
				t.Error("Done was called for a message that was not published")
			}
			return err
		}
		return <-done
	}
	for _, step := range []struct {
		what         string
		do           func() error
		from, before bool
		payload      string
	}{
		{"by the route", func() error { return put("x", server.PublishOptions{From: route}) }, true, false, "x"},
		{"by another route", func() error { return put("x", server.PublishOptions{From: other}) }, false, false, "x"},
		{"again", func() error { return put("x", server.PublishOptions{From: route}) }, true, false, "x"},
		{"by a client", func() error {
			publish(t, h.client(wire.V5, "c", true), wire.Publish{Topic: "r", QoS: 1, Retain: true, Payload: []byte("x")})
			return nil
		}, false, false, "x"},
		{"deleted by a client", func() error {
			publish(t, h.client(wire.V5, "c", true), wire.Publish{Topic: "r", QoS: 1, Retain: true})
			return nil
		}, false, false, ""},
		{"before a restart", func() error {
			err := put("y", server.PublishOptions{From: route})
			h.stop()
			h.start()
			return err
		}, false, true, "y"},
	} {
		old, _, _ := h.Retained("r", route)
		if err := step.do(); err != nil {
			t.Fatalf("%s: %v", step.what, err)
		}
		m, from, before := h.Retained("r", route)
		payload := ""
		if m != nil {
			payload = string(m.Payload)
		}
		if from != step.from || before != step.before || payload != step.payload {
			t.Errorf("%s: got %q, by the route: %v, from before: %v", step.what, payload, from, before)
		}
		if old != nil {
			if err := put("", server.PublishOptions{Instead: old}); !errors.Is(err, server.ErrReplaced) {
				t.Errorf("%s: instead of what was retained before: %v", step.what, err)
			}
		}
		if m, _, _ := h.Retained("r", route); (m == nil) != (payload == "") {
			t.Errorf("%s: retained: %v", step.what, m)
		}
	}
	m, _, _ := h.Retained("r", route)
	if err := put("", server.PublishOptions{Instead: m}); err != nil {
		t.Error(err)
	}
	if m, _, _ := h.Retained("r", route); m != nil {
		t.Errorf("still retained: %v", m)
	}
}
