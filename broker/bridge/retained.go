package bridge

import (
	"encoding/binary"
	"hash/fnv"
	"slices"
	"strings"
	"time"

	"holdfast/broker"
	"holdfast/broker/journal"
	"holdfast/broker/outbox"
	"holdfast/broker/wire"
)

// At each connection the bridge asks the upstream for what it retains, and applies here what changed or was deleted there
// while the link was down. A value that does not come was deleted. To recognise those, the journal stores the values that
// came by in rules:
//
//	bridge/NAME/followed/TOPIC    TOPIC is the upstream's; 8 bytes of a hash of the value here, 8 of one of the host it came from
const followedState = "followed/"

// Bounds of the followed values: others still come in, but are not deleted here when they are deleted upstream.
const (
	maxFollowed      = 10_000  // topics
	maxFollowedBytes = 1 << 20 // of their names
	maxFollowedTopic = 4096    // bytes of one name
)

const (
	retainedQuiet = 2 * time.Second // without a retained message the upstream is taken to have sent all: some send them beside what they answer
	confirmMost   = 8               // topics asked for at once, before they are deleted here: some upstreams take no more in a SUBSCRIBE
)

// Retained is what is retained here of a topic.
type Retained struct {
	Message *broker.Message // shared, not changed; nil for nothing
	Ours    bool            // it came by this bridge
	Before  bool            // it is from before the start: by whom it came is not known
}

// followed is a value that the upstream retained when the bridge last received it.
type followed struct {
	hash  uint64 // of what was published here
	host  uint64 // the upstream that it came from: another one cannot show that it is gone
	round uint32 // of inbound, in which it came last
}

// phase is how far a connection is with what the upstream retains.
type phase byte

const (
	idle     phase = iota
	draining       // what the upstream has queued comes first: it may have no room for more
	asked          // for all of it, or for a chunk
	coming         // until nothing has come for retainedQuiet
	fencing        // until the upstream has answered a ping that came after all acknowledgements
)

// refresh asks an upstream for what it retains, and finds what it does not retain any more.
type refresh struct {
	phase   phase
	last    time.Time // something retained came, or the answer to the subscription
	granted []bool    // for each in rule
	todo    []string  // missing topics that have not been asked for by name, in order
	chunk   []string  // missing topics that are asked for by name; nil while all rules are
	allowed []bool    // for each of chunk
	chunkID uint16    // of its SUBSCRIBE
	unsubID uint16    // of the UNSUBSCRIBE behind it
	gone    int       // values deleted here
	beyond  bool      // some came that are not followed
}

// fence is a ping whose answer shows what cannot come any more.
type fence struct {
	at       time.Time // when it was sent
	phase    phase     // at that time
	clean    bool      // all that had come at QoS 1 was acknowledged
	arrivals int       // at QoS 1 since
}

// follows reports whether the bridge reconciles what the upstream retains.
func (b *Bridge) follows() bool { return b.in != nil && b.opts.Retained != nil && b.opts.Clear != nil }

func hashOf(parts ...string) uint64 {
	h := fnv.New64a()
	var size [4]byte
	for _, p := range parts {
		binary.BigEndian.PutUint32(size[:], uint32(len(p)))
		h.Write(size[:])
		h.Write([]byte(p))
	}
	return h.Sum64()
}

func hashOfValue(topic string, payload, properties []byte) uint64 {
	return hashOf(topic, string(payload), string(properties))
}

func (in *inbound) followedKey(topic string) string { return in.key + followedState + topic }

// loadFollowed loads the followed values. It forgets a topic that no rule names any more: its value stays here.
func (in *inbound) loadFollowed(topic string, value []byte) (forgotten []journal.Change) {
	if _, _, err := in.b.local(topic); err != nil || len(value) != 16 || !in.hasRoom(topic) {
		return []journal.Change{{Key: in.followedKey(topic)}}
	}
	in.follow(topic, followed{hash: binary.BigEndian.Uint64(value), host: binary.BigEndian.Uint64(value[8:])})
	return nil
}

func (in *inbound) hasRoom(topic string) bool {
	return len(topic) <= maxFollowedTopic && len(in.followed) < maxFollowed && in.followedBytes+len(topic) <= maxFollowedBytes
}

func (in *inbound) follow(topic string, h followed) journal.Change {
	if _, known := in.followed[topic]; !known {
		in.followedBytes += len(topic)
	}
	in.followed[topic] = h
	value := binary.BigEndian.AppendUint64(nil, h.hash)
	return journal.Change{Key: in.followedKey(topic), Value: binary.BigEndian.AppendUint64(value, h.host)}
}

