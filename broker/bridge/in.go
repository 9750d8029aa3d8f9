package bridge

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"
	"sync"
	"time"

	"holdfast/broker"
	"holdfast/broker/journal"
	"holdfast/broker/wire"
)

const (
	inFlight   = 100              // receive maximum in CONNECT, over MQTT 5
	redelivery = 30 * time.Second // until a new connection makes the upstream resend a message that could not be stored
)

// inbound is a bridge's state of messages from the upstream. Except for what mu guards it belongs to
// Run's goroutine.
type inbound struct {
	b           *Bridge
	key         string              // in front of what is kept in the journal
	filters     []string            // subscribed to, now or by an earlier configuration
	fresh       map[string]bool     // hosts that were subscribed to by this process
	unconfirmed map[uint16]*arrival // by packet identifier: the upstream may not have our acknowledgement
	seen        marks

	followed      map[string]followed // by upstream topic: see refresh
	followedBytes int                 // of topics
	round         uint32              // how often all was asked for

	backlog backlog // over connections

	ready chan struct{} // there are results
	mu    sync.Mutex
	done  []result
}

// arrival is a message from the upstream on its way to the disk, or there.
type arrival struct {
	hash  uint64
	kept  bool
	owing []receipt
}

// receipt is a PUBACK to be sent when the message is kept.
type receipt struct {
	l  *link
	id uint16
}

// receiptSent is a PUBACK that was sent. An upstream that has it may use the identifier for another message before we
// know that.
type receiptSent struct {
	a  *arrival
	id uint16
}

// receipts are the acknowledgements of what comes in at QoS 1, of one connection.
type receipts struct {
	owed        int           // messages that came and are not acknowledged
	peak        int           // the most that were
	unconfirmed []receiptSent // acknowledged; the upstream may not have it yet
	confirmed   []receiptSent // of them, those before the ping that is not answered yet
	resent      bool          // what earlier connections have acknowledged would have come again by now
}

// came notes a message.
func (r *receipts) came() {
	r.owed++
	r.peak = max(r.peak, r.owed)
}

// sent notes an acknowledgement.
func (r *receipts) sent(a *arrival, id uint16) {
	r.owed--
	r.unconfirmed = append(r.unconfirmed, receiptSent{a, id})
}

// failure is why a message of the upstream could not be stored here.
type failure struct {
	err error // nil if none has failed
	at  time.Time
}

type result struct {
	a     *arrival
	topic string // upstream
	err   error

	cleared *followed // it was the deletion of what is retained; nil for a message
}

func newInbound(b *Bridge) *inbound {
	in := &inbound{
		b: b, key: "bridge/" + b.opts.Name + "/", fresh: map[string]bool{}, unconfirmed: map[uint16]*arrival{}, ready: make(chan struct{}, 1),
		followed: map[string]followed{},
	}
	in.seen.init(in.key)
	var forgotten []journal.Change
	interrupted := b.opts.Journal.Interruption().Epoch
	b.opts.Journal.Range(in.key, func(key string, value []byte) bool {
		key = key[len(in.key):]
		var id uint16
		switch {
		case key == "filters":
			in.filters = strings.Split(string(value), "\x00")
		case in.seen.load(key, value):
		case strings.HasPrefix(key, followedState):
			forgotten = append(forgotten, in.loadFollowed(key[len(followedState):], value)...)
		case len(value) == 8 || len(value) == 16: // 8 by a version without epochs
			epoch := uint64(0)
			if len(value) == 16 {
				epoch = binary.BigEndian.Uint64(value[8:])
			}
			// The upstream may have used an identifier for another message since, where the journal does not know of all.
			if n, _ := fmt.Sscanf(key, "doubt/%04x", &id); n == 1 && epoch >= interrupted {
				in.unconfirmed[id] = &arrival{hash: binary.BigEndian.Uint64(value), kept: true}
			}
		}
		return true
	})
	in.save(forgotten)
	return in
}

