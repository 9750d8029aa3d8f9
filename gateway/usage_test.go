package gateway

import (
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"holdfast/broker/brokertest"
)

// TestUnmatchedRules: messages of QoS 0 and above use rules, with and without an upstream, and the status names
// those that none has used.
func TestUnmatchedRules(t *testing.T) {
	s := planSite(t, fmt.Sprintf(`bridges:
  - {name: up, upstream: ["mqtt://%s"], out: [{filter: a/#}, {filter: b/#, qos: 0}, {filter: c/#}, {filter: a/b}]}
`, brokertest.FreeAddress(t)))
	var ahead atomic.Int64
	s.opts.seams.now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	s.start()
	s.put("a/x", 1)
	s.put("b/x", 1)
	s.put("a/b", 1)
	one := s.agent.Status().Bridges[0]
	if one.Unmatched != nil {
		t.Errorf("too early: %v", one.Unmatched)
	}
	ahead.Store(int64(10 * time.Minute))
	var got []string
	for _, r := range s.agent.Status().Bridges[0].Unmatched {
		got = append(got, r.Direction+" "+r.Filter)
	}
	if want := []string{"out c/#", "out a/b"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
