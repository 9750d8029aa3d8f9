package config

import (
	"errors"
	"math"
	"slices"
	"time"

	"gopkg.in/yaml.v3"

	"holdfast/broker/bridge"
	"holdfast/broker/journal"
	"holdfast/broker/outbox"
)

// newLoader builds the tables of all keys over an empty configuration.
func newLoader(opts Options) *loader {
	c := new(Config)
	l := &loader{opts: opts, config: c}
	l.identity = newTable(
		key{"id", "", "Name of this gateway in topics and client ids. Default: the host name.", level(&c.Device.ID)},
	)
	l.broker = newTable(slices.Concat(l.brokerKeys(&c.Broker), []key{
		{"listeners", "", "Where clients connect. Default: `mqtt://127.0.0.1:1883`; `[]` for none.",
			live(overlaid(l, "a list of listeners", "url", &l.listeners, sameURL, l.listenerKeys))},
		{"anonymous", "", "Let clients in without a name and password, on every listener that does not say otherwise. Default: on those that only this device can reach.",
			live(boolean(&l.anonymous))},
	}, l.accessKeys(&c.Broker))...)
	j := &c.Journal
	store := newTable(
		key{"max_size", bytesOf(journal.DefaultMaxSize), "Limit of the journal's disk space.",
			size(&j.MaxSize, 32<<20, "32MiB: two segments of up to 16MiB")},
		key{"keep_free", "256MiB", "Space that the journal leaves free on the file system.", size(&j.KeepFree, 0, "0B")},
		key{"max_age", "30d", "Older messages are dropped; `0s` for no limit.", duration(&j.MaxAge, 0, "")},
		key{"when_full", "drop-oldest", "What to drop at a limit: the oldest message or the new one.",
			choice(&j.WhenFull, string(DropOldest), string(RefuseNew))},
		key{"dead_letters", "16MiB", "Space for messages that an upstream has refused for good, with the reason: the oldest go first. `0B` keeps none. See `holdfast journal dead`.",
			size(&j.DeadLetters, 0, "0B")},
		key{"commit_every", span(journal.DefaultCommitEvery), "How long the gateway's own readings may wait for a shared commit; `0s` for no wait.",
			duration(&j.CommitEvery, 0, "")},
	)
	l.web = l.webKeys(&c.Web)
	noDevice := kind{want: aMapping, decode: func(field) {}, table: l.identity}
	l.root = newTable(
		key{"device", "", "Identity of this gateway.", noDevice}, // Load has read it before
		key{"data_dir", "/var/lib/holdfast", "Directory for everything durable.", packed(&c.DataDir, "a path")},
		key{"control", "", "Path of the unix socket for `holdfast status` and others. Default: `control.sock` in the unit's directory below `/run` under systemd, else in `data_dir`.",
			socketPath(&c.Control)},
		key{"watch", "true", "Apply files of the configuration when they have changed; `false`: only after `holdfast reload` or SIGHUP.", live(boolean(&c.Watch))},
		key{"broker", "", "The embedded broker.", l.section(l.broker)},
		key{"journal", "", "The durable log of messages.", l.section(store)},
		key{"bridges", "", "Connections to upstream brokers.",
			live(overlaid(l, "a list of bridges", "name", &l.bridges, unchanged, l.bridgeKeys))},
		key{"sensors", "", "What is measured.",
			live(overlaid(l, "a list of sensors", "name", &l.sensors, unchanged, l.sensorKeys))},
		key{"retain", "false", "Publish all readings as retained messages, so that a client that subscribes later has the last one of each. For Home Assistant see the guide.", live(boolean(&l.retain))},
		key{"outputs", "", "What commands move.",
			live(overlaid(l, "a list of outputs", "name", &l.outputs, unchanged, l.outputKeys))},
		key{"web", "", "The dashboard.", l.section(l.web)},
	)
	l.defaults(l.root)
	return l
}