func (in *inbound) unfollow(topic string) journal.Change {
	if _, known := in.followed[topic]; known {
		in.followedBytes -= len(topic)
		delete(in.followed, topic)
	}
	return journal.Change{Key: in.followedKey(topic)}
}

// came records that the upstream retains a topic. It reports whether that is the first time since the bridge asked.
func (s *connection) came(topic string) (first bool) {
	r, in := &s.refresh, s.b.in
	if r.phase < asked {
		return false
	}
	if r.last = time.Now(); r.phase == fencing {
		r.phase = coming
	}
	h, known := in.followed[topic]
	if first = known && h.round != in.round; first {
		h.round = in.round
		in.followed[topic] = h
	}
	return first
}

// retained looks at a retained message on its way in: local is its topic here. Unchanged means that it need not be published: it is
// the value that came last, and here it is still retained, or what another publisher has put in its place since. Over 3.1.1
// each one with RETAIN answers a subscription [MQTT-3.3.1-9]; over 5 one for each topic does, and further ones are new, whatever is
// in them. Changes become durable
// with the message, or by themselves if it is unchanged.
func (s *connection) retained(p *wire.Publish, local string, first bool) (unchanged bool, changes []journal.Change) {
	in := s.b.in
	old, known := in.followed[p.Topic]
	if len(p.Payload) == 0 {
		if known {
			changes = append(changes, in.unfollow(p.Topic))
		}
		return false, changes
	}
	now := followed{hash: hashOfValue(local, p.Payload, p.Forward), host: hashOf(s.sub.host), round: in.round}
	if (first || known && s.l.version != wire.V5) && old.hash == now.hash && !p.Expires { // else its lifetime begins anew
		is := s.b.opts.Retained(local)
		unchanged = is.Message != nil && !(is.Ours && valueOf(is.Message) != now.hash)
	}
	switch {
	case unchanged && old.host == now.host:
	case known || in.hasRoom(p.Topic):
		changes = append(changes, in.follow(p.Topic, now))
	default:
		s.refresh.beyond = true
		if s.b.problem("retained", "the upstream retains more than is followed (10,000 topics, names of 1 MiB): what is beyond that comes in, but is not deleted here "+
			"when it is deleted there while the link is down; give `in` narrower filters", time.Time{}) {
			s.b.log.Warn("retained messages beyond what is followed are not deleted here when they are deleted upstream while the link is down; give `in` narrower filters",
				"topic", p.Topic, "followed", len(in.followed))
		}
	}
	return unchanged, changes
}

func valueOf(m *broker.Message) uint64 { return hashOfValue(m.Topic, m.Payload, m.Properties) }

// reconcile pings when the answer would show something. It returns for how long there is nothing to do.
func (s *connection) reconcile(now time.Time) time.Duration {
	r := &s.refresh
	if r.phase == coming {
		if wait := retainedQuiet - now.Sub(r.last); wait > 0 {
			return wait
		}
		r.phase = fencing
	}
	wanted := r.phase == draining || r.phase == fencing || s.b.in != nil && s.b.in.backlog.sending
	if wanted && !s.pings.sent && s.receipts.owed == 0 && s.failure.err == nil {
		s.ping()
	}
	return outbox.Forever
}

// fenced is called when the upstream has answered a ping. All that it was about to send before has come if nothing came
// behind the ping: an upstream with something queued for us would have sent it when the last acknowledgements made room.
// Nor is anything queued when less came than it is known to have in flight at once.
func (s *connection) fenced() {
	f := s.pings.fence
	if !f.clean || f.arrivals > 0 && f.arrivals >= s.receipts.peak {
		return
	}
	s.b.in.backlog.settled(f.at)
	if f.phase != s.refresh.phase {
		return
	}
	switch f.phase {
	case draining:
		s.ask(true)
	case fencing:
		s.sift()
	}
}

// begin starts a refresh, whose SUBSCRIBE is sent.
func (r *refresh) begin(in *inbound) {
	in.round++
	*r = refresh{phase: asked}
}

// answered handles the answer to the subscription by all rules.
func (r *refresh) answered(codes []wire.Code, rules int) {
	if r.phase != asked || r.chunk != nil {
		return
	}
	r.phase, r.last, r.granted = coming, time.Now(), make([]bool, rules)
	for i := range min(len(codes), rules) {
		r.granted[i] = codes[i] < wire.Unspecified
	}
}

