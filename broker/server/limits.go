package server

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"holdfast/broker/journal"
)

// limit is one of the server's limits, under the name that a configuration gives it below broker.limits.
type limit string

const (
	limitConnections   limit = "connections"
	limitConnecting    limit = "connecting"
	limitConnectPacket limit = "connect_packet"
	limitPacketTime    limit = "packet_time"
	limitUnfinished    limit = "unfinished"
	limitSessions      limit = "sessions"
	limitSubscriptions limit = "subscriptions"
	limitFilters       limit = "filters"
	limitMatching      limit = "matching"
	limitWills         limit = "wills"
	limitRetained      limit = "retained"
	limitBacklog       limit = "backlog"
	limitUserShare     limit = "user_share"
	limitQueuedTotal   limit = "queued_total"
	limitInflight      limit = "inflight"
	limitTopicAliases  limit = "topic_aliases"
	limitState         limit = "state" // of the journal, a share of its max_size
)

// sayEvery is the shortest time between two log lines about the same limit.
const sayEvery = 10 * time.Second

// reached counts refusals and drops by limit.
type reached struct {
	mu     sync.Mutex
	totals map[limit]uint64
	said   map[limit]said
}

// said is the time of a limit's last log line, and its total then.
type said struct {
	at    time.Time
	total uint64
}

// reached counts a refusal or drop at a limit and logs it, each limit no more than once in ten seconds. text is the
// message of the log line, args its attributes.
func (s *Server) reached(l limit, text string, args ...any) {
	now := time.Now()
	r := &s.counts.limits
	r.mu.Lock()
	if r.totals == nil {
		r.totals, r.said = map[limit]uint64{}, map[limit]said{}
	}
	r.totals[l]++
	total, last := r.totals[l], r.said[l]
	quiet := !last.at.IsZero() && now.Sub(last.at) < sayEvery
	if !quiet {
		r.said[l] = said{now, total}
	}
	r.mu.Unlock()
	if quiet {
		return
	}
	name := "broker.limits." + string(l)
	if l == limitState {
		name = "journal.max_size"
	}
	log := s.log.With("limit", name)
	if more := total - last.total; more > 1 {
		log = log.With("times", more)
	}
	log.Log(context.Background(), slog.LevelWarn, text, args...)
}

// stateRefused reports whether err is the journal's refusal of more state, which it counts and logs.
func (s *Server) stateRefused(err error, client, what string) bool {
	if !errors.Is(err, journal.ErrState) && !errors.Is(err, journal.ErrTooLarge) {
		return false
	}
	s.reached(limitState, what+": the state of clients has its share of the journal; end sessions that are not needed, or raise max_size", "client", client)
	return true
}

// snapshot returns the totals by limit.
func (r *reached) snapshot() map[string]uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	totals := make(map[string]uint64, len(r.totals))
	for l, n := range r.totals {
		totals[string(l)] = n
	}
	return totals
}

// The last eighth of what all clients share is reserved for users that have at most a sixteenth of it, and at most half
// of what others leave: however many users take their share, there is room for the next one.
const (
	lastPart  = 8
	smallPart = 16
)

// share returns how much one user may have of an amount that all clients share, if others have so much already. Clients
// without a user count as one.
func (s *Server) share(all, others int64) int64 { return share(s.opts.UserShare, all, others) }

func share(percent int, all, others int64) int64 {
	if percent >= 100 {
		return all
	}
	most := int64(float64(all) * float64(percent) / 100)
	return max(1, min(most, max(min(all/smallPart, (all-others)/2), all-all/lastPart-others)))
}

// account counts the use of one resource by all clients and by each user. Safe for concurrent use.
type account struct {
	limit   limit // that refuses where all users together have most
	most    int64
	percent int // of most that one user may have; see share

	mu   sync.Mutex // a leaf; guards what follows
	all  int64
	each map[string]int64 // by user
}

// limited sets the limits. Without it nothing is limited, and only add and give may be called.
func (a *account) limited(l limit, most int64, percent int) {
	a.limit, a.most, a.percent = l, most, percent
}

// take adds n for a user, unless all then exceed the limit or the user its share of it. It returns which limit refuses,
// or nothing.
func (a *account) take(user string, n int64) (refused limit) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case n > 0 && a.all+n > a.most:
		return a.limit
	case n > 0 && a.each[user]+n > share(a.percent, a.most, a.all-a.each[user]):
		return limitUserShare
	}
	a.count(user, n)
	return ""
}

// add adds n for a user, whatever the limits are.
func (a *account) add(user string, n int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.count(user, n)
}

// give gives n back.
func (a *account) give(user string, n int64) { a.add(user, -n) }

// count is called with mu held.
func (a *account) count(user string, n int64) {
	a.all += n
	if a.each == nil {
		a.each = map[string]int64{}
	}
	if a.each[user] += n; a.each[user] <= 0 {
		delete(a.each, user)
	}
}

// of returns what a user has.
func (a *account) of(user string) int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.each[user]
}

// share returns how much a user may have.
func (a *account) share(user string) int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return share(a.percent, a.most, a.all-a.each[user])
}
