package server

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"holdfast/broker/server/filters"
	"holdfast/broker/server/limits"
	"holdfast/broker/wire"
)

// filterUse is what clients' filters take, by user.
type filterUse struct {
	weights limits.Account // of the filters
	steps   limits.Account // by which they have made searches of the index longer
}

func (u *filterUse) init(o *Options) {
	u.weights.Limit(limits.Filters, int64(o.MaxFilters), o.UserShare)
	u.steps.Limit(limits.Matching, int64(o.MaxMatching), o.UserShare)
}

// subscription is one of a session.
type subscription struct {
	filters.Subscription
	steps int // by which it has made searches of the index longer
}

// subscriptions are those of a session. Guarded by session.mu.
type subscriptions struct {
	byFilter map[string]subscription
	count    atomic.Int32 // len(byFilter), readable without mu
	weight   int          // of the filters
	steps    int          // by which they have made searches of the index longer
	numbered bool         // one has or had an identifier
}

// set adds or replaces a subscription. weight is the filter's, more by how much it has made searches longer.
func (u *subscriptions) set(filter string, sub subscription, weight, more int) {
	if u.byFilter == nil {
		u.byFilter = map[string]subscription{}
	}
	if _, had := u.byFilter[filter]; !had {
		u.weight += weight
	}
	u.byFilter[filter] = sub
	u.count.Store(int32(len(u.byFilter)))
	u.numbered = u.numbered || sub.ID != 0
	u.steps += more
}

// unset removes a subscription.
func (u *subscriptions) unset(filter string, weight int) {
	u.weight -= weight
	u.steps -= u.byFilter[filter].steps
	delete(u.byFilter, filter)
	u.count.Store(int32(len(u.byFilter)))
}

// subscribe adds a subscription, and returns whether it is new and the first version of the index that has it.
// If a limit refuses it, nothing is added. Called with mu held.
func (x *session) subscribe(filter string, sub filters.Subscription) (isNew bool, version uint64, refused limits.Name) {
	s := x.s
	old, had := x.subs.byFilter[filter]
	weight := x.filterWeight(filter)
	if !had {
		if x.subs.weight+weight > s.opts.MaxSubscriptions {
			return false, 0, limits.Subscriptions
		}
		if refused := s.filters.weights.Take(x.user, int64(weight)); refused != "" {
			return false, 0, refused
		}
	}
	share := s.filters.steps.Share(x.user)
	room := min(share-s.filters.steps.Of(x.user), max(1, share/2)-int64(x.subs.steps))
	isNew, version, more, ok := s.index.Add(filter, x.target, sub, s.opts.MaxMatching, int(max(0, room)))
	if !ok {
		s.filters.weights.Give(x.user, int64(weight))
		return false, 0, limits.Matching
	}
	x.s.filters.steps.Add(x.user, int64(max(0, more)))
	x.subs.set(filter, subscription{sub, old.steps + max(0, more)}, weight, max(0, more))
	return isNew, version, ""
}

// restoreSubscription adds a subscription that an earlier process has granted, whatever the limits are now. Called
// with mu held.
func (x *session) restoreSubscription(filter string, sub filters.Subscription) {
	if _, had := x.subs.byFilter[filter]; had {
		return
	}
	weight := x.filterWeight(filter)
	x.s.filters.weights.Add(x.user, int64(weight))
	_, _, steps, _ := x.s.index.Add(filter, x.target, sub, filters.NoLimit, filters.NoLimit)
	x.s.filters.steps.Add(x.user, int64(steps))
	x.subs.set(filter, subscription{sub, steps}, weight, steps)
}

// unsubscribe removes a subscription and reports whether there was one. Its retained messages not yet sent
// are dropped; queued live messages are still delivered. Called with mu held.
func (x *session) unsubscribe(filter string) bool {
	sub, had := x.subs.byFilter[filter]
	if !had {
		return false
	}
	weight := x.filterWeight(filter)
	x.subs.unset(filter, weight)
	x.s.filters.weights.Give(x.user, int64(weight))
	x.s.filters.steps.Give(x.user, int64(sub.steps))
	x.replays = slices.DeleteFunc(x.replays, func(r replay) bool { return r.filter == filter })
	return x.s.index.Remove(filter, x.target)
}

// Each weightLevels levels and weightBytes bytes that a filter has begun count as one of Options.MaxSubscriptions
// and MaxFilters: its cost in the index and, with the client identifier, among the journal's keys.
const (
	weightLevels = 8
	weightBytes  = 128
)

func (x *session) filterWeight(filter string) int {
	return 1 + max(strings.Count(filter, "/")/weightLevels, (len(filter)+len(x.id))/weightBytes)
}

// belong moves the session into the share of a user. Called with Server.mu held.
func (x *session) belong(user string) {
	if x.user == user {
		return
	}
	s := x.s
	x.mu.Lock()
	defer x.mu.Unlock()
	s.sessions.tally.add(x, -1)
	for a, n := range map[*limits.Account]int{&s.filters.weights: x.subs.weight, &s.filters.steps: x.subs.steps} {
		a.Give(x.user, int64(n))
		a.Add(user, int64(n))
	}
	x.user = user
	s.sessions.tally.add(x, 1)
}

// identifiers returns the identifiers of the subscriptions that match topic, shared. Called with mu held.
func (x *session) identifiers(topic string) []uint32 {
	if !x.subs.numbered {
		return nil
	}
	return x.s.index.Named(topic).Identifiers(x.target)
}

// The value of a subscription: a byte of options as in a SUBSCRIBE packet, and the identifier.
func encodeSubscription(s filters.Subscription) []byte {
	o := s.QoS
	if s.NoLocal {
		o |= 1 << 2
	}
	if s.RetainAsPublished {
		o |= 1 << 3
	}
	return binary.AppendUvarint([]byte{o}, uint64(s.ID))
}

func decodeSubscription(b []byte) (filters.Subscription, error) {
	if len(b) < 2 || b[0]&3 > 2 {
		return filters.Subscription{}, fmt.Errorf("subscription %x: want options and an identifier", b)
	}
	id, n := binary.Uvarint(b[1:])
	if n <= 0 || id > wire.MaxSize {
		return filters.Subscription{}, fmt.Errorf("subscription %x: bad identifier", b)
	}
	return filters.Subscription{QoS: b[0] & 3, NoLocal: b[0]&4 != 0, RetainAsPublished: b[0]&8 != 0, ID: uint32(id)}, nil
}