func (l *loader) bridgeKeys(b *Bridge) *table {
	t := newTable(
		key{"name", required, "Name in status topics and messages.", level(&b.Name)},
		key{"upstream", required, "Addresses of one broker or cluster, the preferred one first: `mqtt://HOST:PORT`, `mqtts://`, `ws://` or `wss://`; without a port 1883, 8883, 80 or 443.",
			replaced(l, "a list of URLs", &b.Upstream, l.endpoint)},
		key{"client_id", "${device.id}", "MQTT client identifier, which has to be unique on the upstream. Where `device.id` is not given either, and no `profile`, a device that begins adds `-` and 8 characters made of its machine-id, so that clones of a card differ; one that has run before keeps what it has. `holdfast check` and `status` show it.",
			packed(&b.ClientID, "text of 1 to 65535 bytes")},
		key{"protocol", "auto", "MQTT version: `auto` speaks 5, and 3.1.1 with an upstream that does not know that.", protocol(&b.Protocol)},
		key{"max_packet", "0B", "Largest packet that the upstream takes, if it is less than it says itself; larger messages are refused. `0B` believes the upstream.",
			size(&b.MaxPacket, 0, "")},
		key{"username", "", "Name to connect with.", packed(&b.Username, "text of 1 to 65535 bytes")},
		key{"password", "", "Password to connect with; best as `${file:PATH}` or `${env:NAME}`. Never printed.", password(&b.Password)},
		key{"window", count(outbox.DefaultWindow), "Most messages sent and not yet acknowledged.", number(&b.Window, 1, math.MaxUint16, "")},
		key{"keep_alive", span(bridge.DefaultKeepAlive), "MQTT keep alive in whole seconds.", keepAlive(&b.KeepAlive)},
		key{"fail_back", span(bridge.DefaultFailBack), "How long the first upstream has to be reachable before the bridge returns to it from another one.",
			duration(&b.FailBack, time.Second, "")},
		key{"out", "", "What is sent upstream. This or `in` is required.", replaced(l, "a list of rules", &b.Out, l.outRule)},
		key{"in", "", "What is taken from upstream.", replaced(l, "a list of rules", &b.In, l.inRule)},
		key{"session_expiry", span(bridge.DefaultSessionExpiry), "How long an upstream of MQTT 5 keeps what it has for `in` while there is no connection, in whole seconds.",
			duration(&b.SessionExpiry, time.Second, "")},
		key{"priority", "1", "When space runs out, queued messages of lower priorities are dropped first. Sessions of clients have 0.",
			number(&b.Priority, 0, 3, "")},
		key{"was", "", "Former name of this bridge, whose backlog it adopts.", level(&b.Was)},
		key{"drain", "fifo", "What to send first when the upstream is back: everything in order (`fifo`), or new messages at once and the backlog beside them (`live-first`), which gives up the order between the two.",
			choice(&b.Drain, string(DrainFIFO), string(DrainLiveFirst))},
		key{"drain_share", count(outbox.DefaultShare) + "%", "Largest part of the window, and of `rate`, that the backlog takes with `live-first`.", percent(&b.DrainShare)},
		key{"rate", "", "Most that is sent per second, as for metered links.", l.section(newTable(
			key{"messages", "0", "Messages per second; `0` for no limit.", number(&b.Rate.Messages, 0, math.MaxInt32, "")},
			key{"bytes", "0B", "Bytes of topics and payloads per second, such as `50kB`; `0B` for no limit.", size(&b.Rate.Bytes, 0, "0B")},
		))},
		key{"losses", "holdfast/${device.id}/losses", "Topic upstream on which this bridge announces what it had to drop; `off` for none.", announcements(&b.Losses)},
		key{"status", "", "Topic upstream that has, retained, `online` or `offline`: whether the gateway is connected there. Default: what the first of the `out` rules for `status/${device.id}` makes of that, if there is one; `off` for none.", announcements(&b.Status)},
	)
	t.keys = append(t.keys, l.upstreamKeys(b)...)
	return t
}

