package gateway

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/broker"
	"holdfast/broker/server"
)

// TestRetainedReadings: readings are retained for the sensors that the configuration names. What is retained of others, of those
// that are gone, and of what has changed, is cleared, at a reload and at a start; what a client retains stays.
func TestRetainedReadings(t *testing.T) {
	sensors := func(retain string, list ...string) string {
		text := "retain: " + retain + "\nsensors:\n"
		for _, s := range list {
			name, more, _ := strings.Cut(s, " ")
			text += fmt.Sprintf("  - {name: %s, driver: gpio-input, bus: simulated, line: 5, every: 24h%s}\n", name, more)
		}
		return text
	}
	s := planSite(t, "")
	plain := s.config
	s.config = plain + sensors("true", "a", "b", "c , retain: false", "d")
	s.start()
	check := func(what string, want ...string) {
		t.Helper()
		var got []string
		for _, m := range s.agent.made.server.RetainedMessages("sensors/#") {
			got = append(got, strings.TrimSuffix(strings.TrimPrefix(m.Topic, "sensors/site/"), "/state"))
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: retained is %v, want %v", what, got, want)
		}
	}
	retained := func(n int) bool {
		return s.eventually(func() bool { return len(s.agent.made.server.RetainedMessages("sensors/#")) >= n })
	}
	reload := func(text string, want ...string) {
		t.Helper()
		s.config = plain + text
		lines, err := s.agent.made.exchanger.Exchange(s.load())
		if err != nil || !slices.Equal(lines, want) {
			t.Errorf("the reload says %q, %v, want %q", lines, err, want)
		}
	}
	if !retained(3) {
		t.Fatal("nothing is retained")
	}
	for _, name := range []string{"a", "b", "c", "d"} {
		s.take(name, 1, time.Now())
	}
	const foreign = "sensors/site/e/state"
	if err := s.agent.made.server.Publish(&broker.Message{Topic: foreign, Payload: []byte("mine"), Retain: true}, server.PublishOptions{}); err != nil {
		t.Fatal(err)
	}
	check("at first", "a", "b", "d", "e")
	reload(sensors("false", "a , retain: true", "b", "c", "d"), "sensor b: changed", "sensor d: changed")
	check("retain is off but for a", "a", "e")
	reload(sensors("true", "a", "b", "c"), "sensor d: removed", "sensor b: changed", "sensor c: changed")
	s.take("b", 1, time.Now())
	s.take("c", 1, time.Now())
	check("d is gone", "a", "b", "c", "e")
	s.stop()
	s.config = plain + sensors("false", "a , retain: true", "c")
	s.start()
	if !s.eventually(func() bool { return len(s.agent.made.server.RetainedMessages("sensors/#")) == 2 }) {
		t.Error("what is not retained any more is not cleared at the start")
	}
	check("after a start", "a", "e")
}
