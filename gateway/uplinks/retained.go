package uplinks

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
	"sync"
	"time"

	"holdfast/broker"
	"holdfast/broker/journal"
	"holdfast/broker/server"
	"holdfast/gateway/config"
)

// Messages that are retained when an out rule is added are sent once. What the journal knows of that, for each rule that
// has `retained: send`:
//
//	bridge/NAME/retained/RULE    how far: see progress. It goes with the bridge's other state when the bridge is renamed or gone.
//	gateway/retained             there is the above: rules of an earlier version have been noted as sent
//
// RULE is made of the keys that form names upstream: another filter, strip or prefix is another rule, and another QoS,
// priority or upstream is not.
const (
	notedKey       = "gateway/retained"
	retainedState  = "/retained/"
	retainedLater  = 10 * time.Second // after which sending goes on when the journal took no more
	retainedDone   = "."              // all is sent
	retainedBehind = ">"              // with a topic: all up to this one is
)

func retainedPrefix(bridge string) string { return bridgeReader + bridge + retainedState }

func ruleKey(bridge string, r config.Rule) string {
	sum := sha256.Sum256([]byte(r.Filter + "\x00" + r.Strip + "\x00" + r.Prefix))
	return retainedPrefix(bridge) + hex.EncodeToString(sum[:8])
}

// noteRules notes, once, that the rules of bridges which an earlier version has made have nothing to send: an upgrade sends
// nothing again. It returns when that is on disk, or cannot be: then nothing else can either that would be sent.
func (u *Uplinks) noteRules(configured []config.Bridge) {
	noted := false
	u.journal.Range(notedKey, func(key string, _ []byte) bool {
		noted = noted || key == notedKey
		return true
	})
	if noted {
		return
	}
	changes := []journal.Change{{Key: notedKey, Value: []byte{1}}}
	there := map[string]bool{}
	for _, r := range u.journal.Readers() {
		if name, ok := bridgeOf(r.Name); ok {
			there[name] = true
		}
	}
	for _, b := range configured {
		for _, name := range []string{b.Name, b.Was} {
			if name == "" || !there[name] {
				continue
			}
			for _, r := range b.Out {
				changes = append(changes, journal.Change{Key: ruleKey(name, r), Value: []byte(retainedDone)})
			}
		}
	}
	if err := u.remember(changes); err != nil {
		u.log.Warn("could not note that an earlier version has sent the retained messages of its rules: they may be sent again", "error", err)
	}
}

// remember returns when changes are on disk.
func (u *Uplinks) remember(changes []journal.Change) error {
	return u.journal.AppendDurable(context.Background(), journal.Entry{Changes: changes})
}

// startUplink runs an uplink's bridge, and sends retained messages through it.
func (u *Uplinks) startUplink(l *uplink) (stop func()) {
	run, c := l.sender().Run, l.config
	return u.start(func(ctx context.Context) error {
		var beside sync.WaitGroup
		beside.Go(func() { u.sendRetained(ctx, c, l.key) })
		defer beside.Wait()
		return run(ctx)
	})
}

// sendRetained sends the retained messages of each rule that has not sent them, until that is done or ctx ends.
func (u *Uplinks) sendRetained(ctx context.Context, c config.Bridge, route *journal.Reader) {
	select {
	case <-ctx.Done():
		return
	case <-u.server.Ready():
	}
	for logged := false; ; {
		err := u.sendRules(ctx, c, route)
		if err == nil || ctx.Err() != nil {
			return
		}
		if !logged {
			u.log.Warn("the journal does not accept writes: trying again to send retained messages to a bridge that is new or has a new rule", "bridge", c.Name, "error", err)
			logged = true
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(retainedLater):
		}
	}
}

func (u *Uplinks) sendRules(ctx context.Context, c config.Bridge, route *journal.Reader) error {
	progress := map[string]string{}
	u.journal.Range(retainedPrefix(c.Name), func(key string, value []byte) bool {
		progress[key] = string(value)
		return true
	})
	var gone []journal.Change // of rules that are gone, or have `skip` now: should they come back, they are new
	for key := range progress {
		if !slices.ContainsFunc(c.Out, func(r config.Rule) bool { return r.Retained == config.SendRetained && ruleKey(c.Name, r) == key }) {
			gone = append(gone, journal.Change{Key: key})
		}
	}
	if len(gone) > 0 {
		if err := u.remember(gone); err != nil {
			return err
		}
	}
	rules := config.Rules(c.Out)
	for i, r := range c.Out {
		key := ruleKey(c.Name, r)
		if r.Retained != config.SendRetained || progress[key] == retainedDone {
			continue
		}
		after, _ := strings.CutPrefix(progress[key], retainedBehind)
		n, err := u.server.SendRetained(ctx, server.Replay{
			Reader: route, After: after,
			Wants: func(topic string) bool {
				return rules.Match(topic) == i && !mayComeIn(c.In, topic) && topic != StatusTopic(u.opts.Device)
			},
			Sent: func(topic string) []journal.Change {
				return []journal.Change{{Key: key, Value: []byte(retainedBehind + topic)}}
			},
		})
		if n > 0 {
			u.log.Info("queued the messages that were retained before a rule was added", "bridge", c.Name, "filter", r.Filter, "messages", n)
		}
		if err == nil {
			err = u.remember([]journal.Change{{Key: key, Value: []byte(retainedDone)}})
		}
		if err != nil {
			return err
		}
		progress[key] = retainedDone
	}
	return nil
}

// mayComeIn reports whether in rules may have brought what is retained of a topic: it is not sent back where it came from.
func mayComeIn(in []config.Rule, topic string) bool {
	return slices.ContainsFunc(in, func(r config.Rule) bool {
		rest, ok := strings.CutPrefix(topic, r.Prefix)
		return ok && (broker.Match(r.Filter, r.Strip+rest) || broker.Match(r.Filter, rest))
	})
}
