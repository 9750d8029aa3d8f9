package server

import (
	"errors"
	"slices"
	"sync"
	"time"

	"holdfast/broker"
	"holdfast/broker/journal"
	"holdfast/broker/wire"
)

// PublishOptions modify the publish of a message by this process.
type PublishOptions struct {
	Lazy    bool             // may wait for the journal's shared commit
	Changes []journal.Change // become durable with the message, if it has a durable reader
	Done    func(error)      // called with the outcome, but not after ErrReplaced; must not block
	From    *journal.Reader  // the reader that the message came from, whose route does not get it
	Here    bool             // no route gets it
	Client  bool             // published on behalf of a client: it may not use the space reserved for this process
	// Instead, with a retained message, publishes only if this is the topic's retained message, as Retained
	// returned it, and no newer one is pending. Otherwise Publish does nothing and returns ErrReplaced.
	Instead *broker.Message
	always  bool // Changes become durable in any case
}

// ErrReplaced is the error of Publish if the topic's retained message is not PublishOptions.Instead.
var ErrReplaced = errors.New("server: another message is retained")

// Publish publishes a message of this process, which the caller must not change afterwards. Like a client's
// publish it is durable if it has a durable reader, and it keeps the order of the caller's publishes.
func (s *Server) Publish(m *broker.Message, opts PublishOptions) error {
	if err := broker.CheckTopic(m.Topic); err != nil {
		return err
	}
	p := newPublication(s, m, time.Now())
	p.own = opts.From == nil && !opts.Client
	p.done, p.lazy, p.changes, p.from, p.here, p.always = opts.Done, opts.Lazy, opts.Changes, opts.From, opts.Here, opts.always
	p.instead = opts.Instead
	return s.publish(p, s.named(m.Topic), nil)
}

// publication is a message on its way through the journal to its subscribers.
type publication struct {
	server   *Server
	view     wire.Publish    // the packet without the fields that differ between subscribers
	message  *broker.Message // a copy in memory of its own; nil until one is needed
	topic    *topic          // with the subscribers when it was matched
	matches  []match         // shared, or in chosen
	chosen   []match
	late     []match // subscribers since then, until the retained message was stored
	owed     []journal.Owed
	changes  []journal.Change
	lazy     bool
	at       time.Time
	done     func(error)
	from     *journal.Reader
	here     bool
	own      bool   // published by this process on its own behalf
	silent   bool   // only deletes the retained message
	taken    uint64 // number of a retained publish
	stored   bool   // it is in the retained store already
	behind   bool   // settle only after all earlier entries of the journal
	always   bool
	instead  *broker.Message
	promised load  // in the retained store
	refused  error // why the message is not appended to the journal
	frames   frames

	// Of a client's publish, to acknowledge it.
	conn   *conn
	id     uint16
	qos    byte
	denied bool // it is not delivered, and the client gets a refusal
	apart  bool // it is not delivered here: another publication was

	noBridges bool // bridges of other brokers do not get it
}

var publications = sync.Pool{New: func() any { return &publication{} }}

func newPublication(s *Server, m *broker.Message, at time.Time) *publication {
	p := publications.Get().(*publication)
	p.server, p.message, p.at = s, m, at
	p.view = wire.Publish{
		Topic: m.Topic, Payload: m.Payload, Forward: m.Properties, Expires: m.Expires, Expiry: m.Expiry,
		QoS: m.QoS, Retain: m.Retain,
	}
	return p
}

// keep returns the message in memory of its own.
func (p *publication) keep() *broker.Message {
	if p.message == nil {
		p.message = newMessage(&p.view)
	}
	return p.message
}

// newMessage copies the message of a packet.
func newMessage(v *wire.Publish) *broker.Message {
	m := &broker.Message{Topic: v.Topic, QoS: v.QoS, Retain: v.Retain, Expires: v.Expires, Expiry: v.Expiry}
	b := make([]byte, len(v.Payload)+len(v.Forward))
	n := copy(b, v.Payload)
	copy(b[n:], v.Forward)
	m.Payload, m.Properties = b[:n:n], b[n:]
	return m
}

