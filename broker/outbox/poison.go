package outbox

import (
	"cmp"
	"fmt"
	"hash/maphash"
	"math"
	"math/bits"
	"slices"
	"strings"
	"time"
)

const (
	poisonMemory = time.Hour // how long messages of a kind that is poison are set aside without a trial
	goodMemory   = time.Hour // how long an acknowledged kind counts as one that the upstream takes
	// candidateMemory is how long a kind stays a candidate without a trial: its messages may have been dropped.
	candidateMemory = 10 * time.Minute
	evidenceHalf    = 10 * time.Minute // after which what is known of the link counts half

	strikesNeeded = 2    // alone, at an upstream that takes other messages, over a link without other faults
	strikesUnsure = 5    // alone, where nothing has been acknowledged
	flapping      = 3    // connections that ended with no message to blame, lately: then none is blamed
	unluckyChance = 1e-6 // that a link which breaks is taken for a message that the upstream does not take

	// A message that has ended a connection is tried again on a connection that has had wantAnswers answers, or has lasted
	// that long, counted from its beginning and, for the second trial, from the first end.
	wantAnswers  = 50
	settleTime   = 1500 * time.Millisecond
	secondSettle = 6500 * time.Millisecond
	maxKinds     = 2048 // of each map; what is beyond is forgotten, which costs connections and no message
)

// kind is the properties of a message that the upstream sees without the payload. A topic is its hash.
type kind struct {
	topic  uint64
	size   uint8 // of the payload: how many bits its length takes
	qos    byte
	retain bool
}

// candidate is of a kind that was in flight when the upstream ended a connection.
type candidate struct {
	strikes int           // connections that the upstream ended with this message alone unconfirmed
	first   time.Time     // when the first one ended
	age     time.Duration // of the last one when it ended
	seen    time.Time
}

// poisoned is a kind at which the upstream closes the connection.
type poisoned struct {
	topic string
	size  int
	until time.Time // after it the next message of the kind is tried again, alone
	count uint64    // messages that were set aside
	// strikes are the connections for which it was blamed. If the link turns out to break by itself, they may be too few.
	strikes int
}

// poison finds the messages at which an upstream closes the connection. MQTT 3.1.1 has no other way to refuse one, and
// some upstreams use none over 5.
//
// When the upstream ends a connection, the kinds in flight that it has not acknowledged in the last hour are
// candidates. Their messages are tried one at a time, with nothing else unconfirmed beside them, and only on a connection
// that has just shown to be alive; messages of other kinds go on as before. A kind that ends connections so, while others
// pass, is poison: its queued messages are set aside at once, for an hour, and then one message is tried again.
//
// A link that breaks by itself looks the same for a moment. How often it has broken lately decides how many connections
// must end at a message before it is blamed: see needed. It belongs to Run's goroutine.
type poison struct {
	seed       maphash.Seed
	good       map[kind]time.Time // when it was acknowledged, to within a minute
	candidates map[kind]*candidate
	kinds      map[kind]*poisoned
	oldest     uint64 // of a good kind, in flight when the last connection ended; 0 if there was none

	passed      float64   // messages that were acknowledged, lately
	broken      float64   // connections that ended with no message to blame, lately
	since       time.Time // when both were halved
	blamed      bool      // a message has been blamed since there are candidates
	disconnects int       // connections that the upstream ended since there are candidates
}

func newPoison() poison {
	return poison{
		seed: maphash.MakeSeed(), good: map[kind]time.Time{}, candidates: map[kind]*candidate{}, kinds: map[kind]*poisoned{},
	}
}

func (p *poison) kindOf(m *Prepared) kind {
	return kind{maphash.String(p.seed, m.Topic), uint8(bits.Len(uint(m.Size))), m.QoS, m.Retain}
}

// poisonOf returns the entry of a kind that is set aside without a trial; nil if it is not.
func (p *poison) poisonOf(k kind, now time.Time) *poisoned {
	if len(p.kinds) == 0 {
		return nil
	}
	if c := p.kinds[k]; c != nil && now.Before(c.until) && (p.broken < 0.5 || c.strikes >= p.unlucky()) {
		return c
	}
	return nil
}

