package gateway

import (
	"fmt"
	"slices"
	"strings"

	"holdfast/broker"
	"holdfast/broker/bridge"
	"holdfast/broker/dial"
	"holdfast/broker/journal"
	"holdfast/broker/server"
	"holdfast/broker/wire"
	"holdfast/gateway/config"
)

// bridgeReader and a bridge's name are the name of its reader of the journal.
const bridgeReader = "bridge/"

var protocols = map[config.Protocol]wire.Version{config.Auto: 0, config.V311: wire.V311, config.V5: wire.V5}

func (a *Agent) newBridge(c config.Bridge) error {
	if err := a.takeOver(c); err != nil {
		return err
	}
	reader, err := a.journal.OpenReader(bridgeReader + c.Name)
	if err != nil {
		return err
	}
	if err := reader.SetPriority(c.Priority); err != nil {
		return err
	}
	opts := bridge.Options{
		Name: c.Name, ClientID: c.ClientID, Protocol: protocols[c.Protocol], MaxPacket: int(c.MaxPacket),
		KeepAlive: c.KeepAlive, Window: c.Window, Reader: reader, Changed: a.dash.changed(c.Name), Log: a.log,
		SessionExpiry: c.SessionExpiry, FailBack: c.FailBack, Journal: a.journal, Origin: a.cfg.Device.ID,
		Publish: func(m *broker.Message, changes []journal.Change, done func(error)) {
			// done is told of the journal's errors, and the bridge has looked at the topic.
			_ = a.server.Publish(m, server.PublishOptions{From: reader, Changes: changes, Done: done})
		},
	}
	credentials := dial.Credentials{Username: c.Username, Password: string(c.Password)}
	opts.Credentials = credentials.Get
	route := server.Route{Name: c.Name, Reader: reader}
	for _, u := range c.Upstream {
		opts.Upstreams = append(opts.Upstreams, u.URL)
	}
	for _, r := range c.Out {
		opts.Out = append(opts.Out, bridge.Rule(r))
		route.Filters = append(route.Filters, server.FilterQoS{Filter: r.Filter, QoS: r.QoS})
	}
	for _, r := range c.In {
		opts.In = append(opts.In, bridge.Rule(r))
	}
	b, err := bridge.New(opts)
	if err != nil {
		return err
	}
	a.bridges = append(a.bridges, b)
	route.Deliver = b.Deliver
	return a.server.Route(route)
}

// takeOver gives a bridge what waits under its former name.
func (a *Agent) takeOver(c config.Bridge) error {
	if c.Was == "" {
		return nil
	}
	was, now := bridgeReader+c.Was, bridgeReader+c.Name
	readers := a.journal.Readers()
	find := func(name string) int {
		return slices.IndexFunc(readers, func(r journal.ReaderInfo) bool { return r.Name == name })
	}
	old, own := find(was), find(now)
	if old < 0 {
		return nil
	}
	if own >= 0 {
		if depth := readers[own].Depth; depth > 0 {
			a.log.Warn("a bridge has messages of its own and takes over its former name's at a start when it has none",
				"bridge", c.Name, "was", c.Was, "waiting", depth)
			return nil
		}
		if err := a.journal.RemoveReader(now); err != nil {
			return err
		}
	}
	if _, err := a.journal.RenameReader(was, now); err != nil {
		return fmt.Errorf("was %s: %w", c.Was, err)
	}
	a.log.Info("a bridge has taken over what waited under its former name",
		"bridge", c.Name, "was", c.Was, "waiting", readers[old].Depth)
	return nil
}

// formerBridges tells of messages that wait for bridges which are not configured any more. They stay
// until a limit drops them. Where nothing waits there is nothing to keep.
func (a *Agent) formerBridges() error {
	var text []string
	for _, r := range a.journal.Readers() {
		name, ok := strings.CutPrefix(r.Name, bridgeReader)
		if !ok || slices.ContainsFunc(a.cfg.Bridges, func(b config.Bridge) bool { return b.Name == name || b.Was == name }) {
			continue
		}
		if r.Depth > 0 {
			text = append(text, fmt.Sprintf("%s: %d", name, r.Depth))
		} else if err := a.journal.RemoveReader(r.Name); err != nil {
			return err
		}
	}
	if len(text) > 0 {
		a.log.Warn("messages wait for bridges that the configuration does not have: give a bridge `was: NAME` to send them, "+
			"or stop holdfast and give them up with `holdfast journal forget bridge/NAME`", "waiting", strings.Join(text, ", "))
	}
	return nil
}
