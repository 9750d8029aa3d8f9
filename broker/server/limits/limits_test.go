package limits

import (
	"bytes"
	"log/slog"
	"maps"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestLog: each refusal counts; each limit has its first line at once, and further ones after ten seconds, with how many there
// were.
func TestLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		l := NewLog(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{
			ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
				if a.Key == slog.TimeKey || a.Key == slog.LevelKey {
					return slog.Attr{}
				}
				return a
			},
		})))
		for _, step := range []struct {
			after time.Duration
			limit Name
			times int
			want  string
		}{
			{0, Filters, 1, "msg=refused limit=broker.limits.filters client=c\n"},
			{0, State, 1, "msg=refused limit=journal.max_size client=c\n"},
			{9 * time.Second, Filters, 3, ""},
			{time.Second, Filters, 1, "msg=refused limit=broker.limits.filters times=4 client=c\n"},
			{time.Minute, Filters, 1, "msg=refused limit=broker.limits.filters client=c\n"},
		} {
			time.Sleep(step.after)
			out.Reset()
			for range step.times {
				l.Reached(step.limit, "refused", "client", "c")
			}
			if got := strings.TrimLeft(out.String(), " "); got != step.want {
				t.Errorf("after %v: %q, want %q", step.after, got, step.want)
			}
		}
		if got, want := l.Totals(), map[string]uint64{"filters": 6, "state": 1}; !maps.Equal(got, want) {
			t.Errorf("totals %v, want %v", got, want)
		}
	})
}