// careful reports whether messages of a kind are tried alone.
func (p *poison) careful(k kind, now time.Time) bool {
	if p.kinds[k] != nil || p.candidates[k] != nil {
		return true
	}
	return len(p.candidates) > 0 && !p.isGood(k, now)
}

func (p *poison) isGood(k kind, now time.Time) bool {
	at, ok := p.good[k]
	return ok && now.Sub(at) < goodMemory
}

// acknowledged records that the upstream takes a kind.
func (p *poison) acknowledged(k kind, seq uint64, now time.Time) {
	p.passed++
	if at, ok := p.good[k]; !ok || now.Sub(at) >= time.Minute {
		trim(p.good)
		p.good[k] = now
	}
	if p.oldest != 0 && seq == p.oldest {
		p.oldest = 0
		p.broken++
	}
	if len(p.kinds) > 0 {
		delete(p.kinds, k)
	}
	if s := p.candidates[k]; s != nil {
		p.broken += float64(s.strikes)
		p.drop(k)
	}
}

// drop removes a candidate. When none is left and no message was to blame, the link was.
func (p *poison) drop(k kind) {
	delete(p.candidates, k)
	if len(p.candidates) == 0 {
		if !p.blamed {
			p.broken++
		}
		p.blamed, p.disconnects = false, 0
	}
}

// trim makes room in a map for one more.
func trim[K comparable, V any](m map[K]V) {
	if len(m) < maxKinds {
		return
	}
	for k := range m {
		if delete(m, k); len(m) < maxKinds*3/4 {
			return
		}
	}
}

// needed returns how many connections have to end at a message of a kind before it is to blame: so many that a link
// which breaks as often as this one, with no message to blame, would do so by chance once in a million.
func (p *poison) needed(k kind) int {
	switch {
	case p.broken < 0.5 && p.kinds[k] != nil: // blamed before
		return 1
	case p.broken < 0.5 && p.passed >= 0.5:
		return strikesNeeded
	case p.broken < 0.5:
		return strikesUnsure
	}
	return p.unlucky()
}

// unlucky returns how often in a row the link may end at the same message by chance.
func (p *poison) unlucky() int {
	if p.broken >= flapping {
		return math.MaxInt
	}
	chance := (p.broken + 0.5) / (p.broken + p.passed + 1)
	return max(strikesNeeded, int(math.Ceil(math.Log(unluckyChance)/math.Log(chance))))
}

// age removes candidates, kinds and evidence that are too old.
func (p *poison) age(now time.Time) {
	if now.Sub(p.since) >= evidenceHalf {
		if !p.since.IsZero() {
			p.passed, p.broken = p.passed/2, p.broken/2
		}
		p.since = now
	}
	for k, s := range p.candidates {
		if now.Sub(s.seen) >= candidateMemory {
			p.drop(k)
		}
	}
	for k, c := range p.kinds { // not sent again within another hour
		if now.Sub(c.until) >= poisonMemory {
			delete(p.kinds, k)
		}
	}
}

// unreachable records that no connection followed the last one: an upstream that only rejects a message takes the next one.
func (p *poison) unreachable() {
	if len(p.candidates) > 0 {
		p.broken++
	}
}

