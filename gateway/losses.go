package gateway

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"holdfast/broker"
	"holdfast/broker/journal"
	"holdfast/gateway/verify"
)

const (
	// toldKey and a bridge's name are where the journal keeps up to which loss the bridge has announced.
	toldKey = "gateway/losses/"
	// announceEvery is how often connected bridges are asked for new losses.
	announceEvery = 5 * time.Second
)

// announcer publishes upstream what a bridge has lost. An announcement is a message in the bridge's own
// reader of the journal, so it is kept until the upstream has acknowledged it. It is made when there is a
// connection: during an outage ranges only grow.
type announcer struct {
	journal *journal.Journal
	log     *slog.Logger
	every   time.Duration

	mu      sync.Mutex
	bridges []*announced
}

type announced struct {
	name      string
	topic     string
	reader    func() *journal.Reader
	connected func() bool
	told      uint64 // News of the newest loss that was announced
	waits     bool   // the journal takes none, and that was logged
	unwanted  atomic.Bool
}

// refused ends announcements that the upstream does not take: each of them would be a loss to be announced.
func (a *announcer) refused(b *announced, reason string) {
	if !b.unwanted.Swap(true) {
		a.log.Warn("the upstream refuses to be told of losses; they stay in `holdfast journal losses`: allow the topic there, or choose another one, or `losses: off`, and start again",
			"bridge", b.name, "topic", b.topic, "reason", reason)
	}
}

// set has a bridge's losses told in one way, or not at all.
func (a *announcer) set(name string, b *announced) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.bridges = slices.DeleteFunc(slices.Clone(a.bridges), func(b *announced) bool { return b.name == name })
	if b == nil {
		return
	}
	b.told, _ = binary.Uvarint(told(a.journal, b.name))
	// A journal that has lost its memory counts from the beginning again.
	if newest := news(a.journal.Losses()); b.told > newest {
		b.told = 0
	}
	a.bridges = append(a.bridges, b)
}

// told returns what the journal keeps of a bridge's announcements; nil if there was none.
func told(j *journal.Journal, bridge string) (value []byte) {
	value, _ = j.Get(toldKey + bridge)
	return value
}

// moveTold: what was announced under one name is not announced again under another.
func (a *Agent) moveTold(was, now string) error {
	value := told(a.journal, was)
	if value == nil {
		return nil
	}
	return a.journal.Append(journal.Entry{
		Changes: []journal.Change{{Key: toldKey + now, Value: value}, {Key: toldKey + was}}, Lazy: true,
	})
}

func news(losses []journal.Loss) (newest uint64) {
	for _, l := range losses {
		newest = max(newest, l.News)
	}
	return newest
}

func (a *announcer) run(ctx context.Context) error {
	tick := time.NewTicker(a.every)
	defer tick.Stop()
	for {
		a.mu.Lock()
		for _, b := range a.bridges {
			if b.connected() && !b.unwanted.Load() {
				a.announce(b)
			}
		}
		a.mu.Unlock()
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// announce publishes the ranges that are new or have grown, and notes in the same record that it has.
func (a *announcer) announce(b *announced) {
	losses := a.journal.Losses()
	losses = slices.DeleteFunc(losses, func(l journal.Loss) bool {
		name, ok := bridgeOf(l.Reader)
		return l.News <= b.told || l.Reader != "" && (!ok || name != b.name) // nobody's may be this bridge's
	})
	slices.SortFunc(losses, func(x, y journal.Loss) int { return cmp.Compare(x.News, y.News) })
	for _, l := range losses {
		p := lossPayload(b.name, &l)
		if skipped := skippedBy(a.journal, &l); skipped != nil {
			p.Readings = skipped
		}
		payload, err := json.Marshal(p)
		if err != nil {
			a.log.Error("a loss cannot be announced", "bridge", b.name, "error", err)
			return
		}
		err = a.journal.Append(journal.Entry{
			Message: &broker.Message{Topic: b.topic, Payload: payload, QoS: 1},
			Owed:    []journal.Owed{{Reader: b.reader(), QoS: 1}},
			Changes: []journal.Change{{Key: toldKey + b.name, Value: binary.AppendUvarint(nil, l.News)}},
		})
		if err != nil {
			if !b.waits && !errors.Is(err, journal.ErrClosed) {
				a.log.Warn("losses are announced when the journal takes messages again", "bridge", b.name, "error", err)
			}
			b.waits = true
			return
		}
		b.told, b.waits = l.News, false
	}
}

// lossPayload is the contract with whoever consumes announcements.
func lossPayload(bridge string, l *journal.Loss) *verify.Loss {
	p := &verify.Loss{
		Bridge: bridge, ID: l.ID, First: l.First, Last: l.Last, Count: l.Count, Reason: l.Reason,
		Time: l.Time.UTC().Format("2006-01-02T15:04:05.000Z"),
	}
	if n := l.Numbers; n.Count > 0 {
		p.Readings = &verify.Numbers{First: n.First, Last: n.Last, Count: n.Count}
	}
	return p
}

// readingNumber returns what gives a message of this device's readings its number: see publish.go.
func readingNumber(device string) func(m *broker.Message) (uint64, bool) {
	prefix, mark := "sensors/"+device+"/", []byte(`,"seq":`)
	return func(m *broker.Message) (uint64, bool) {
		i := bytes.LastIndex(m.Payload, mark)
		if i < 0 || !strings.HasPrefix(m.Topic, prefix) {
			return 0, false
		}
		digits, ok := bytes.CutSuffix(m.Payload[i+len(mark):], []byte("}"))
		n, err := strconv.ParseUint(string(digits), 10, 64)
		return n, ok && err == nil
	}
}

// BridgeLosses are totals of what a bridge could not deliver, since it was first configured.
type BridgeLosses struct {
	Bridge   string
	Reason   string // see package journal
	Messages uint64
}

// bridgeLosses sums up the readers of each bridge.
func bridgeLosses(readers []journal.ReaderInfo) (list []BridgeLosses) {
	for _, r := range readers {
		name, ok := bridgeOf(r.Name)
		if !ok {
			continue
		}
		for reason, n := range r.Lost {
			i := slices.IndexFunc(list, func(l BridgeLosses) bool { return l.Bridge == name && l.Reason == reason })
			if i < 0 {
				list = append(list, BridgeLosses{Bridge: name, Reason: reason})
				i = len(list) - 1
			}
			list[i].Messages += n
		}
	}
	slices.SortFunc(list, func(x, y BridgeLosses) int {
		return cmp.Or(cmp.Compare(x.Bridge, y.Bridge), cmp.Compare(x.Reason, y.Reason))
	})
	return list
}