// reset makes p ready for another message, keeping its memory.
func (p *publication) reset() {
	clear(p.chosen)
	clear(p.owed)
	clear(p.late)
	*p = publication{chosen: p.chosen[:0], owed: p.owed[:0], late: p.late[:0], frames: p.frames}
	p.frames.reset()
}

func (p *publication) release() {
	if p.promised != (load{}) {
		p.server.retained.mu.Lock()
		p.server.retained.keepPromise(p)
		p.server.retained.mu.Unlock()
	}
	p.reset()
	publications.Put(p)
}

// publish appends the message to the journal if it has a durable reader, and then delivers it. It returns the
// journal's error for messages of this process only. It always releases p.
func (s *Server) publish(p *publication, t *topic, d *scratch) error {
	p.find(t)
	m := p.message
	p.owed = p.owed[:0]
	for i := range p.matches {
		t := &p.matches[i]
		if t.reader == nil || p.skips(t) {
			continue
		}
		if qos := min(t.qos, m.QoS); qos > 0 {
			if t.session != nil && !t.session.mayRead(m.Topic) {
				s.counts.deniedReads.Add(1)
				continue
			}
			reader := t.reader
			if pick := t.pick.Load(); pick != nil {
				reader = (*pick)(m.Topic, p.own)
			}
			p.owed = append(p.owed, journal.Owed{Reader: reader, QoS: qos, Retain: m.Retain && t.retainAsPublished})
		}
	}
	retain := m.Retain && s.mayRetain(p)
	e := journal.Entry{Lazy: p.lazy, Done: p, Limited: p.conn != nil}
	if len(p.owed) > 0 || retain || p.qos == 2 && len(p.changes) > 0 {
		e.Message, e.Owed, e.Retained, e.Changes = m, p.owed, retain, p.changes
		if p.conn != nil && p.qos > 0 {
			e.From = p.conn.publisher
			if p.refused = s.beyondShare(p); p.refused != nil {
				e = journal.Entry{Done: p}
			}
		}
	} else if p.always && len(p.changes) > 0 {
		if err := s.journal.Append(journal.Entry{Changes: p.changes}); err != nil {
			s.log.Error("a will that was published is still in the journal", "topic", m.Topic, "error", err)
		}
	}
	return s.append(p, e, d)
}

// errShare refuses a publish at the publisher's share of the journal.
var errShare = errors.New("the publisher's messages take too much of a journal that is filling up: see broker.limits.backlog")

// beyondShare refuses a client's message where space in the journal is short and the client's messages, or those of
// its user, take more of it than MaxBacklog, or a quarter: one publisher must not push out those of all others.
func (s *Server) beyondShare(p *publication) error {
	if s.opts.MaxBacklog <= 0 {
		return nil
	}
	share := min(s.opts.MaxBacklog, s.journal.MaxSize()/4)
	held := s.journal.Held(p.conn.publisher)
	if held <= share {
		return nil
	}
	s.counts.refused.Add(1)
	s.reached(limitBacklog, "publish refused: space in the journal is short, and the publisher's messages take more than its share",
		"client", p.conn.session.id, "user", p.conn.user(), "topic", p.topic.name, "bytes", held, "share", share)
	return errShare
}

// find sets topic and matches.
func (p *publication) find(t *topic) {
	p.topic, p.matches = t, t.matches
	if t.groups {
		p.chosen = choose(t.name, t.matches, p.chosen[:0])
		p.matches = p.chosen
	}
}

// addLate sets late to the matches that find has not found.
func (p *publication) addLate(matches []match) {
	type place struct {
		*target
		*group
	}
	found := make(map[place]bool, len(p.topic.matches))
	for i := range p.topic.matches {
		found[place{p.topic.matches[i].target, p.topic.matches[i].group}] = true
	}
	for _, m := range matches {
		if found[place{m.target, m.group}] {
			continue
		}
		if m.group != nil {
			var ok bool
			if m, ok = m.group.pick(p.topic.name); !ok || found[place{m.target, nil}] {
				continue
			}
		}
		p.late = append(p.late, m)
	}
}

