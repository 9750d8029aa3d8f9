package uplinks

import (
	"cmp"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"holdfast/broker"
	"holdfast/broker/journal"
	"holdfast/gateway/numbers"
	"holdfast/gateway/verify"
)

const (
	// announcedKey and a bridge's name are where the journal keeps up to which loss the bridge has announced.
	announcedKey = "gateway/losses/"
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
	upTo      uint64 // News of the newest loss that was announced
	waits     bool   // the journal accepts no announcement, and that was logged
	unwanted  atomic.Bool
}

// refused ends announcements that the upstream does not take: each of them would be a loss to be announced.
func (a *announcer) refused(b *announced, reason string) {
	if !b.unwanted.Swap(true) {
		a.log.Warn("the upstream refuses to be told of losses; `holdfast journal losses` has them: allow the topic there, or choose another one, or `losses: off`, and start again",
			"bridge", b.name, "topic", b.topic, "reason", reason)
	}
}

// set starts announcing a bridge's losses as b describes; nil ends it.
func (a *announcer) set(name string, b *announced) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.bridges = slices.DeleteFunc(slices.Clone(a.bridges), func(b *announced) bool { return b.name == name })
	if b == nil {
		return
	}
	b.upTo, _ = binary.Uvarint(announcedUpTo(a.journal, b.name))
	// A journal that has lost its memory counts from the beginning again.
	if newest := news(a.journal.Losses()); b.upTo > newest {
		b.upTo = 0
	}
	a.bridges = append(a.bridges, b)
}

// announcedUpTo returns what the journal keeps of a bridge's announcements; nil if there was none.
func announcedUpTo(j *journal.Journal, bridge string) (value []byte) {
	value, _ = j.Get(announcedKey + bridge)
	return value
}

// moveAnnounced moves the record of announced losses to another name, so that none is announced again.
func (u *Uplinks) moveAnnounced(was, now string) error {
	value := announcedUpTo(u.journal, was)
	if value == nil {
		return nil
	}
	return u.journal.Append(journal.Entry{
		Changes: []journal.Change{{Key: announcedKey + now, Value: value}, {Key: announcedKey + was}}, Lazy: true,
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
		return l.News <= b.upTo || l.Reader != "" && (!ok || name != b.name) // one that belongs to no reader may be this bridge's
	})
	slices.SortFunc(losses, func(x, y journal.Loss) int { return cmp.Compare(x.News, y.News) })
	for _, l := range losses {
		p := lossPayload(b.name, &l)
		if skipped := numbers.SkippedBy(a.journal, &l); skipped != nil {
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
			Changes: []journal.Change{{Key: announcedKey + b.name, Value: binary.AppendUvarint(nil, l.News)}},
		})
		if err != nil {
			if !b.waits && !errors.Is(err, journal.ErrClosed) {
				a.log.Warn("losses will be announced when the journal accepts writes again", "bridge", b.name, "error", err)
			}
			b.waits = true
			return
		}
		b.upTo, b.waits = l.News, false
	}
}

// lossPayload is the contract with consumers of announcements.
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