// forget treats the next message with this identifier as new, and returns the change to save.
func (in *inbound) forget(id uint16) journal.Change {
	delete(in.unconfirmed, id)
	return journal.Change{Key: in.unconfirmedKey(id)}
}

// unconfirmedChange returns the change to save for a message with an identifier: its hash and the journal's epoch, 8 bytes each.
func (in *inbound) unconfirmedChange(id uint16, a *arrival) journal.Change {
	value := binary.BigEndian.AppendUint64(nil, a.hash)
	return journal.Change{Key: in.unconfirmedKey(id), Value: binary.BigEndian.AppendUint64(value, in.b.opts.Journal.Epoch().Number)}
}

func (in *inbound) unconfirmedKey(id uint16) string { return fmt.Sprintf("%sdoubt/%04x", in.key, id) }

// save writes state that need not be on disk at once.
func (in *inbound) save(changes []journal.Change) {
	if len(changes) == 0 {
		return
	}
	if err := in.b.opts.Journal.Append(journal.Entry{Changes: changes, Lazy: true}); err != nil {
		in.b.log.Debug("journal does not take the bridge's state", "error", err)
	}
}

var errDollar = errors.New("a topic that begins with $ is the broker's own")

// local returns the local name of an upstream's topic and the most QoS for it.
func (b *Bridge) local(topic string) (name string, qos byte, err error) {
	if name, qos, err = remap(b.opts.In, topic); err == nil && strings.HasPrefix(name, "$") {
		err = errDollar
	}
	return name, qos, err
}

// receive publishes a message of the upstream here, once, and acknowledges it when it is stored.
func (s *connection) receive(p *wire.Publish) {
	b, in := s.b, s.b.in
	if in == nil { // of a session that the upstream has kept, although CONNECT asked for a clean one
		b.refused(p.Topic, "from the upstream: this bridge takes nothing (it has no in rules)")
		if p.QoS > 0 { // else the upstream would wait for it, and send nothing else
			s.l.send(&wire.Ack{Type: wire.PUBACK, ID: p.ID})
		}
		return
	}
	if s.failure.err != nil && p.QoS > 0 {
		return // it comes again, after the one that could not be stored
	}
	if !s.sub.asked.IsZero() {
		s.sub.asked = time.Now()
	}
	if p.QoS > 0 {
		s.receipts.came()
		s.pings.fence.arrivals++
	}
	first := p.Retain && b.follows() && s.came(p.Topic)
	a := &arrival{hash: hash(p)}
	if p.QoS > 0 {
		if old := in.unconfirmed[p.ID]; old != nil && p.Dup && s.l.limits.present && old.hash == a.hash {
			s.counts.Duplicates++
			s.confirm(old, p.ID)
			return
		}
		a.owing = append(a.owing, receipt{s.l, p.ID})
	}
	mark, looped := marked(p.Forward, b.opts.Origin)
	if looped {
		s.counts.Looped++
		s.confirm(&arrival{kept: true}, p.ID)
		return
	}
	if mark != 0 {
		if old := in.seen.find(mark); old != nil {
			s.counts.Duplicates++
			s.confirm(old, p.ID)
			return
		}
	}
	if b.opts.Heard != nil {
		b.opts.Heard(p.Topic)
	}
	topic, qos, err := b.local(p.Topic)
	if err != nil {
		b.refused(p.Topic, "from the upstream: "+err.Error())
		s.confirm(&arrival{kept: true}, p.ID)
		return
	}
	m := &broker.Message{
		Topic: topic, Payload: p.Payload, Properties: p.Forward, QoS: min(qos, p.QoS), Retain: p.Retain, Expires: p.Expires, Expiry: p.Expiry,
	}
	var changes []journal.Change
	if p.Retain && b.follows() {
		var unchanged bool
		if unchanged, changes = s.retained(p, topic, first); unchanged {
			in.save(changes)
			s.counts.Duplicates++
			s.confirm(&arrival{kept: true}, p.ID)
			return
		}
	}
	if !p.Retain { // whose value says more than its age
		m.Properties = in.backlog.mark(m.Properties, time.Now())
	}
	if p.QoS > 0 {
		in.unconfirmed[p.ID] = a
		changes = append(changes, in.unconfirmedChange(p.ID, a))
	}
	if mark != 0 {
		changes = append(changes, in.seen.add(mark, a))
	}
	s.counts.Received++
	b.opts.Publish(m, changes, func(err error) {
		in.mu.Lock()
		in.done = append(in.done, result{a: a, topic: p.Topic, err: err})
		in.mu.Unlock()
		signal(in.ready)
	})
}

