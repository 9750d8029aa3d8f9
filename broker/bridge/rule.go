package bridge

import (
	"errors"

	"holdfast/broker"
)

// Rule is broker.Rule.
type Rule = broker.Rule

var errNoRule = errors.New("no rule matches the topic")

// remap returns topic's name on the other side and the most QoS for it.
func remap(rules broker.Rules, topic string) (name string, qos byte, err error) {
	i := rules.Match(topic)
	if i < 0 {
		return "", 0, errNoRule
	}
	name, err = rules[i].Name(topic)
	return name, rules[i].QoS, err
}

// Upstream returns the name that out rules give a topic, and none if no rule does, or no possible one.
func Upstream(rules []Rule, topic string) string {
	name, _, _ := remap(rules, topic)
	return name
}

// name returns the topic to send m under, the most QoS for it, and whether RETAIN is passed on.
func (b *Bridge) name(m *broker.Message, retain bool) (topic string, qos byte, passOn bool, err error) {
	topic, qos, err = remap(b.opts.Out, m.Topic)
	if err == nil && b.opts.Adapt != nil {
		topic, retain, err = b.opts.Adapt(topic, m, retain)
	}
	return topic, qos, retain, err
}