// sift finds what the upstream has not sent, asks for that by name, some at a time, and deletes here what does not come then
// either: an upstream may drop some of what it retains where that is more than it queues.
func (s *connection) sift() {
	r, in := &s.refresh, s.b.in
	if r.chunk == nil {
		host := hashOf(s.sub.host)
		for topic, h := range in.followed {
			if i := broker.Rules(s.b.opts.In).Match(topic); i >= 0 && r.granted[i] && s.missing(topic) && h.host == host {
				r.todo = append(r.todo, topic)
			}
		}
		slices.Sort(r.todo)
	}
	for i, topic := range r.chunk {
		if r.allowed[i] && s.missing(topic) {
			s.clear(topic)
		}
	}
	if len(r.todo) == 0 {
		if r.gone > 0 {
			s.b.log.Info("deleted retained messages that the upstream does not retain any more", "messages", r.gone)
		}
		if !r.beyond {
			s.b.problem("retained", "", time.Time{})
		}
		*r = refresh{}
		return
	}
	n := min(confirmMost, len(r.todo))
	r.chunk, r.todo = r.todo[:n], r.todo[n:]
	s.askFor(r.chunk)
}

// missing reports whether a value has not come since it was asked for.
func (s *connection) missing(topic string) bool {
	h, known := s.b.in.followed[topic]
	return known && h.round != s.b.in.round
}

// askFor subscribes to topics, and ends that in the same breath, so that nothing else comes twice.
func (s *connection) askFor(topics []string) {
	r, in, rules := &s.refresh, s.b.in, s.b.opts.In
	sub := &wire.Subscribe{ID: s.nextID()}
	unsub := &wire.Unsubscribe{ID: s.nextID()}
	for _, topic := range topics {
		rule := rules[broker.Rules(rules).Match(topic)]
		sub.Subscriptions = append(sub.Subscriptions, wire.Subscription{
			Filter: topic, QoS: min(rule.QoS, s.l.limits.qos), NoLocal: true, RetainAsPublished: true,
		})
		if rule.Filter != topic {
			unsub.Filters = append(unsub.Filters, topic)
		}
	}
	r.phase, r.chunkID, r.allowed = asked, sub.ID, make([]bool, len(topics))
	s.l.send(sub)
	if len(unsub.Filters) > 0 {
		in.setFilters(append(slices.Clone(in.filters), unsub.Filters...)) // given up at the next connection, should this one end now
		r.unsubID = unsub.ID
		s.l.send(unsub)
	}
}

// confirming handles the answers to the packets of askFor.
func (s *connection) confirming(p *wire.Suback) {
	r, in := &s.refresh, s.b.in
	switch {
	case r.chunk == nil:
	case p.Type == wire.UNSUBACK && p.ID == r.unsubID:
		in.setFilters(slices.DeleteFunc(slices.Clone(in.filters), func(f string) bool {
			return slices.Contains(r.chunk, f) && !slices.ContainsFunc(s.b.opts.In, func(r Rule) bool { return r.Filter == f })
		}))
	case p.Type == wire.SUBACK && p.ID == r.chunkID && r.phase == asked:
		r.phase, r.last = coming, time.Now()
		for i := range min(len(p.Codes), len(r.chunk)) {
			r.allowed[i] = p.Codes[i] < wire.Unspecified
		}
	}
}

// clear deletes here what the upstream does not retain any more, unless another publisher has put something in its place.
func (s *connection) clear(topic string) {
	b, in, h := s.b, s.b.in, s.b.in.followed[topic]
	local, _, err := b.local(topic)
	if err == nil {
		is := b.opts.Retained(local)
		if is.Message != nil && (is.Ours || is.Before) && valueOf(is.Message) == h.hash {
			sent := b.opts.Clear(is.Message, []journal.Change{{Key: in.followedKey(topic)}}, func(err error) {
				in.mu.Lock()
				in.done = append(in.done, result{topic: topic, err: err, cleared: &h})
				in.mu.Unlock()
				signal(in.ready)
			})
			if sent {
				s.refresh.gone++
				return
			}
		}
	}
	in.save([]journal.Change{in.unfollow(topic)})
}

// cleared forgets a value whose deletion is durable; one whose is not is missing at the next connection again.
func (in *inbound) cleared(r result) {
	switch {
	case r.err != nil:
		in.b.log.Warn("a retained message that the upstream does not retain any more cannot be deleted, and is tried again by the next connection", "topic", r.topic, "error", r.err)
	case in.followed[r.topic] == *r.cleared: // else it has come again
		in.unfollow(r.topic)
	}
}

func (in *inbound) setFilters(all []string) {
	in.filters = all
	in.save([]journal.Change{{Key: in.key + "filters", Value: []byte(strings.Join(all, "\x00"))}})
}
