package web

import (
	"strings"
	"sync"
	"time"
)

const (
	maxPeriods = 256
	maxReason  = 200 // bytes
)

// Timeline remembers when a connection was there and when it was not. Methods are safe for concurrent
// use.
type Timeline struct {
	mu      sync.Mutex
	periods ring[period]
}

type period struct {
	since     time.Time // with the monotonic clock, so that it moves when the wall clock is set
	connected bool
	reason    string // why it ended
}

// Period is a part of a timeline, up to the next one.
type Period struct {
	Since     time.Time `json:"since"`
	Connected bool      `json:"connected"`
	Reason    string    `json:"reason,omitempty"`
}

// NewTimeline returns one that begins now, without a connection.
func NewTimeline() *Timeline {
	t := new(Timeline)
	t.Changed(false, nil)
	return t
}

// Changed notes that a connection has begun, or why it has ended.
func (t *Timeline) Changed(connected bool, reason error) {
	p := period{since: time.Now(), connected: connected}
	if reason != nil {
		p.reason = reason.Error()
		if len(p.reason) > maxReason {
			p.reason = strings.ToValidUTF8(p.reason[:maxReason], "") + "..."
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.periods.add(p, maxPeriods)
}

// Periods returns the newest, oldest first.
func (t *Timeline) Periods() (list []Period) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	t.periods.each(func(p period) {
		list = append(list, Period{now.Round(0).Add(-now.Sub(p.since)).Round(time.Second), p.connected, p.reason})
	})
	return list
}
