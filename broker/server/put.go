package server

import (
	"encoding/binary"

	"holdfast/broker/wire"
)

const longestAliased = 256 // bytes of a topic that gets an alias

// put queues a PUBLISH and reports whether it did: not if the client may not read it, if it is larger than
// the client accepts, or, at QoS 0, if the client's queue is full. It may change p. Called
// with c.mu held.
func (c *conn) put(p *wire.Publish) bool {
	named, topic := false, p.Topic
	if !c.mayReceive(topic) {
		return false
	}
	if c.peer.aliasMax > 0 && len(topic) <= longestAliased {
		if a, ok := c.out.aliases[topic]; ok {
			p.Topic, p.TopicAlias = "", a
		} else if len(c.out.aliases) < int(c.peer.aliasMax) {
			p.TopicAlias, named = uint16(len(c.out.aliases)+1), true
			if !c.peer.takes(p.Size(c.peer.version)) {
				p.TopicAlias, named = 0, false
			}
		}
	}
	size := p.Size(c.peer.version)
	if !c.mayQueue(size, p.QoS) {
		return false
	}
	if c.phase.closing {
		return true
	}
	if named {
		if c.out.aliases == nil {
			c.out.aliases = map[string]uint16{}
		}
		c.out.aliases[topic] = p.TopicAlias
	}
	b := c.out.buffer()
	b.b = wire.AppendPublish(b.b, c.peer.version, p)
	c.out.published(c.s, size)
	return true
}

// putShared is put for a message whose encoding other subscribers share. Called with c.mu held.
func (c *conn) putShared(p *publication, qos byte, retain bool, ids []uint32, id uint16) bool {
	if c.peer.aliasMax > 0 || len(ids) > 0 && c.peer.version == wire.V5 {
		v := p.view
		v.QoS, v.Retain, v.ID, v.Dup, v.TopicAlias, v.SubscriptionIDs = qos, retain, id, false, 0, ids
		return c.put(&v)
	}
	if !c.mayReceive(p.view.Topic) {
		return false
	}
	frame, at := p.frame(c.peer.version, qos, retain)
	if !c.mayQueue(len(frame), qos) {
		return false
	}
	if c.phase.closing {
		return true
	}
	b := c.out.buffer()
	n := len(b.b)
	b.b = append(b.b, frame...)
	if qos > 0 {
		binary.BigEndian.PutUint16(b.b[n+at:], id)
	}
	c.out.published(c.s, len(frame))
	return true
}

// mayQueue reports whether a PUBLISH may be queued. Called with mu held.
func (c *conn) mayQueue(size int, qos byte) bool {
	if !c.peer.takes(size) {
		c.s.counts.dropped.size.Add(1) // [MQTT-3.1.2-24]
		return false
	}
	if qos > 0 {
		return true
	}
	if n := c.out.len(); n > 0 && n+size > c.s.opts.MaxQueued || c.s.memory.full(n, size) {
		c.s.counts.dropped.queue.Add(1)
		return false
	}
	return true
}