func (l *loader) outRule(r *Rule) kind {
	k := l.rule(newTable(
		key{"filter", required, "Local topics to send.", filter(&r.Filter)},
		key{"qos", "1", "Quality of service upstream: 0 or 1.",
			number(&r.QoS, 0, 1, ": use 1, the journal keeps a message until the upstream has acknowledged it")},
		key{"strip", "", "Removed from the front of the local topic if it is there.", part(&r.Strip)},
		key{"prefix", "", "Put in front of what is left.", part(&r.Prefix)},
		key{"priority", "", "Queued messages of a higher priority are sent before those of lower ones, and dropped later when space runs out. Default: the bridge's.",
			number(&r.Priority, 0, 3, "")},
		key{"retained", string(SendRetained), "What to do with messages that are already retained when the rule is added: `send` sends them once, at QoS 1, `skip` does not. Given back as `send` after `skip`, they are sent again.",
			choice(&r.Retained, string(SendRetained), string(SkipRetained))},
	))
	r.Retained = SendRetained
	r.Priority = -1 // the bridge's: see finishBridges
	return k
}

func (l *loader) inRule(r *Rule) kind {
	return l.rule(newTable(
		key{"filter", required, "Upstream topics to take. Those of two rules must not overlap.", filter(&r.Filter)},
		key{"qos", "1", "Quality of service: 0 or 1.",
			number(&r.QoS, 0, 1, ": use 1, the bridge knows what it has from before")},
		key{"strip", "", "Removed from the front of the upstream topic if it is there.", part(&r.Strip)},
		key{"prefix", "", "Put in front of what is left.", part(&r.Prefix)},
	))
}

// rule is one entry of a bridge's lists. It is replaced as a whole, so it is checked at once.
func (l *loader) rule(t *table) kind {
	k := l.section(t)
	k.decode = func(f field) {
		if l.mapping(f, t) {
			l.require(f, t)
		}
	}
	return k
}

func (l *loader) sensorKeys(e *sensorEntry) *table {
	c := &e.Config
	all := l.processingKeys(&e.all)
	for i := range all {
		all[i].doc, all[i].table = "As below `quantities`, for all that have none of their own there.", nil
	}
	t := newTable(append([]key{
		{"name", required, "Name in topics.", level(&c.Name)},
		{"driver", required, "Kind of chip, from the table of drivers; it decides about further keys.", packed(&c.Driver, "a driver's name")},
		{"bus", "", "Where the chip is: `i2c-1`, `spi-0.0`, `/dev/serial0`, or `simulated`. Required for chips on I2C, SPI and serial ports.", packed(&c.Bus, "a bus such as i2c-1")},
		{"address", "", "I2C address, such as `0x76`. Default: the driver's first.", hexadecimal(number(&c.Address, 0x08, 0x77, ": an I2C address such as 0x76"))},
		{"every", "10s", "Time between readings, at least 10ms.", duration(&c.Every, 10*time.Millisecond, "")},
		{"timeout", "", "Deadline of one reading. Default: the driver's.", duration(&c.Timeout, time.Millisecond, "")},
		{"retain", "", "Publish the readings of this sensor as retained messages, or not. Default: the key `retain` beside `sensors`.", boolean(&e.retain)},
		{"quantities", "", "What becomes of the values of single quantities, in this order.", l.quantityKeys(&e.quantities)},
	}, all...)...)
	t.rest = make(map[string]field)
	return t
}

// keepAlive has to fit the CONNECT packet's 16-bit field [MQTT-3.1.2.10].
func keepAlive(to *time.Duration) kind {
	k := duration(to, time.Second, "")
	parse := k.parse
	k.parse = func(s string) error {
		if err := parse(s); err != nil {
			return err
		}
		if *to%time.Second != 0 || *to > math.MaxUint16*time.Second {
			return errors.New("want whole seconds, at most 65535s")
		}
		return nil
	}
	return k
}