// skips reports whether m does not get the message: the publisher asked not to get its own [MQTT-3.8.3-3], or m is a
// route that the publish excludes.
func (p *publication) skips(m *match) bool {
	if p.from != nil && m.reader == p.from || p.here && m.reader != nil && m.session == nil {
		return true
	}
	return m.noLocal && p.conn != nil && m.session == p.conn.session
}

// confirm acknowledges a publish that is a repetition, but not before the original.
func (s *Server) confirm(p *publication, d *scratch) error {
	return s.append(p, journal.Entry{Done: p}, d)
}

// append appends an entry to the journal. An entry without a message only keeps the
// publisher's order, and is skipped if no earlier publish is pending.
func (s *Server) append(p *publication, e journal.Entry, d *scratch) error {
	if e.Message == nil && !p.behind && (p.conn == nil || p.qos == 0 || p.conn.pending.Load() == 0) {
		p.settle(nil, d)
		p.release()
		return nil
	}
	if p.conn != nil {
		p.conn.pending.Add(1)
		if len(d.dirty) > 0 {
			d.finish(s) // Append may wait for the disk
		}
	}
	var err error
	if e.Retained {
		var handedOut bool
		if err, handedOut = s.appendRetained(p, e); handedOut {
			p.settle(nil, d)
			p.release()
			return nil
		}
	} else {
		err = s.journal.Append(e)
	}
	if err == nil {
		return nil
	}
	if err == ErrReplaced {
		p.release()
		return err
	}
	s.counts.refused.Add(1)
	fromClient := p.conn != nil
	if errors.Is(err, journal.ErrState) {
		s.stateRefused(err, p.conn.session.id, "QoS 2 publish is refused")
	}
	if fromClient {
		p.conn.pending.Add(-1)
	}
	p.settle(err, d)
	p.release()
	if fromClient {
		return nil // it has been answered
	}
	return err
}

// appendRetained appends a retained message to the journal. One of QoS 0, for which the publisher gets no answer that
// could wait for the disk, is stored at once: a client that subscribes after the server has received it, as a PINGRESP or
// any other answer shows, finds it, or finds the one gone that it deletes [MQTT-3.3.1-8]. It is also delivered at
// once, unless messages of the same client are on their way to disk, whose order it keeps.
func (s *Server) appendRetained(p *publication, e journal.Entry) (err error, handOut bool) {
	topic := e.Message.Topic
	lane := s.retained.lane(topic)
	lane.Lock()
	defer lane.Unlock()
	if p.instead != nil {
		if k, onTheirWay := s.retained.latest(topic); k.message != p.instead || onTheirWay {
			return ErrReplaced, false
		}
	}
	p.taken = s.retained.begin(topic)
	now := e.Message.QoS == 0
	if now && (p.conn == nil || p.conn.pending.Load() == 1) { // its own
		e.Done, handOut = &storedAtOnce{s, topic, p.conn, p.done}, true
	}
	// Before Append, after which p is the completer's. Meanwhile only publishes that have passed can store the topic.
	if now {
		s.retain(p)
		p.stored = true
	}
	if err = s.journal.Append(e); err != nil {
		s.retained.end(topic)
		if now {
			s.unretain(topic)
		}
		return err, false
	}
	if handOut {
		p.done = nil
	}
	return nil, handOut
}

// storedAtOnce finishes the publish of a retained message of QoS 0 when it is on disk.
type storedAtOnce struct {
	s     *Server
	topic string
	conn  *conn
	done  func(error)
}

func (r *storedAtOnce) Committed(_ *journal.Entry, _ uint64, err error) {
	if err != nil {
		r.s.counts.refused.Add(1)
	}
	r.s.retained.end(r.topic)
	if r.conn != nil {
		r.conn.settled()
	}
	if r.done != nil {
		r.done(err)
	}
}

// Committed makes publication a journal.Completer.
func (p *publication) Committed(e *journal.Entry, _ uint64, err error) {
	if err != nil {
		p.server.counts.refused.Add(1)
	} else if e.Retained && !p.stored {
		p.server.retain(p)
	}
	if e.Retained {
		p.server.retained.end(p.topic.name)
	}
	p.settle(err, nil)
	if p.conn != nil {
		p.conn.settled() // its next message, which may not need the journal, finds this one handed out
	}
	p.release()
}

