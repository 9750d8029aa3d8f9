// Package limits bounds what the clients of a server take of what they share, so that none takes what others need: counts by
// user with a share for each (Account), the rate of new connections (Rate), and one place that counts and logs what was
// refused or dropped (Log).
//
// The last part of what is shared is reserved for users who have little: however many take their share, there is room for
// the next one. The package only counts and answers: what is refused, dropped or closed, and what the client learns of
// it, is the server's. It stores nothing.
package limits

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// Name is one of the server's limits, under the name that a configuration gives it below broker.limits.
type Name string

// The limits.
const (
	Connections   Name = "connections"
	Connecting    Name = "connecting"
	ConnectPacket Name = "connect_packet"
	PacketTime    Name = "packet_time"
	Unfinished    Name = "unfinished"
	Sessions      Name = "sessions"
	Subscriptions Name = "subscriptions"
	Filters       Name = "filters"
	Matching      Name = "matching"
	Wills         Name = "wills"
	Retained      Name = "retained"
	Backlog       Name = "backlog"
	UserShare     Name = "user_share"
	QueuedTotal   Name = "queued_total"
	Inflight      Name = "inflight"
	TopicAliases  Name = "topic_aliases"
	State         Name = "state" // of the journal, a share of its max_size
)

// Key returns the key of the configuration that raises the limit.
func (n Name) Key() string {
	if n == State {
		return "journal.max_size"
	}
	return "broker.limits." + string(n)
}

// sayEvery is the shortest time between two log lines about the same limit.
const sayEvery = 10 * time.Second

// Log counts refusals and drops by limit, and logs them. It is safe for concurrent use.
type Log struct {
	to *slog.Logger

	mu     sync.Mutex // a leaf; guards what follows
	totals map[Name]uint64
	said   map[Name]said
}

// said is the time of a limit's last log line, and its total then.
type said struct {
	at    time.Time
	total uint64
}

// NewLog returns a Log without counts that writes to to.
func NewLog(to *slog.Logger) *Log {
	return &Log{to: to, totals: map[Name]uint64{}, said: map[Name]said{}}
}

// Reached counts a refusal or drop at a limit and logs it with the limit's key, each limit no more than once in ten seconds;
// a line after others that were left out has their number. text is the message of the log line, args its attributes.
// Writing the line may wait.
func (l *Log) Reached(n Name, text string, args ...any) {
	now := time.Now()
	l.mu.Lock()
	l.totals[n]++
	total, last := l.totals[n], l.said[n]
	quiet := !last.at.IsZero() && now.Sub(last.at) < sayEvery
	if !quiet {
		l.said[n] = said{now, total}
	}
	l.mu.Unlock()
	if quiet {
		return
	}
	to := l.to.With("limit", n.Key())
	if more := total - last.total; more > 1 {
		to = to.With("times", more)
	}
	to.Log(context.Background(), slog.LevelWarn, text, args...)
}

// Totals returns the refusals and drops by the limit's name.
func (l *Log) Totals() map[string]uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	totals := make(map[string]uint64, len(l.totals))
	for n, count := range l.totals {
		totals[string(n)] = count
	}
	return totals
}
