package main

import (
	"fmt"
	"math/bits"
	"strings"
	"time"

	"holdfast/broker/wire"
)

// move is something that a hostile client does. It returns when it has done it, or when the time is up.
type move struct {
	name string
	do   func(a *attack)
	big  bool // it gets three times as long
}

// moves is the vocabulary: each tries another bound, right or rule of the protocol.
var moves = []move{
	{"half-connections", halfConnections, false},
	{"half-connects", halfConnects, false},
	{"half-packets", halfPackets, false},
	{"publish-without-pubrel", publishWithoutPubrel, true},
	{"pubrec-without-pubcomp", pubrecWithoutPubcomp, true},
	{"slow-readers", slowReaders, false},
	{"deep-filters", deepFilters, false},
	{"crafted-filters", craftedFilters, false},
	{"delayed-wills", delayedWills, false},
	{"forbidden-wills", forbiddenWills, false},
	{"stolen-identifiers", stolenIdentifiers, false},
	{"stolen-jobs", stolenJobs, false},
	{"retained-flood", retainedFlood, false},
	{"aliases", aliases, false},
	{"oversize", oversize, false},
	{"random-bytes", randomBytes, false},
	{"mutated-packets", mutatedPackets, false},
	{"websocket-garbage", websocketGarbage, false},
	{"identifiers-mixed", identifiersMixed, false},
	{"unasked-acknowledgements", unaskedAcknowledgements, false},
	{"subscription-churn", subscriptionChurn, false},
	{"log-flood", logFlood, false},
	{"system-topics", systemTopics, false},
	{"login-flood", loginFlood, false},
	{"session-flood", sessionFlood, false},
	{"backlog-flood", backlogFlood, false},
	{"upstream-flood", upstreamFlood, false},
	{"takeover-storm", takeoverStorm, false},
	{"forbidden-topics", forbiddenTopics, false},
	{"poison", poison, false},
	{"wrong-order", wrongOrder, false},
	{"properties", properties, false},
	{"dashboard", dashboard, false},
	{"short-lives", shortLives, false},
	{"expired", expired, false},
	{"revoked-rights", revokedRights, true},
}

// slowReaders subscribe and do not read.
func slowReaders(a *attack) {
	qos := byte(a.IntN(3))
	for i := range 4 + a.IntN(8) {
		l := a.as("mallory")
		l.id, l.buffer, l.ws, l.receive = fmt.Sprintf("slow%d", i), 4096, false, 0
		if c := a.connect(l); c != nil {
			c.send(&wire.Subscribe{ID: 1, Subscriptions: []wire.Subscription{{Filter: "play/big", QoS: qos}}})
		}
	}
	p := a.connect(login{user: "mallory", id: "slow-pub", version: wire.V5, clean: true})
	if p == nil {
		return
	}
	size := pick(a, 1000, 100_000, 1_000_000)
	a.flood(p, 20, 60_000_000/size, func(int) *wire.Publish {
		return &wire.Publish{Topic: "play/big", QoS: byte(a.IntN(2)), Payload: make([]byte, size)}
	})
}

// deepFilters subscribes to filters of many levels that share nothing.
func deepFilters(a *attack) {
	for !a.over() {
		l := a.as(pick(a, "mallory", "eve", ""))
		l.id, l.clean, l.expiry = fmt.Sprintf("deep%d", a.IntN(25)), false, 3600
		c := a.connect(l)
		if c == nil {
			return
		}
		a.drain(c, honest(c))
		for j := 0; j < 1000 && !a.over(); j += 50 {
			p := &wire.Subscribe{ID: uint16(j + 1)}
			for i := range 50 {
				p.Subscriptions = append(p.Subscriptions, wire.Subscription{QoS: 1,
					Filter: fmt.Sprintf("%s%s_%d", topicOf(l.user), l.id, j+i) + strings.Repeat("/a", pick(a, 3, 60, 61, 90))})
			}
			if c.send(p) != nil {
				break
			}
		}
	}
}

