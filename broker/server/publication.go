package server

import (
	"slices"
	"sync"
	"time"

	"holdfast/broker"
	"holdfast/broker/journal"
	"holdfast/broker/server/retained"
	"holdfast/broker/wire"
)

// publication is a message on its way through the journal to its subscribers.
type publication struct {
	server   *Server
	view     wire.Publish    // the packet without the fields that differ between subscribers
	message  *broker.Message // a copy in memory of its own; nil until one is needed
	at       time.Time       // when it came
	opts     PublishOptions
	audience audience
	owed     []journal.Owed
	frames   frames

	client    clientPublish // zero for a message of this process
	retention retention

	refused   error // why the message is not appended to the journal
	own       bool  // published by this process on its own behalf
	behind    bool  // settle only after all earlier entries of the journal
	silent    bool  // only deletes the retained message
	handedOut bool  // to the audience
	apart     bool  // it is not delivered here: another publication was
	noBridges bool  // bridges of other brokers do not get it
}

// clientPublish is a client's publish, as it takes to acknowledge it.
type clientPublish struct {
	conn   *conn
	id     uint16
	qos    byte
	denied bool // it is not delivered, and the client gets a refusal
}

// retention is the state of a publish that may be retained.
type retention struct {
	taken    uint64        // number of a retained publish
	stored   bool          // it is in the retained store already
	promised retained.Load // room in the retained store
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
	clear(p.audience.chosen)
	clear(p.owed)
	clear(p.audience.late)
	*p = publication{audience: audience{chosen: p.audience.chosen[:0], late: p.audience.late[:0]}, owed: p.owed[:0], frames: p.frames}
	p.frames.reset()
}

func (p *publication) release() {
	if p.retention.promised != (retained.Load{}) {
		p.server.retained.Release(p.retention.promised)
	}
	p.reset()
	publications.Put(p)
}

// refresh subtracts the time waited from the message's lifetime. It returns false if that is over.
func (p *publication) refresh() bool {
	if !p.view.Expires {
		return true
	}
	left, ok := journal.Remaining(p.view.Expiry, time.Since(p.at))
	p.view.Expiry = left
	if !ok {
		p.server.counts.dropped.expired.Add(1) // [MQTT-3.3.2-5]
	}
	return ok
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
