package broker

import (
	"fmt"
	"strings"
)

// Rule carries what matches Filter to another place, perhaps under another name.
type Rule struct {
	Filter string // of topics on this side; not a shared subscription
	QoS    byte   // 0 or 1: the most that is used
	Strip  string // removed from the front of the topic, if it is there
	Prefix string // then put in front of it
}

// Validate returns what is wrong with a rule: with its filter, its QoS or its prefix.
func (r *Rule) Validate() error {
	if err := CheckFilter(r.Filter); err != nil {
		return err
	}
	if strings.HasPrefix(r.Filter, SharedPrefix) {
		return fmt.Errorf("%q: a shared subscription", r.Filter)
	}
	if r.QoS > 1 {
		return fmt.Errorf("%q: QoS %d, want 0 or 1", r.Filter, r.QoS)
	}
	if r.Prefix != "" {
		if err := CheckTopic(r.Prefix); err != nil {
			return fmt.Errorf("%q: prefix: %w", r.Filter, err)
		}
	}
	return nil
}

// Name returns the name of a topic on the other side, or why there is no possible one. Filter matches the topic.
func (r *Rule) Name(topic string) (string, error) {
	name := r.Prefix + strings.TrimPrefix(topic, r.Strip)
	if err := CheckTopic(name); err != nil {
		return "", fmt.Errorf("topic by rule %q: %w", r.Filter, err)
	}
	return name, nil
}

// Rules are tried in order: the first that matches decides.
type Rules []Rule

// Match returns the index of the rule that decides about a topic, -1 if none matches. It does not allocate.
func (r Rules) Match(topic string) int {
	for i := range r {
		if Match(r[i].Filter, topic) {
			return i
		}
	}
	return -1
}