// craftedFilters subscribes to every mixture of "+" and "a", so that one publish has to look everywhere.
func craftedFilters(a *attack) {
	levels := 8 + a.IntN(9)
	front := "play/"
	n := 1 << levels
	for k, from := 0, a.IntN(n); k < 8 && !a.over(); k++ {
		c := a.connect(login{user: "mallory", id: fmt.Sprintf("craft%d", a.IntN(60)), version: wire.V311, clean: a.IntN(2) == 0})
		if c == nil {
			return
		}
		a.drain(c, honest(c))
		for j := 0; j < 1000 && !a.over(); j += 200 {
			p := &wire.Subscribe{ID: uint16(j + 1)}
			for range 200 {
				f := front
				for b := range levels {
					f += [...]string{"+/", "a/"}[from>>b&1]
				}
				p.Subscriptions = append(p.Subscriptions, wire.Subscription{Filter: f + "zzz", QoS: byte(a.IntN(3))})
				from = (from + 1) % n
			}
			if c.send(p) != nil {
				break
			}
		}
	}
	if c := a.connect(login{user: "mallory", id: "craft-pub", version: wire.V311, clean: true}); c != nil {
		a.flood(c, 20, 200, func(int) *wire.Publish {
			return &wire.Publish{Topic: front + strings.Repeat("a/", levels-1) + "a", QoS: 1}
		})
	}
}

// delayedWills leaves large wills behind, some delayed, some retained.
func delayedWills(a *attack) {
	size := pick(a, 10, 1000, 60_000)
	for i := range 400 {
		l := a.as(pick(a, "mallory", ""))
		l.version, l.clean, l.ws, l.id = wire.V5, a.IntN(2) == 0, false, fmt.Sprintf("will%d-%d", a.IntN(20), i)
		l.expiry = pick(a, uint32(0), 60, 0xffffffff)
		l.will = &wire.Will{Topic: topicOf(l.user) + "will/" + fmt.Sprint(i), Payload: make([]byte, size), QoS: byte(a.IntN(3)),
			Retain: a.IntN(3) == 0, Delay: pick(a, uint32(0), 1, 3600, 0xffffffff)}
		c := a.connect(l)
		if a.over() {
			break
		}
		if c != nil {
			c.Close()
		}
	}
}

// retainedFlood fills the store of retained messages.
func retainedFlood(a *attack) {
	user := pick(a, "mallory", "mallory", "")
	l := a.as(user)
	l.clean = true
	c := a.connect(l)
	if c == nil {
		return
	}
	size := pick(a, 1, 100, 10_000, 1_000_000)
	a.flood(c, 50, 5000, func(i int) *wire.Publish {
		return &wire.Publish{Topic: fmt.Sprintf("%sr/%d/%d", topicOf(user), size, a.IntN(20_000)), QoS: byte(a.IntN(2)), Retain: true, Payload: make([]byte, a.IntN(size+1))}
	})
}

// subscriptionChurn subscribes and unsubscribes to everything.
func subscriptionChurn(a *attack) {
	l := a.who()
	c := a.connect(l)
	if c == nil {
		return
	}
	a.drain(c, honest(c))
	filters := []string{"#", "+/+", "victim/#", "play/#", "lobby/#", "+/one", "outputs/+/+/set", "status/#", "$SYS/#", "$share/g/#", "$share/g/play/#", "/", "//", "+"}
	for id := uint16(1); !a.over(); id++ {
		s, u := &wire.Subscribe{ID: id%60000 + 1}, &wire.Unsubscribe{ID: id%60000 + 1}
		for range 1 + a.IntN(10) {
			f := filters[a.IntN(len(filters))]
			s.Subscriptions = append(s.Subscriptions, wire.Subscription{Filter: f, QoS: byte(a.IntN(3)), RetainHandling: byte(a.IntN(3)), RetainAsPublished: a.IntN(2) == 0})
			u.Filters = append(u.Filters, f)
		}
		if c.send(s, u) != nil {
			return
		}
		if id%50 == 0 {
			time.Sleep(time.Millisecond)
		}
	}
}

// logFlood tries to fill the log, and to write into it what a terminal obeys.
func logFlood(a *attack) {
	for !a.over() {
		l := a.who()
		l.clean = true
		switch a.IntN(3) {
		case 0:
			l.user, l.password = "u"+a.text(pick(a, 10, 1000, 60_000)), "x"
		case 1:
			l.id = a.text(pick(a, 10, 1000, 60_000))
		}
		c := a.connect(l)
		if c == nil {
			continue
		}
		a.drain(c, nil)
		for range 20 {
			c.send(&wire.Publish{Topic: "victim/" + a.text(pick(a, 10, 1000, 60_000)), QoS: 1, ID: 1})
		}
		c.Close()
	}
}