// note evaluates the end of a connection. It reports whether the next one may be made at once: there is a candidate,
// and the upstream takes connections.
func (p *poison) note(s *Flow, cause Cause, now time.Time) (soon bool) {
	p.age(now)
	if cause == Stated {
		return false
	}
	if t := s.evidence.trial; t != nil {
		if cause != Closed {
			p.broken++
			return false
		}
		u := p.candidates[t.kind]
		if u == nil { // tried because it, or another kind, was blamed before
			u = &candidate{first: now}
			if c := p.kinds[t.kind]; c != nil && now.Before(c.until) {
				u.strikes = c.strikes
			}
			trim(p.candidates)
			p.candidates[t.kind] = u
		}
		u.strikes++
		u.age, u.seen = now.Sub(s.began), now
		p.disconnects++
		if u.strikes >= p.needed(t.kind) {
			p.markPoison(s, t)
		}
		return p.disconnects <= 2*strikesNeeded
	}
	if cause != Closed {
		if len(s.flight.sent)+len(s.evidence.loose) > 0 || len(p.candidates) > 0 {
			p.broken++
		}
		return false
	}
	var inFlight []kind
	for i := range s.flight.sent {
		if m := &s.flight.sent[i]; m.answer == None {
			inFlight = append(inFlight, m.kind)
		}
	}
	for _, l := range s.evidence.loose {
		inFlight = append(inFlight, l.kind)
	}
	if len(inFlight) == 0 {
		p.broken++
		return false
	}
	found := false
	for _, k := range inFlight {
		if p.isGood(k, now) || p.candidates[k] != nil {
			continue
		}
		trim(p.candidates)
		p.candidates[k] = &candidate{first: now, seen: now}
		found = true
	}
	if oldest := s.flight.oldest(); oldest != nil && p.isGood(oldest.kind, now) {
		if p.oldest == oldest.d.Seq && !found { // again, and the upstream has taken its kind before
			p.candidates[oldest.kind] = &candidate{first: now, strikes: 1, age: now.Sub(s.began), seen: now}
			p.oldest, found = 0, true
		} else {
			p.oldest = oldest.d.Seq
		}
	}
	if found {
		p.disconnects++
	}
	return found && p.disconnects <= 2*strikesNeeded
}

// markPoison makes a kind poison, or only the message if the upstream has taken others of its kind, or none at all.
func (p *poison) markPoison(s *Flow, t *trial) {
	now := time.Now()
	strikes := p.candidates[t.kind].strikes
	before := p.kinds[t.kind]
	c := &poisoned{topic: t.topic, size: t.size, until: now, count: 1, strikes: strikes}
	if before != nil {
		c.count += before.count
	}
	p.blamed = true
	delete(p.candidates, t.kind)
	if len(p.candidates) == 0 {
		p.blamed, p.disconnects = false, 0
	}
	if p.passed >= 0.5 && (before != nil || !p.isGood(t.kind, now)) {
		c.until = now.Add(poisonMemory)
		s.o.log.Warn("the upstream closes the connection at messages of this kind: they are set aside without being tried; allow the topic there, or take it out of the rules; holdfast journal dead shows them",
			"topic", t.topic, "bytes", t.size, "qos", t.kind.qos, "retain", t.kind.retain, "connections", strikes+1, "for", poisonMemory)
	}
	delete(p.good, t.kind)
	trim(p.kinds)
	p.kinds[t.kind] = c
	s.o.notePoison(now)
	if t.seq != 0 {
		trim(s.o.toRefuse)
		s.o.toRefuse[t.seq] = fmt.Sprintf("the upstream has closed the connection %d times with this message alone in doubt", strikes)
	}
}

// problem describes the present poison, empty if there is none, and returns until when it is.
func (p *poison) problem(now time.Time) (text string, until time.Time) {
	var list []*poisoned
	for _, c := range p.kinds {
		if now.Before(c.until) {
			list = append(list, c)
			if c.until.After(until) {
				until = c.until
			}
		}
	}
	if len(list) == 0 {
		return "", until
	}
	slices.SortFunc(list, func(a, b *poisoned) int { return cmp.Or(cmp.Compare(b.count, a.count), cmp.Compare(a.topic, b.topic)) })
	var count uint64
	var topics []string
	for _, c := range list {
		count += c.count
		if name := fmt.Sprintf("%.100q", c.topic); !slices.Contains(topics, name) {
			topics = append(topics, name)
		}
	}
	more := ""
	if n := len(topics) - 3; n > 0 {
		topics, more = topics[:3], fmt.Sprintf(" and %d more", n)
	}
	return fmt.Sprintf("the upstream closes the connection at messages on %s%s: %d set aside; allow them there, or take them out of the rules (holdfast journal dead shows them)",
		strings.Join(topics, ", "), more, count), until
}
