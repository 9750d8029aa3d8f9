package gateway

import (
	"strings"
	"testing"
)

// TestDirectoryOfAnotherDevice: a data directory that another device wrote is said in the status, until the next start.
func TestDirectoryOfAnotherDevice(t *testing.T) {
	s := planSite(t, "")
	for _, start := range []struct{ device, foreign string }{{"site", ""}, {"site", ""}, {"other", "site"}, {"other", ""}} {
		s.config = strings.NewReplacer("{id: site}", "{id: "+start.device+"}", "{id: other}", "{id: "+start.device+"}").Replace(s.config)
		s.start()
		st := s.agent.Status()
		if st.Journal.Foreign != start.foreign {
			t.Errorf("%s: got %q, want %q", start.device, st.Journal.Foreign, start.foreign)
		}
		told := strings.Contains(strings.Join(st.Problems, "\n"), "an unknown number of messages")
		if told != (start.foreign != "") {
			t.Errorf("%s: problems %q", start.device, st.Problems)
		}
		s.stop()
	}
}