// sessionFlood leaves as many sessions behind as it can.
func sessionFlood(a *attack) {
	for i := 0; !a.over(); i++ {
		l := a.as(pick(a, "", "mallory", "eve"))
		l.id, l.clean, l.ws = fmt.Sprintf("session%x", a.Uint32()), false, false
		if l.version == wire.V5 {
			l.expiry = 0xffffffff
		}
		c := a.connect(l)
		if c == nil {
			time.Sleep(time.Millisecond)
			continue
		}
		if a.IntN(4) == 0 {
			c.subscribe(1, nil, topicOf(l.user)+fmt.Sprint(i))
		}
		c.Close()
	}
}

// backlogFlood fills the journal for a session that is away.
func backlogFlood(a *attack) {
	user := pick(a, "mallory", "mallory", "")
	c := a.connect(login{user: user, id: fmt.Sprintf("away%d", a.IntN(4)), version: wire.V5, expiry: 3600})
	if c == nil {
		return
	}
	c.subscribe(1, nil, topicOf(user)+"q/#")
	c.Close()
	p := a.connect(login{user: user, id: "away-pub", version: wire.V311, clean: true})
	if p == nil {
		return
	}
	size := pick(a, 1, 1000, 60_000, 900_000)
	a.flood(p, 90, 1<<30, func(i int) *wire.Publish {
		return &wire.Publish{Topic: fmt.Sprintf("%sq/%d", topicOf(user), i%100), QoS: byte(1 + a.IntN(2)), Payload: make([]byte, size)}
	})
}

// upstreamFlood fills the journal for the bridge.
func upstreamFlood(a *attack) {
	p := a.connect(login{user: "mallory", id: "up-pub", version: wire.V5, clean: true})
	if p == nil {
		return
	}
	size := pick(a, 1, 1000, 60_000)
	a.flood(p, 90, 1<<30, func(i int) *wire.Publish {
		return &wire.Publish{Topic: fmt.Sprintf("play/up/%d", i%100), QoS: 1, Payload: make([]byte, size)}
	})
}

// takeoverStorm makes two clients of one identifier end each other.
func takeoverStorm(a *attack) {
	l := a.as(pick(a, "mallory", ""))
	for range 4 {
		a.wait.Go(func() {
			for !a.over() {
				if c := a.connect(l); c != nil {
					c.send(&wire.Subscribe{ID: 1, Subscriptions: []wire.Subscription{{Filter: topicOf(l.user) + "#", QoS: 2}}})
				}
			}
		})
	}
	a.rest()
}

// poison publishes what makes the upstream end the bridge's connection.
func poison(a *attack) {
	if c := a.connect(login{user: "mallory", id: "poisoner", version: wire.V5, clean: true}); c != nil {
		a.flood(c, 1, 1+a.IntN(2), func(int) *wire.Publish { return &wire.Publish{Topic: "play/up/poison", QoS: 1, Payload: []byte("p")} })
		a.rest()
	}
}

// shortLives opens connections with keep alives of a second, and sessions that end while messages are on their way.
func shortLives(a *attack) {
	for !a.over() {
		l := a.as("mallory")
		l.keep, l.expiry, l.ws = 1, pick(a, uint32(0), 1, 2), false
		c := a.connect(l)
		if c == nil {
			return
		}
		c.send(&wire.Subscribe{ID: 1, Subscriptions: []wire.Subscription{{Filter: "play/short", QoS: 2}}})
		for i := range 20 {
			c.send(&wire.Publish{Topic: "play/short", QoS: 1, ID: uint16(i + 1), Payload: make([]byte, 100)})
		}
		if l.version == wire.V5 && a.IntN(2) == 0 {
			e := uint32(bits.Reverse32(uint32(a.IntN(4))))
			c.send(&wire.Disconnect{Code: pick(a, wire.Code(0), 4), Properties: wire.Properties{SessionExpiry: &e}})
		}
		time.Sleep(time.Duration(a.IntN(5)) * time.Millisecond)
		c.Close()
	}
}

// expired publishes what is old at once, retained and queued.
func expired(a *attack) {
	l := a.as("mallory")
	l.version = wire.V5
	c := a.connect(l)
	if c == nil {
		return
	}
	c.send(&wire.Subscribe{ID: 60_000, Subscriptions: []wire.Subscription{{Filter: "play/old/#", QoS: 1}}})
	a.flood(c, 50, 2000, func(i int) *wire.Publish {
		return &wire.Publish{Topic: fmt.Sprintf("play/old/%d", i%200), QoS: byte(1 + a.IntN(2)), Expires: true, Expiry: pick(a, uint32(0), 1, 0xffffffff), Retain: a.IntN(2) == 0}
	})
}
