package uplinks

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"holdfast/broker/journal"
	"holdfast/gateway/config"
)

// adopt gives a bridge the backlog of its former name, and what was announced of it.
func (u *Uplinks) adopt(c config.Bridge) error {
	if c.Was == "" {
		return nil
	}
	var old, own []string
	var waiting, waitingHere uint64
	for _, r := range u.journal.Readers() {
		switch name, ok := bridgeOf(r.Name); {
		case !ok:
		case name == c.Was:
			old, waiting = append(old, r.Name), waiting+r.Depth
		case name == c.Name:
			own, waitingHere = append(own, r.Name), waitingHere+r.Depth
		}
	}
	if len(old) == 0 {
		return nil
	}
	if waitingHere > 0 {
		u.log.Warn("a bridge has a backlog of its own: it adopts that of its former name at a start when its own is empty",
			"bridge", c.Name, "was", c.Was, "waiting", waitingHere)
		return nil
	}
	for _, name := range own {
		if err := u.journal.RemoveReader(name); err != nil {
			return err
		}
	}
	if _, err := u.moveReaders(old, c.Was, c.Name); err != nil {
		return fmt.Errorf("was %s: %w", c.Was, err)
	}
	if err := errors.Join(u.moveAnnounced(c.Was, c.Name), u.moveState(c.Was, c.Name)); err != nil {
		return fmt.Errorf("was %s: %w", c.Was, err)
	}
	u.log.Info("a bridge has taken over the backlog of its former name", "bridge", c.Name, "was", c.Was, "waiting", waiting)
	return nil
}

// moveState moves one bridge's record of messages that have come in, and been refused, to another name. It
// returns when that is on disk, where the bridge will look.
func (u *Uplinks) moveState(was, now string) error {
	var changes []journal.Change
	u.journal.Range(bridgeReader, func(key string, value []byte) bool {
		switch name, rest, _ := strings.Cut(key[len(bridgeReader):], "/"); name {
		case was:
			changes = append(changes, journal.Change{Key: key}, journal.Change{Key: bridgeReader + now + "/" + rest, Value: value})
		case now: // of a bridge that has come and gone
			changes = slices.Insert(changes, 0, journal.Change{Key: key})
		}
		return true
	})
	if len(changes) == 0 {
		return nil
	}
	return u.remember(changes)
}

// orphans logs the backlogs of bridges that are no longer configured, which stay until a limit drops them, and
// removes the readers of those without a backlog.
func (u *Uplinks) orphans(configured []config.Bridge) error {
	known := func(name string) bool {
		return slices.ContainsFunc(configured, func(b config.Bridge) bool { return b.Name == name || b.Was == name })
	}
	var state []journal.Change // their records of messages that have come in
	u.journal.Range(bridgeReader, func(key string, _ []byte) bool {
		if name, _, _ := strings.Cut(key[len(bridgeReader):], "/"); !known(name) {
			state = append(state, journal.Change{Key: key})
		}
		return true
	})
	if len(state) > 0 { // a bridge of that name that comes next must not find it
		if err := u.remember(state); err != nil {
			u.log.Warn("could not remove the state of orphaned bridges from the journal", "error", err)
		}
	}
	var text []string
	for _, r := range u.journal.Readers() {
		name, ok := bridgeOf(r.Name)
		if !ok || known(name) {
			continue
		}
		if r.Depth > 0 {
			text = append(text, fmt.Sprintf("%s: %d", strings.TrimPrefix(r.Name, bridgeReader), r.Depth))
		} else if err := u.journal.RemoveReader(r.Name); err != nil {
			return err
		}
	}
	if len(text) > 0 {
		u.log.Warn("messages are queued for orphaned bridges, which the configuration does not have: give a bridge `was: NAME` to send them, "+
			"or stop holdfast and give them up with `holdfast journal forget bridge/NAME`", "waiting", strings.Join(text, ", "))
	}
	return nil
}
