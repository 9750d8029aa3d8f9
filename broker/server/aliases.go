package server

import (
	"fmt"

	"holdfast/broker/server/limits"
	"holdfast/broker/wire"
)

// aliases are the topics that a 5.0 client has set aliases for.
type aliases struct {
	topics map[uint16]*topic
	bytes  int // of the topics' names
}

// set sets the topic of an alias. It reports whether the topics of all aliases together have maxAliasBytes at most.
func (a *aliases) set(alias uint16, t *topic) bool {
	if old := a.topics[alias]; old != nil {
		a.bytes -= len(old.Name)
	}
	if a.bytes += len(t.Name); a.bytes > maxAliasBytes {
		return false
	}
	if a.topics == nil {
		a.topics = map[uint16]*topic{}
	}
	a.topics[alias] = t
	return true
}

// topic resolves the topic alias and checks the name.
func (c *conn) topic(p *wire.Publish, d *scratch) (*topic, error) {
	if len(p.SubscriptionIDs) > 0 {
		return nil, &wire.Error{Code: wire.ProtocolError, Text: "subscription identifier in a client's PUBLISH"} // [MQTT-3.3.4-6]
	}
	if p.TopicAlias > maxAliases {
		return nil, &wire.Error{Code: wire.TopicAliasInvalid, Text: fmt.Sprintf("topic alias %d, want at most %d", p.TopicAlias, maxAliases)} // [MQTT-3.3.2-9]
	}
	if p.Topic == "" {
		t := c.aliases.topics[p.TopicAlias]
		if t == nil {
			return nil, &wire.Error{Code: wire.ProtocolError, Text: fmt.Sprintf("topic alias %d is not set", p.TopicAlias)}
		}
		p.Topic = t.Name
		return t, nil
	}
	t := d.topic
	if t.Err != nil {
		return nil, &wire.Error{Code: wire.TopicNameInvalid, Text: t.Err.Error()}
	}
	if p.TopicAlias != 0 && !c.aliases.set(p.TopicAlias, t) {
		c.s.limits.Reached(limits.TopicAliases, "connection closed: the topics of its aliases are too long together", "client", c.session.id, "remote", c.remote())
		return t, &wire.Error{Code: wire.QuotaExceeded, Text: fmt.Sprintf("topics with an alias have %d bytes, want at most %d", c.aliases.bytes, maxAliasBytes)}
	}
	return t, nil
}
