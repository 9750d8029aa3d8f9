package uplinks

import (
	"errors"
	"fmt"
	"reflect"
	"slices"

	"holdfast/gateway/config"
	"holdfast/gateway/part"
)

// next is a configuration of bridges that has been prepared.
type next struct {
	*changes
	links []*uplink                 // in the order of the new configuration
	built map[*uplink]config.Bridge // bridges that take the place of those that run
	undo  []func()
}

type changes = config.Delta[config.Bridge]

// sameBridge reports whether a bridge may go on. That it has adopted the backlog of a former name is done.
func sameBridge(old, now config.Bridge) bool {
	if now.Was == "" {
		old.Was = ""
	}
	return reflect.DeepEqual(old, now)
}

// Prepare builds the bridges that are new, and checks that those that change can be built.
func (u *Uplinks) Prepare(cfg *config.Config) (part.Change, error) {
	u.changing.Lock()
	defer u.changing.Unlock()
	d := config.Compare(u.configured, cfg.Bridges, func(c config.Bridge) string { return c.Name }, sameBridge)
	n := &next{changes: &d, built: map[*uplink]config.Bridge{}}
	undo := func() {
		for _, f := range slices.Backward(n.undo) {
			f()
		}
	}
	for _, c := range cfg.Bridges {
		if err := u.prepare(n, c); err != nil {
			undo()
			return part.Change{}, fmt.Errorf("bridge %s: %w", c.Name, err)
		}
	}
	return part.Change{
		Undo:     undo,
		Apply:    func() { u.apply(n, cfg.Bridges) },
		Describe: func() []string { return d.Describe("bridge") },
	}, nil
}

func (u *Uplinks) prepare(n *next, c config.Bridge) (err error) {
	l := u.find(c.Name)
	changed := slices.Contains(n.Changed, c.Name)
	if l == nil && len(u.readers(c.Name)) == 0 { // else it has messages of its own
		l = u.find(c.Was) // renamed while it runs
		changed = l != nil
	}
	switch {
	case changed:
		n.built[l] = c
		_, _, err = u.newSender(c, dialer(c, u.log), l.queues, l.queues[0].Live, l.key, newUsage(c, u.opts.Now()))
	case l == nil:
		l, err = u.prepareNew(n, c)
	}
	n.links = append(n.links, l)
	return err
}

// find returns the uplink of that name, or nil.
func (u *Uplinks) find(name string) *uplink {
	if i := slices.IndexFunc(u.links, func(l *uplink) bool { return l.config.Name == name }); i >= 0 {
		return u.links[i]
	}
	return nil
}

// prepareNew makes an uplink that is new. What it makes in the journal is removed again if it is not used, and
// what it adopts goes back.
func (u *Uplinks) prepareNew(n *next, c config.Bridge) (*uplink, error) {
	had, former := u.readers(c.Name), u.readers(c.Was)
	n.undo = append(n.undo, func() {
		adopted := make([]string, len(former))
		for i, name := range former {
			adopted[i] = bridgeReader + c.Name + name[len(bridgeReader+c.Was):]
		}
		back, err := u.moveReaders(adopted, c.Name, c.Was) // none of that name if it was not adopted
		if back {
			err = errors.Join(err, u.moveAnnounced(c.Name, c.Was), u.moveState(c.Name, c.Was))
		}
		for _, name := range u.readers(c.Name) {
			if !slices.Contains(had, name) {
				err = errors.Join(err, u.journal.RemoveReader(name))
			}
		}
		if err != nil {
			u.log.Error("could not remove the reader of an unused bridge from the journal", "bridge", c.Name, "error", err)
		}
	})
	return u.newUplink(c)
}

// apply stops the bridges that are gone or changed, and starts those in their place. Their readers receive
// messages all the time.
func (u *Uplinks) apply(n *next, configured []config.Bridge) {
	u.changing.Lock()
	defer u.changing.Unlock()
	var stop []*uplink
	for _, l := range u.links {
		c, changed := n.built[l]
		gone := !slices.Contains(n.links, l)
		if gone {
			u.server.Unroute(l.key)
		}
		if gone || changed {
			stop = append(stop, l)
		}
		if gone || changed && c.Name != l.config.Name {
			u.losses.set(l.config.Name, nil)
		}
	}
	stopAll(stop)
	u.mu.Lock()
	u.links = n.links
	u.mu.Unlock()
	for _, l := range n.links {
		if c, changed := n.built[l]; changed {
			u.replace(l, &c)
		} else if l.stop == nil {
			u.replace(l, nil)
		}
	}
	u.configured = configured
	if err := u.orphans(configured); err != nil {
		u.log.Error("could not remove the reader of an orphaned bridge from the journal", "error", err)
	}
}

// replace starts an uplink that does not run, with another configuration if there is one.
func (u *Uplinks) replace(l *uplink, c *config.Bridge) {
	l.stop = nil
	var err error
	if c != nil {
		if err = u.build(l, *c); err != nil { // the journal has failed: on as before
			u.log.Error("keeping the previous configuration of a bridge", "bridge", c.Name, "error", err)
			err = u.build(l, l.config)
		}
	}
	if err == nil {
		err = u.route(l)
	}
	if err != nil {
		u.log.Error("a bridge does not run: mend the storage of the journal, and start holdfast again", "bridge", l.config.Name, "error", err)
		return
	}
	if u.running != nil {
		l.stop = u.startUplink(l)
	}
}