// confirm acknowledges a repeated message as soon as a is stored.
func (s *connection) confirm(a *arrival, id uint16) {
	switch {
	case id == 0: // QoS 0
	case a.kept:
		s.acknowledge(a, id)
	default:
		a.owing = append(a.owing, receipt{s.l, id})
	}
}

func (s *connection) acknowledge(a *arrival, id uint16) {
	s.l.send(&wire.Ack{Type: wire.PUBACK, ID: id})
	s.receipts.sent(a, id)
}

// stored acknowledges what has become durable.
func (s *connection) stored() {
	in := s.b.in
	in.mu.Lock()
	done := in.done
	in.done = nil
	in.mu.Unlock()
	for _, r := range done {
		switch {
		case r.cleared != nil:
			in.cleared(r)
		case r.err == nil:
			r.a.kept = true
			s.settled(r.a)
		case errors.Is(r.err, journal.ErrTooLarge): // for good: it must not block what follows
			in.forgetArrival(r.a)
			s.counts.Received--
			s.b.refused(r.topic, "from the upstream: "+r.err.Error())
			s.settled(r.a)
		default:
			in.forgetArrival(r.a)
			s.counts.Received--
			s.lose(r.err)
		}
	}
}

// settled acknowledges a message as often as this connection has received it.
func (s *connection) settled(a *arrival) {
	for _, o := range a.owing {
		if o.l == s.l {
			s.acknowledge(a, o.id)
		}
	}
	a.owing = nil
}

// forgetArrival removes all traces of a message, as if it had never come.
func (in *inbound) forgetArrival(a *arrival) {
	for id, d := range in.unconfirmed {
		if d == a {
			delete(in.unconfirmed, id)
		}
	}
	in.seen.forget(a)
}

// lose prepares for a new connection, at which the upstream resends what the journal did not take.
func (s *connection) lose(err error) {
	if s.failure.err == nil {
		s.failure = failure{err, time.Now()}
		s.b.log.Error("a message from the upstream cannot be stored; it is asked for again", "in", redelivery, "error", err)
	}
}

// confirmReceipts forgets messages whose acknowledgement the upstream certainly has: it has answered a later ping.
// Until then it may send the message again, and only the identifier shows that it is
// a repeat. A message that an earlier connection acknowledged comes again soon or not at all.
func (s *connection) confirmReceipts(answered bool) {
	in := s.b.in
	if answered {
		var changes []journal.Change
		for _, p := range s.receipts.confirmed {
			if in.unconfirmed[p.id] == p.a {
				changes = append(changes, in.forget(p.id))
			}
		}
		s.receipts.confirmed = s.receipts.confirmed[:0]
		if !s.receipts.resent && time.Since(s.began) >= resendTime {
			s.receipts.resent = true
			for id, a := range in.unconfirmed {
				if a.kept && !slices.Contains(s.receipts.unconfirmed, receiptSent{a, id}) {
					changes = append(changes, in.forget(id))
				}
			}
		}
		in.save(changes)
	}
	if len(s.receipts.unconfirmed) > 0 && !s.pings.sent {
		s.receipts.confirmed, s.receipts.unconfirmed = s.receipts.unconfirmed, s.receipts.confirmed[:0]
		s.ping()
	}
}

func hash(p *wire.Publish) uint64 {
	h := fnv.New64a()
	h.Write([]byte(p.Topic))
	h.Write([]byte{0, p.QoS})
	h.Write(p.Payload)
	h.Write(p.Forward)
	return h.Sum64()
}