// settle offers the message to the subscribers that do not read the journal, whether or not it is on disk,
// and answers the publisher: an acknowledgement, or a refusal with err.
func (p *publication) settle(err error, d *scratch) {
	if !p.silent && !p.apart && p.refresh() {
		for i := range p.matches {
			p.offer(&p.matches[i], false, d)
		}
		for i := range p.late {
			p.offer(&p.late[i], true, d)
		}
	}
	switch {
	case p.denied:
		err = errDenied
	case p.refused != nil:
		err = p.refused
	}
	if p.conn != nil && p.qos > 0 {
		p.conn.acknowledge(p.id, p.qos, err, d)
	}
	if p.done != nil {
		p.done(err)
	}
}

// refresh subtracts the time waited from the message's lifetime. It returns false if that is over.
func (p *publication) refresh() bool {
	if !p.view.Expires {
		return true
	}
	left, ok := journal.Remaining(p.view.Expiry, time.Since(p.at))
	p.view.Expiry = left
	if !ok {
		p.server.counts.droppedExpired.Add(1) // [MQTT-3.3.2-5]
	}
	return ok
}

// offer delivers the message to t, unless t reads it from the journal. late matches do not: the journal entry does not
// owe them the message.
func (p *publication) offer(t *match, late bool, d *scratch) {
	qos := min(t.qos, p.view.QoS)
	switch {
	case p.skips(t), qos > 0 && t.reader != nil && !late:
	case late && t.reader != nil && t.session == nil: // a route is sent what was retained before it by SendRetained
	case t.deliver != nil:
		t.deliver(p.keep())
	case t.session != nil: // not so for a bridge's reader at QoS 0 without Deliver
		c := t.session.conn.Load()
		if c == nil && (qos == 0 || t.reader == nil) || c != nil && c.bridge && p.noBridges {
			return
		}
		retain := p.view.Retain && t.retainAsPublished
		if qos == 0 {
			if c.offer(p, retain, t.ids, d != nil) {
				d.markDirty(c)
			}
			return
		}
		t.session.offer(c, p, outgoing{message: p.keep(), qos: qos, retain: retain, ids: t.ids, at: p.at}, d != nil)
		if c == nil {
			t.session.notify()
			return
		}
		d.markDirty(c)
	}
}

// refusal returns the reason code for a journal's error.
func refusal(err error) wire.Code {
	switch {
	case err == errDenied:
		return wire.NotAuthorized
	case err == errShare, errors.Is(err, journal.ErrFull), errors.Is(err, journal.ErrTooLarge), errors.Is(err, journal.ErrState):
		return wire.QuotaExceeded
	default:
		return wire.Unspecified
	}
}

// frames are the encodings of one message that its subscribers share: one for each version, QoS and
// RETAIN flag, made when the first subscriber needs it.
type frames struct {
	buf []byte
	at  [12]struct{ from, to, id int } // id is where the packet identifier stands in the frame
}

func (f *frames) reset() {
	if len(f.buf) == 0 {
		return
	}
	if cap(f.buf) > keepBuffer {
		f.buf = nil
	}
	f.buf = f.buf[:0]
	clear(f.at[:])
}

// frame returns the encoding and where its packet identifier stands. It is valid until the next call.
func (p *publication) frame(version wire.Version, qos byte, retain bool) (b []byte, id int) {
	i := int(qos) * 2
	if retain {
		i++
	}
	if version == wire.V5 {
		i += 6
	}
	f := &p.frames
	at := &f.at[i]
	if at.to == 0 {
		v := p.view
		v.QoS, v.Retain, v.ID, v.Dup, v.TopicAlias, v.SubscriptionIDs = qos, retain, 0, false, 0, nil
		size := v.Size(version)
		f.buf = slices.Grow(f.buf, size)
		at.from = len(f.buf)
		f.buf = wire.AppendPublish(f.buf, version, &v)
		at.to = len(f.buf)
		at.id = size - len(v.Payload) - v.PropertiesSize(version) - 2
	}
	return f.buf[at.from:at.to], at.id
}
