package gateway

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"holdfast/broker/brokertest"
	"holdfast/gateway/config"
)

// TestUsage: the first rule that matches a topic is the one that is used, and rules are named that nothing has
// used for long enough.
func TestUsage(t *testing.T) {
	u := newUsage(config.Bridge{
		Out: []config.Rule{{Filter: "sensors/#"}, {Filter: "sensors/+/air"}, {Filter: "alarms/#"}, {Filter: "sensor/#"}},
		In:  []config.Rule{{Filter: "commands/#"}, {Filter: "sensors/#"}},
	})
	at := func(after time.Duration) (list []string) {
		for _, r := range u.unmatched(u.since.Add(after)) {
			list = append(list, r.Direction+" "+r.Filter)
		}
		return list
	}
	if got := at(unmatchedAfter - 1); got != nil {
		t.Errorf("too early: %v", got)
	}
	u.out.note("sensors/a/air")
	u.out.note("sensors/a/air")
	u.out.note("else")
	u.in.note("commands/x")
	if got, want := at(unmatchedAfter), []string{"out sensors/+/air", "out alarms/#", "out sensor/#", "in sensors/#"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	u.out.note("alarms")
	u.out.note("sensor/x")
	u.in.note("sensors/x")
	if got, want := at(24*time.Hour), []string{"out sensors/+/air"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// TestUnmatchedRules: messages of QoS 0 and above use rules, with and without an upstream, and the status names
// those that none has used.
func TestUnmatchedRules(t *testing.T) {
	s := planSite(t, fmt.Sprintf(`bridges:
  - {name: up, upstream: ["mqtt://%s"], out: [{filter: a/#}, {filter: b/#, qos: 0}, {filter: c/#}, {filter: a/b}]}
`, brokertest.FreeAddress(t)))
	s.start()
	s.put("a/x", 1)
	s.put("b/x", 1)
	s.put("a/b", 1)
	one := s.agent.Status().Bridges[0]
	if one.Unmatched != nil {
		t.Errorf("too early: %v", one.Unmatched)
	}
	u := s.agent.links[0].usage.Load()
	u.since = u.since.Add(-unmatchedAfter)
	var got []string
	for _, r := range s.agent.Status().Bridges[0].Unmatched {
		got = append(got, r.Direction+" "+r.Filter)
	}
	if want := []string{"out c/#", "out a/b"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
