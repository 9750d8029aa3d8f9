package brokertest

import (
	"testing"

	"holdfast/broker/faultnet"
)

// Link is a link.Link that is closed when a test ends.
type Link struct {
	*faultnet.Link
	t testing.TB
}

// NewLink returns a link to target, host:port, which is closed when the test ends.
func NewLink(t testing.TB, target string) *Link {
	l := &Link{faultnet.New(FreeAddress(t), target), t}
	t.Cleanup(l.Cut)
	return l
}

// Join lets connections through.
func (l *Link) Join() {
	l.t.Helper()
	if err := l.Link.Join(); err != nil {
		l.t.Fatal(err)
	}
}
