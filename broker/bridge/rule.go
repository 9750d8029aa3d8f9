package bridge

import (
	"errors"
	"fmt"
	"strings"

	"holdfast/broker"
)

// Rule carries what matches Filter to the other side. Of several rules the first that matches decides.
type Rule struct {
	Filter string // of topics on this side; not a shared subscription
	QoS    byte   // 0 or 1: the most that is used
	Strip  string // removed from the front of the topic, if it is there
	Prefix string // then put in front of it
}

func (r *Rule) validate() error {
	if err := broker.CheckFilter(r.Filter); err != nil {
		return err
	}
	if strings.HasPrefix(r.Filter, broker.SharedPrefix) {
		return fmt.Errorf("%q: a shared subscription", r.Filter)
	}
	if r.QoS > 1 {
		return fmt.Errorf("%q: QoS %d, want 0 or 1", r.Filter, r.QoS)
	}
	if r.Prefix != "" {
		if err := broker.CheckTopic(r.Prefix); err != nil {
			return fmt.Errorf("%q: prefix: %w", r.Filter, err)
		}
	}
	return nil
}

var errNoRule = errors.New("no rule matches the topic")

// remap returns topic's name on the other side and the most QoS for it.
func remap(rules []Rule, topic string) (name string, qos byte, err error) {
	for _, r := range rules {
		if broker.Match(r.Filter, topic) {
			name = r.Prefix + strings.TrimPrefix(topic, r.Strip)
			if err := broker.CheckTopic(name); err != nil {
				return "", 0, fmt.Errorf("topic by rule %q: %w", r.Filter, err)
			}
			return name, r.QoS, nil
		}
	}
	return "", 0, errNoRule
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
