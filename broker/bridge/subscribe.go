package bridge

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast/broker/journal"
	"holdfast/broker/outbox"
	"holdfast/broker/wire"
)

// subackTimeout is how long an upstream may take to answer a subscription, and to send nothing of it either.
const subackTimeout = 2 * time.Minute

// A refused subscription is asked for again after a minute, later less often, up to an hour.
const (
	subscribeAgain = time.Minute
	subscribeMost  = time.Hour
)

// granted is the state of the subscription by the in rules.
type granted struct {
	host     string    // of the upstream
	id       uint16    // of SUBSCRIBE
	asked    time.Time // when it was sent, or something came after that; zero if it is answered
	again    time.Time // when a refused subscription is tried again; zero for not
	refusals int
}

// resubscribe subscribes again to what was refused, when that is due. It returns the time until then.
func (s *connection) resubscribe(now time.Time) time.Duration {
	if s.sub.again.IsZero() {
		return outbox.Forever
	}
	if wait := s.sub.again.Sub(now); wait > 0 {
		return wait
	}
	s.sub.again = time.Time{}
	s.ask(false)
	return outbox.Forever
}

// subscribe subscribes to what the rules name, and unsubscribes from what only an earlier configuration named.
func (s *connection) subscribe(host string) {
	in, opts := s.b.in, &s.b.opts
	if !s.l.limits.present { // nothing of what it has sent comes again
		var changes []journal.Change
		for id := range in.unconfirmed {
			changes = append(changes, in.forget(id))
		}
		in.save(changes)
	}
	var old []string
	current := make(map[string]bool)
	for _, r := range opts.In {
		current[r.Filter] = true
	}
	for _, f := range in.filters {
		if !current[f] {
			old = append(old, f)
		}
	}
	if len(old) > 0 && s.l.limits.present {
		s.l.send(&wire.Unsubscribe{ID: s.nextID(), Filters: old})
	}
	s.sub.host = host
	known := s.l.limits.present && (s.l.version == wire.V5 || in.fresh[host])
	if known && s.b.follows() {
		s.refresh.phase = draining
	}
	if known && s.l.version != wire.V5 {
		return // again would bring the retained messages again, which come when what is queued has come
	}
	s.ask(false)
	if all := in.remember(opts.In); !slices.Equal(all, in.filters) {
		in.setFilters(all)
	}
}

// ask sends the subscription: for what is retained, too, where all is set, the subscription is new or the upstream speaks
// 3.1.1, in which that cannot be left out.
func (s *connection) ask(all bool) {
	p := &wire.Subscribe{ID: s.nextID()}
	handling := byte(1)
	if all {
		handling = 0
	}
	if s.b.follows() && (all || s.l.version != wire.V5 || !s.l.limits.present && s.refresh.phase == idle && s.sub.refusals == 0) {
		s.refresh.begin(s.b.in)
	}
	for _, r := range s.b.opts.In {
		p.Subscriptions = append(p.Subscriptions, wire.Subscription{
			Filter: r.Filter, QoS: min(r.QoS, s.l.limits.qos), NoLocal: true, RetainAsPublished: true, RetainHandling: handling,
		})
	}
	s.l.send(p)
	s.sub.id, s.sub.asked = p.ID, time.Now()
}

// maxFilters is how many filters of earlier configurations are remembered, for upstreams that were away
// when they changed.
const maxFilters = 64

func (in *inbound) remember(rules []Rule) []string {
	all := slices.Clone(in.filters)
	for _, r := range rules {
		if !slices.Contains(all, r.Filter) {
			all = append(all, r.Filter)
		}
	}
	return all[max(0, len(all)-len(rules)-maxFilters):]
}

// subscribed handles SUBACK. The connection goes on in any case: it carries the other direction.
func (s *connection) subscribed(p *wire.Suback) {
	if p.Type != wire.SUBACK || p.ID != s.sub.id {
		return
	}
	s.sub.asked = time.Time{}
	s.refresh.answered(p.Codes, len(s.b.opts.In))
	good := true
	var wrong []string
	for i, code := range p.Codes {
		if code < wire.Unspecified || i >= len(s.b.opts.In) {
			continue
		}
		good = false
		text := fmt.Sprintf("upstream refuses a subscription to %q: %v", s.b.opts.In[i].Filter, code)
		s.counts.LastError = text
		wrong = append(wrong, fmt.Sprintf("%q (%v)", s.b.opts.In[i].Filter, code))
		if s.sub.refusals == 0 {
			s.b.log.Error("nothing comes in by a rule", "filter", s.b.opts.In[i].Filter, "reason", code.String())
		}
	}
	if good {
		s.b.problem("subscription", "", time.Time{})
	} else {
		s.b.problem("subscription", "the upstream refuses the subscription to "+strings.Join(wrong, ", ")+
			": nothing comes in by it; allow this user to read there, or correct the rule in `in`", time.Time{})
		s.sub.again = time.Now().Add(min(subscribeAgain<<min(s.sub.refusals, 6), subscribeMost))
		s.sub.refusals++
	}
	s.b.in.fresh[s.sub.host] = good
}
