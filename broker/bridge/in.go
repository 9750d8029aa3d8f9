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
	inFlight   = 100              // receive maximum that an upstream of MQTT 5 is told
	redelivery = 30 * time.Second // after a message could not be stored, a new connection has the upstream send it again
)

// inbound is what a bridge knows of messages from the upstream. But for what mu guards it belongs to
// Run's goroutine.
type inbound struct {
	b       *Bridge
	key     string              // in front of what is kept in the journal
	filters []string            // subscribed to, now or by an earlier configuration
	fresh   map[string]bool     // hosts that were subscribed to by this process
	doubt   map[uint16]*arrival // by packet identifier: the upstream may not know that we have it
	seen    marks

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

type result struct {
	a   *arrival
	err error
}

func newInbound(b *Bridge) *inbound {
	in := &inbound{
		b: b, key: "bridge/" + b.opts.Name + "/", fresh: map[string]bool{}, doubt: map[uint16]*arrival{}, ready: make(chan struct{}, 1),
	}
	in.seen.init(in.key)
	b.opts.Journal.Range(in.key, func(key string, value []byte) bool {
		key = key[len(in.key):]
		var id uint16
		switch {
		case key == "filters":
			in.filters = strings.Split(string(value), "\x00")
		case in.seen.load(key, value):
		case len(value) == 8:
			if n, _ := fmt.Sscanf(key, "doubt/%04x", &id); n == 1 {
				in.doubt[id] = &arrival{hash: binary.BigEndian.Uint64(value), kept: true}
			}
		}
		return true
	})
	return in
}

func (in *inbound) doubtKey(id uint16) string { return fmt.Sprintf("%sdoubt/%04x", in.key, id) }

// subscribe asks for what the rules name, and no more for what those of an earlier configuration did.
func (s *session) subscribe(host string) {
	in, opts := s.b.in, &s.b.opts
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
	if s.l.version != wire.V5 && s.l.limits.present && in.fresh[host] {
		return // again would bring the retained messages again, which 5 can be asked not to send
	}
	p := &wire.Subscribe{ID: s.nextID()}
	for _, r := range opts.In {
		p.Subscriptions = append(p.Subscriptions, wire.Subscription{
			Filter: r.Filter, QoS: min(r.QoS, s.l.limits.qos), NoLocal: true, RetainAsPublished: true, RetainHandling: 1,
		})
	}
	s.l.send(p)
	s.subID, s.host = p.ID, host
	if all := in.remember(opts.In); !slices.Equal(all, in.filters) {
		in.filters = all
		in.save(journal.Change{Key: in.key + "filters", Value: []byte(strings.Join(all, "\x00"))})
	}
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

// save writes state that need not be on disk at once.
func (in *inbound) save(changes ...journal.Change) {
	if err := in.b.opts.Journal.Append(journal.Entry{Changes: changes, Lazy: true}); err != nil {
		in.b.log.Debug("journal does not take the bridge's state", "error", err)
	}
}

// subscribed looks at the answer. The connection goes on in any case: it carries the other direction.
func (s *session) subscribed(p *wire.Suback) {
	if p.Type != wire.SUBACK || p.ID != s.subID {
		return
	}
	good := true
	for i, code := range p.Codes {
		if code < wire.Unspecified || i >= len(s.b.opts.In) {
			continue
		}
		good = false
		text := fmt.Sprintf("upstream refuses a subscription to %q: %v", s.b.opts.In[i].Filter, code)
		s.counts.LastError = text
		s.b.log.Error("nothing comes in by a rule", "filter", s.b.opts.In[i].Filter, "reason", code.String())
	}
	s.b.in.fresh[s.host] = good
}

var errDollar = errors.New("a topic that begins with $ is the broker's own")

// local returns the local name of an upstream's topic and the most QoS for it.
func (b *Bridge) local(topic string) (name string, qos byte, err error) {
	if name, qos, err = remap(b.opts.In, topic); err == nil && strings.HasPrefix(name, "$") {
		err = errDollar
	}
	return name, qos, err
}

// receive publishes a message of the upstream here, once, and acknowledges it when it is kept.
func (s *session) receive(p *wire.Publish) {
	b, in := s.b, s.b.in
	if in == nil {
		return
	}
	if s.failed && p.QoS > 0 {
		return // it comes again, after the one that could not be stored
	}
	a := &arrival{hash: hash(p)}
	if p.QoS > 0 {
		if old := in.doubt[p.ID]; old != nil && p.Dup && s.l.limits.present && old.hash == a.hash {
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
	if p.QoS > 0 {
		in.doubt[p.ID] = a
		changes = append(changes, journal.Change{Key: in.doubtKey(p.ID), Value: binary.BigEndian.AppendUint64(nil, a.hash)})
	}
	if mark != 0 {
		changes = append(changes, in.seen.add(mark, a))
	}
	s.counts.Received++
	b.opts.Publish(m, changes, func(err error) {
		in.mu.Lock()
		in.done = append(in.done, result{a, err})
		in.mu.Unlock()
		signal(in.ready)
	})
}

// confirm acknowledges a message that needs nothing but that, when a is kept.
func (s *session) confirm(a *arrival, id uint16) {
	switch {
	case id == 0: // QoS 0
	case a.kept:
		s.acknowledge(id)
	default:
		a.owing = append(a.owing, receipt{s.l, id})
	}
}

func (s *session) acknowledge(id uint16) {
	s.l.send(&wire.Ack{Type: wire.PUBACK, ID: id})
	s.unproven = append(s.unproven, id)
}

// stored acknowledges what has become durable.
func (s *session) stored() {
	in := s.b.in
	in.mu.Lock()
	done := in.done
	in.done = nil
	in.mu.Unlock()
	for _, r := range done {
		if r.err != nil {
			s.lose(r.a, r.err)
			continue
		}
		r.a.kept = true
		for _, o := range r.a.owing {
			if o.l == s.l {
				s.acknowledge(o.id)
			}
		}
		r.a.owing = nil
	}
}

// lose has the upstream send a message again that the journal does not take.
func (s *session) lose(a *arrival, err error) {
	in := s.b.in
	for id, d := range in.doubt {
		if d == a {
			delete(in.doubt, id)
		}
	}
	in.seen.forget(a)
	s.counts.Received--
	if !s.failed {
		s.failed, s.failedAt, s.failure = true, time.Now(), err
		s.b.log.Error("a message from the upstream cannot be stored; it is asked for again", "in", redelivery, "error", err)
	}
}

// prove forgets what the upstream has certainly got the acknowledgement of: it has answered a ping that
// came after. Until then it may send the message again, and nothing but the identifier tells that it is
// one we have.
func (s *session) prove(answered bool) {
	in := s.b.in
	if answered && len(s.proving) > 0 {
		var changes []journal.Change
		for _, id := range s.proving {
			if d := in.doubt[id]; d != nil && d.kept {
				delete(in.doubt, id)
				changes = append(changes, journal.Change{Key: in.doubtKey(id)})
			}
		}
		if s.proving = s.proving[:0]; len(changes) > 0 {
			in.save(changes...)
		}
	}
	if len(s.unproven) > 0 && !s.pinged {
		s.proving, s.unproven = s.unproven, s.proving[:0]
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