func unchanged(s string) string { return s }

// device reads the device section of one file.
func (l *loader) device(root field) {
	if root.node.Kind != yaml.MappingNode {
		return // reported later
	}
	for i := 0; i+1 < len(root.node.Content); i += 2 {
		if k := root.node.Content[i]; k.Value == "device" {
			l.mapping(root.child(k, root.node.Content[i+1]), l.identity)
			return
		}
	}
}

// defaultDevice settles the device's name after all files.
func (l *loader) defaultDevice() {
	id := &l.config.Device.ID
	if _, given := l.identity.given["id"]; !given {
		name, err := l.opts.Hostname()
		if err != nil || !isLevel(name) {
			l.errs = append(l.errs, Error{Key: "device.id", Text: "missing, and the host name cannot take its place: give it in a configuration file"})
		}
		*id = name
	}
	l.deviceID = *id
	if l.deviceID == "" {
		l.deviceID = "invalid" // reported, and not to be reported at every reference
	}
}

// finish makes the checks on all files together, and completes the configuration.
func (l *loader) finish() {
	l.finishAccess()
	l.finishBroker()
	l.finishWeb()
	l.finishBridges()
	l.finishSensors()
	l.finishTopics()
	l.finishOutputs()
}

func (l *loader) finishBridges() {
	type client struct{ id, address string }
	owner := make(map[client]field)
	heirs := make(map[string]string) // former names, and whose they are
	for _, e := range l.bridges {
		heirs[e.value.Name] = e.at.path
	}
	for _, e := range l.bridges {
		l.require(e.at, e.table)
		if _, given := e.given["status"]; !given {
			e.value.Status = bridge.Upstream(Rules(e.value.Out), "status/"+l.deviceID)
		}
		l.finishUpstream(e)
		b := e.value
		_, named := l.identity.given["id"]
		if _, given := e.given["client_id"]; !given && !named && b.Profile == nil {
			b.NewClientID = l.newClientID()
		}
		at, given := e.given["password"]
		if _, named := e.given["username"]; given && !named && b.Profile == nil {
			l.errorf(at, "a password needs a username beside it")
		}
		if b.Was != "" {
			if other, taken := heirs[b.Was]; taken {
				l.errorf(e.given["was"], "%s is, or was, %s: want a name that no bridge has any more", other, plain(b.Was))
			} else {
				heirs[b.Was] = e.at.path
			}
		}
		_, out := e.given["out"]
		if _, in := e.given["in"]; !out && !in {
			l.errorf(e.at, "needs the key out or in, or both")
		}
		if at, given := e.given["in"]; given {
			if err := bridge.CheckRules(Rules(b.Out), Rules(b.In), b.Protocol == V5); err != nil {
				l.errorf(at, "%v", err)
			}
		}
		for _, name := range []string{"upstream", "out", "in"} {
			if at, given := e.given[name]; given && len(at.node.Content) == 0 {
				l.errorf(at, "is empty: want at least one entry")
			}
		}
		for i := range b.Out {
			if r := &b.Out[i]; r.Priority < 0 {
				r.Priority = int(b.Priority)
			}
		}
		var addresses []string
		for _, u := range b.Upstream {
			if u.Address != "" && slices.Contains(addresses, u.Address) {
				l.errorf(e.given["upstream"], "the same address is given twice")
			}
			addresses = append(addresses, u.Address)
		}
		for _, address := range slices.Compact(slices.Sorted(slices.Values(addresses))) {
			c := client{b.ClientID, address}
			if first, taken := owner[c]; taken && address != "" && b.ClientID != "" {
				at, given := e.given["client_id"]
				if !given {
					at = e.at.key("client_id")
				}
				l.errorf(at, "%s has the same one on the same upstream, where each would push the other out: give them different ones", first.path)
				break
			}
			owner[c] = e.at
		}
		l.config.Bridges = append(l.config.Bridges, b)
	}
}
