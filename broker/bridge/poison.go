package bridge

import (
	"cmp"
	"fmt"
	"hash/maphash"
	"math"
	"math/bits"
	"slices"
	"strings"
	"time"

	"holdfast/broker/journal"
	"holdfast/broker/wire"
)

const (
	poisonMemory = time.Hour // how long messages of a kind at which the upstream closes the connection are set aside unseen
	goodMemory   = time.Hour // how long an acknowledged kind counts as one that the upstream takes
	// suspectMemory is how long a kind stays under suspicion without being tried: its messages may have been dropped.
	suspectMemory = 10 * time.Minute
	evidenceHalf  = 10 * time.Minute // after which what is known of the link counts half

	strikesNeeded = 2    // alone, at an upstream that takes other messages, over a link without other faults
	strikesUnsure = 5    // alone, where nothing has been acknowledged
	flapping      = 3    // connections that ended with no message to blame, lately: then none is blamed
	unluckyChance = 1e-6 // that a link which breaks is taken for a message that the upstream does not take

	// A message that has ended a connection is tried again on one that has proved itself: by so many answers, or for so
	// long, counted from its beginning and, for the second trial, from the first end.
	wantAnswers  = 50
	settleTime   = 1500 * time.Millisecond
	secondSettle = 6500 * time.Millisecond
	maxKinds     = 2048 // of each map; what is beyond is forgotten, which costs connections and no message
)

// kind is what the upstream can tell messages by without looking at the payload. A topic is its hash.
type kind struct {
	topic  uint64
	size   uint8 // of the payload: how many bits its length takes
	qos    byte
	retain bool
}

// suspicion is of a kind that was in flight when the upstream ended a connection.
type suspicion struct {
	strikes int           // connections that the upstream ended with the message alone in doubt
	first   time.Time     // when the first one ended
	age     time.Duration // of the last one when it ended
	seen    time.Time
}

// poisoned is a kind at which the upstream closes the connection.
type poisoned struct {
	topic string
	size  int
	until time.Time // later the next message of the kind is tried again, alone
	count uint64    // messages that were set aside
	// strikes are those that it was convicted for. Should the link turn out to break by itself, that may be too few.
	strikes int
}

// poison finds the messages at which an upstream closes the connection. MQTT 3.1.1 has no other way to refuse one, and
// some upstreams use none over 5.
//
// When the upstream ends a connection, the kinds in flight that it has not acknowledged in the last hour are under
// suspicion. Their messages are tried one at a time, with nothing else in doubt beside them, and only on a connection
// that has just shown to be alive; those of other kinds go on as before. A kind that ends connections so, when others
// pass, is poison: what is queued of it is set aside at once, for an hour, and then one message is tried again.
//
// A link that breaks by itself looks the same for a moment. How often it has, of late, decides how often a message
// must meet it before it is blamed: see needed. It belongs to Run's goroutine.
type poison struct {
	seed     maphash.Seed
	good     map[kind]time.Time // when it was acknowledged, to within a minute
	suspects map[kind]*suspicion
	kinds    map[kind]*poisoned
	oldest   uint64 // of a good kind, in flight when the last connection ended; 0 if there was none

	passed  float64   // messages that were acknowledged, lately
	broken  float64   // connections that ended with no message to blame, lately
	since   time.Time // when both were halved
	blamed  bool      // a message has been convicted since there are suspects
	closing int       // connections that the upstream ended since there are suspects
}

func newPoison() poison {
	return poison{
		seed: maphash.MakeSeed(), good: map[kind]time.Time{}, suspects: map[kind]*suspicion{}, kinds: map[kind]*poisoned{},
	}
}

func (p *poison) kindOf(m *wire.Publish) kind {
	return kind{maphash.String(p.seed, m.Topic), uint8(bits.Len(uint(len(m.Payload)))), m.QoS, m.Retain}
}

// convicted returns what is known of a kind that is set aside without being tried; nil if it is not.
func (p *poison) convicted(k kind, now time.Time) *poisoned {
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
	if p.kinds[k] != nil || p.suspects[k] != nil {
		return true
	}
	return len(p.suspects) > 0 && !p.isGood(k, now)
}

