package uplinks

import (
	"sync/atomic"
	"time"

	"holdfast/broker"
	"holdfast/gateway/config"
	"holdfast/gateway/status"
)

// unmatchedAfter is how long a rule may match nothing before the status names it.
const unmatchedAfter = 10 * time.Minute

// usage is which rules of a bridge have matched anything since the bridge was made. It may be used by several
// goroutines, and costs nothing once all have.
type usage struct {
	client  string // the bridge's identifier
	since   time.Time
	out, in ruleUse
}

// ruleUse is usage of one direction.
type ruleUse struct {
	rules   broker.Rules
	matched []atomic.Bool
	missing atomic.Int32 // of matched, that are false
}

func newUsage(c config.Bridge, now time.Time) *usage {
	u := &usage{client: c.ClientID, since: now}
	u.out.init(c.Out)
	u.in.init(c.In)
	return u
}

func (r *ruleUse) init(rules []config.Rule) {
	r.rules = config.Rules(rules)
	r.matched = make([]atomic.Bool, len(rules))
	r.missing.Store(int32(len(rules)))
}

// note counts a message's topic. The first rule that matches it is the one that is used.
func (r *ruleUse) note(topic string) {
	if r.missing.Load() == 0 {
		return
	}
	r.noteRule(r.rules.Match(topic))
}

// noteRule counts a message that the rule at a place of the configuration decides about, -1 for none.
func (r *ruleUse) noteRule(i int) {
	if i >= 0 && r.matched[i].CompareAndSwap(false, true) {
		r.missing.Add(-1)
	}
}

// unmatched returns the rules that have matched nothing for long enough.
func (u *usage) unmatched(now time.Time) (list []status.UnmatchedRule) {
	if now.Sub(u.since) < unmatchedAfter {
		return nil
	}
	for _, d := range []struct {
		name string
		*ruleUse
	}{{"out", &u.out}, {"in", &u.in}} {
		for i := range d.rules {
			if !d.matched[i].Load() {
				list = append(list, status.UnmatchedRule{Direction: d.name, Filter: d.rules[i].Filter, Since: u.since})
			}
		}
	}
	return list
}
