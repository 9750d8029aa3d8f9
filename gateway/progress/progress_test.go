package progress

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestProgress: a loop that waits is well for ever; one that is at a single piece of work for long is not.
func TestProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := New()
		one, two := p.Loop("one"), p.Loop("two")
		one(true)
		one(false)
		two(true)
		time.Sleep(time.Minute)
		if got := p.Stuck(time.Minute); got != nil {
			t.Errorf("after a minute: %v", got)
		}
		time.Sleep(time.Second)
		if got := strings.Join(p.Stuck(time.Minute), " "); got != "two" {
			t.Errorf("got %q, want two", got)
		}
		two(true)
		if got := p.Stuck(time.Minute); got != nil {
			t.Errorf("it has gone on: %v", got)
		}
	})
}
