package uplinks

import (
	"slices"
	"testing"
	"time"

	"holdfast/gateway/config"
)

// TestUsage: the first rule that matches a topic is the one that is used, and rules are named that nothing has
// used for long enough.
func TestUsage(t *testing.T) {
	u := newUsage(config.Bridge{
		Out: []config.Rule{{Filter: "sensors/#"}, {Filter: "sensors/+/air"}, {Filter: "alarms/#"}, {Filter: "sensor/#"}},
		In:  []config.Rule{{Filter: "commands/#"}, {Filter: "sensors/#"}},
	}, time.Now())
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
