package bridge

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"holdfast/broker"
	"holdfast/broker/journal"
)

// Rule sends what matches Filter upstream. Of several rules the first that matches decides.
type Rule struct {
	Filter string // of local topics; not a shared subscription
	QoS    byte   // 0 or 1: the most that is used upstream
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

var errNoRule = errors.New("no rule matches")

// remap returns topic's name upstream and the most QoS for it.
func (b *Bridge) remap(topic string) (name string, qos byte, err error) {
	for _, r := range b.opts.Out {
		if broker.Match(r.Filter, topic) {
			name = r.Prefix + strings.TrimPrefix(topic, r.Strip)
			return name, r.QoS, broker.CheckTopic(name)
		}
	}
	return "", 0, errNoRule
}

// accept returns the name of m's topic upstream. A message that cannot be sent is counted and ok is
// false.
func (b *Bridge) accept(m *broker.Message) (name string, qos byte, ok bool) {
	name, qos, err := b.remap(m.Topic)
	switch {
	case errors.Is(err, errNoRule):
		b.refuse(m.Topic, "no rule", err)
	case err != nil:
		b.refuse(m.Topic, "topic", err)
	}
	return name, qos, err == nil
}

// expired says whether the message's lifetime is over. A message from before the clock was right does
// not expire here.
func expired(d *journal.Delivery, now time.Time) bool {
	lifetime := time.Duration(d.Message.Expiry) * time.Second
	return d.Message.Expires && d.Time.Synced && now.Sub(d.Time.Wall) > lifetime
}