func (p *poison) isGood(k kind, now time.Time) bool {
	at, ok := p.good[k]
	return ok && now.Sub(at) < goodMemory
}

// acknowledged notes that the upstream takes a kind.
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
	if s := p.suspects[k]; s != nil {
		p.broken += float64(s.strikes)
		p.drop(k)
	}
}

// drop ends a suspicion. When none is left and no message was to blame, the link was.
func (p *poison) drop(k kind) {
	delete(p.suspects, k)
	if len(p.suspects) == 0 {
		if !p.blamed {
			p.broken++
		}
		p.blamed, p.closing = false, 0
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

// needed is how many connections have to end at a message of a kind before it is to blame: so many that a link which
// breaks as often as this one has, with no message to blame, would do so by chance once in a million.
func (p *poison) needed(k kind) int {
	switch {
	case p.broken < 0.5 && p.kinds[k] != nil: // was to blame before
		return 1
	case p.broken < 0.5 && p.passed >= 0.5:
		return strikesNeeded
	case p.broken < 0.5:
		return strikesUnsure
	}
	return p.unlucky()
}

// unlucky is how often in a row the link may end at the same message by chance.
func (p *poison) unlucky() int {
	if p.broken >= flapping {
		return math.MaxInt
	}
	chance := (p.broken + 0.5) / (p.broken + p.passed + 1)
	return max(strikesNeeded, int(math.Ceil(math.Log(unluckyChance)/math.Log(chance))))
}

// age forgets what is no longer to be relied on.
func (p *poison) age(now time.Time) {
	if now.Sub(p.since) >= evidenceHalf {
		if !p.since.IsZero() {
			p.passed, p.broken = p.passed/2, p.broken/2
		}
		p.since = now
	}
	for k, s := range p.suspects {
		if now.Sub(s.seen) >= suspectMemory {
			p.drop(k)
		}
	}
	for k, c := range p.kinds { // one that was never sent again in another hour
		if now.Sub(c.until) >= poisonMemory {
			delete(p.kinds, k)
		}
	}
}

// unreachable notes that no connection followed the last one: what ends at a message only takes the next one.
func (p *poison) unreachable() {
	if len(p.suspects) > 0 {
		p.broken++
	}
}

// note looks at how a connection has ended. It reports whether the next one may be made at once: a message is in
// doubt, and the upstream takes connections.
func (p *poison) note(s *session, err error, now time.Time) (soon bool) {
	p.age(now)
	if orderly(err) || overloaded(err) { // says why, and it is no message
		return false
	}
	if t := s.trial; t != nil {
		if !closed(err) {
			p.broken++
			return false
		}
		u := p.suspects[t.kind]
		if u == nil { // tried because it was to blame before, or with others that were
			u = &suspicion{first: now}
			if c := p.kinds[t.kind]; c != nil && now.Before(c.until) {
				u.strikes = c.strikes
			}
			trim(p.suspects)
			p.suspects[t.kind] = u
		}
		u.strikes++
		u.age, u.seen = now.Sub(s.began), now
		p.closing++
		if u.strikes >= p.needed(t.kind) {
			p.convict(s, t)
		}
		return p.closing <= 2*strikesNeeded
	}
	if !closed(err) {
		if len(s.flight)+len(s.loose) > 0 || len(p.suspects) > 0 {
			p.broken++
		}
		return false
	}
	var inFlight []kind
	for i := range s.flight {
		if m := &s.flight[i]; !m.done {
			inFlight = append(inFlight, m.kind)
		}
	}
	for _, l := range s.loose {
		inFlight = append(inFlight, l.kind)
	}
	if len(inFlight) == 0 {
		p.broken++
		return false
	}
	found := false
	for _, k := range inFlight {
		if p.isGood(k, now) || p.suspects[k] != nil {
			continue
		}
		trim(p.suspects)
		p.suspects[k] = &suspicion{first: now, seen: now}
		found = true
	}
	if oldest := s.oldest(); oldest != nil && p.isGood(oldest.kind, now) {
		if p.oldest == oldest.d.Seq && !found { // again, and the upstream has taken its kind before
			p.suspects[oldest.kind] = &suspicion{first: now, strikes: 1, age: now.Sub(s.began), seen: now}
			p.oldest, found = 0, true
		} else {
			p.oldest = oldest.d.Seq
		}
	}
	if found {
		p.closing++
	}
	return found && p.closing <= 2*strikesNeeded
}

// convict sets aside a kind, or only the message if the upstream has taken others of its kind, or none of any.
func (p *poison) convict(s *session, t *trial) {
	now := time.Now()
	strikes := p.suspects[t.kind].strikes
	before := p.kinds[t.kind]
	c := &poisoned{topic: t.topic, size: t.size, until: now, count: 1, strikes: strikes}
	if before != nil {
		c.count += before.count
	}
	p.blamed = true
	delete(p.suspects, t.kind)
	if len(p.suspects) == 0 {
		p.blamed, p.closing = false, 0
	}
	if p.passed >= 0.5 && (before != nil || !p.isGood(t.kind, now)) {
		c.until = now.Add(poisonMemory)
		s.b.log.Warn("the upstream closes the connection at messages of this kind: they are set aside without being tried; allow the topic there, or take it out of the rules; holdfast journal dead shows them",
			"topic", t.topic, "bytes", t.size, "qos", t.kind.qos, "retain", t.kind.retain, "connections", strikes+1, "for", poisonMemory)
	}
	delete(p.good, t.kind)
	trim(p.kinds)
	p.kinds[t.kind] = c
	s.b.notePoison(now)
	if t.seq != 0 {
		trim(s.b.condemned)
		s.b.condemned[t.seq] = fmt.Sprintf("the upstream has closed the connection %d times with this message alone in doubt", strikes)
	}
}

// problem is what the present poison is in words, empty if there is none, and how long that is so.
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

// trial is a message that is tried alone.
type trial struct {
	kind  kind
	topic string // upstream
	size  int
	seq   uint64 // 0 of a message that the journal does not have
	id    uint16 // 0 at QoS 0: it is taken when a ping behind it is answered
	end   uint64 // bytes that have to be written for it to be
}

// loose is a kind at QoS 0 of which the upstream has shown nothing yet.
type loose struct {
	kind kind
	end  uint64
}

// maxLoose bounds them: what is beyond is not under suspicion, should the upstream close the connection.
const maxLoose = 64

// sentLoose notes a message that no acknowledgement follows.
func (s *session) sentLoose(k kind, end uint64) {
	for i := range s.loose {
		if s.loose[i].kind == k {
			s.loose[i].end = end
			return
		}
	}
	if len(s.loose) < maxLoose {
		s.loose = append(s.loose, loose{k, end})
	}
}

// alive notes that the upstream has answered something that was written up to end, so that it has taken all before it.
func (s *session) alive(end uint64, now time.Time) {
	s.proved = true
	s.answers++
	if t := s.trial; t != nil && t.id == 0 && t.end < end {
		s.trial = nil
		s.b.poison.acknowledged(t.kind, t.seq, now)
	}
	s.loose = slices.DeleteFunc(s.loose, func(l loose) bool {
		if l.end < end {
			s.b.poison.acknowledged(l.kind, 0, now)
		}
		return l.end < end
	})
}

// mayTry reports whether a message may be tried alone now, or at what time it may. It pings if that is what is missing.
func (s *session) mayTry(k kind, now time.Time) (ok bool, at time.Time) {
	if s.trial != nil {
		return false, at
	}
	if u := s.b.poison.suspects[k]; u != nil && u.strikes > 0 {
		if at := s.settledAt(u); now.Before(at) {
			if !s.pinged && s.answers < wantAnswers && s.b.poison.broken < 0.5 {
				s.ping()
			}
			return false, at
		}
		if !s.ponged {
			s.proved = false
		}
	}
	if !s.proved && !s.pinged {
		s.ping()
	}
	return s.proved, at
}

// othersFirst reports whether what need not be tried alone goes before what has to be. Where the link is known to break, a
// trial does not wait for the connection to prove itself, and may end one after the other at its beginning without
// being blamed: then nothing else would ever pass.
func (s *session) othersFirst(now time.Time) bool {
	return s.b.poison.broken >= 0.5 && now.Sub(s.began) < settleTime
}

// settledAt returns when a connection has shown enough for another trial: one that ends by the clock, or at any packet,
// whatever is sent, ends before. Where the link is known to break this is not waited for: it is in the count.
func (s *session) settledAt(u *suspicion) time.Time {
	if s.b.poison.broken >= 0.5 {
		if len(s.flight) > 0 {
			return s.began.Add(settleTime) // others first
		}
		return s.began
	}
	outlives := s.began.Add(min(u.age+u.age/8, settleTime))
	if s.answers >= wantAnswers {
		return outlives
	}
	at := s.began.Add(settleTime)
	if second := u.first.Add(secondSettle); u.strikes == 1 && second.After(at) {
		at = second
	}
	return at
}

// held is a message that has to be tried alone, or stands behind one on the same topic.
type held struct {
	d    journal.Delivery
	kind kind
	size int
}

// hold keeps a message back. Behind it wait those on the same topic, and no others.
func (s *session) hold(d journal.Delivery, k kind) {
	h := held{d, k, sizeOf(&d)}
	s.held = append(s.held, h)
	s.heldBytes += h.size
}

// holds reports whether a message on a topic is held.
func (s *session) holds(k kind) bool {
	return slices.ContainsFunc(s.held, func(h held) bool { return h.kind.topic == k.topic })
}

// fromHeld returns a held message that may be sent now, and whether it is to be tried alone; or when one may be. Of
// those to be tried that with the fewest strikes comes first: what may be good does not wait for what is probably not.
func (s *session) fromHeld(now time.Time) (d journal.Delivery, alone, ok bool, at time.Time) {
	best, strikes := -1, 0
	p := &s.b.poison
	for i := range s.held {
		h := &s.held[i]
		if slices.ContainsFunc(s.held[:i], func(o held) bool { return o.kind.topic == h.kind.topic }) {
			continue
		}
		if s.b.condemned[h.d.Seq] != "" || p.convicted(h.kind, now) != nil || !p.careful(h.kind, now) {
			return s.unhold(i), false, true, at
		}
		n := 0
		if u := p.suspects[h.kind]; u != nil {
			n = u.strikes
			u.seen = now
		}
		if best < 0 || n < strikes {
			best, strikes = i, n
		}
	}
	if best < 0 {
		return d, false, false, at
	}
	if ok, at = s.mayTry(s.held[best].kind, now); ok {
		return s.unhold(best), true, true, at
	}
	return d, false, false, at
}

func (s *session) unhold(i int) journal.Delivery {
	d := s.held[i].d
	s.heldBytes -= s.held[i].size
	s.held = slices.Delete(s.held, i, i+1)
	return d
}

// reasonPoison is why a message is set aside that was not tried itself.
const reasonPoison = "the upstream closes the connection at messages of this kind (topic, size, QoS, RETAIN)"

// setAside refuses a message of a kind that is poison.
func (s *session) setAside(d journal.Delivery, k kind) {
	s.b.aside(k)
	s.refuse(d, reasonPoison)
}

// aside counts a message that is set aside.
func (b *Bridge) aside(k kind) {
	if c := b.poison.kinds[k]; c != nil {
		c.count++
	}
	b.notePoison(time.Now())
}

// tryLive begins a trial of a message that the journal does not have, if there may be one now.
func (s *session) tryLive(p *wire.Publish, k kind, now time.Time) bool {
	if ok, _ := s.mayTry(k, now); !ok || s.holds(k) {
		return false
	}
	s.trial = &trial{kind: k, topic: p.Topic, size: len(p.Payload)}
	s.proved = false
	return true
}

// oldest is the message that was sent first and is not acknowledged; nil if there is none.
func (s *session) oldest() *sent {
	for i := range s.flight {
		if m := &s.flight[i]; m.id != 0 && !m.done {
			return m
		}
	}
	return nil
}

func (b *Bridge) notePoison(now time.Time) {
	text, until := b.poison.problem(now)
	b.problem("poison", text, until)
}
