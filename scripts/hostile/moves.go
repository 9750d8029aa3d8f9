package main

import (
	"fmt"
	"math/bits"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
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

// halfConnections opens connections and says nothing.
func halfConnections(a *attack) {
	for range 50 + a.IntN(200) {
		if a.over() || a.bare(login{ws: a.IntN(8) == 0, version: wire.V5}) == nil {
			break
		}
	}
	a.linger = a.IntN(2) == 0
	a.rest()
}

// halfConnects sends all of a large CONNECT but its end.
func halfConnects(a *attack) {
	body := append(field(nil, "MQTT"), 5, 2, 0, byte(a.IntN(2)))
	body = append(body, bits32(17*60_006)...)
	for range 17 {
		body = field(field(append(body, 0x26), "k"), strings.Repeat("v", 60_000))
	}
	p := frame(0x10, body)
	p = p[:min(len(p), pick(a, 4<<10, 64<<10, 1<<20))]
	for range 20 + a.IntN(100) {
		c := a.bare(login{version: wire.V5, ws: a.IntN(8) == 0})
		if a.over() || c == nil {
			break
		}
		c.SetWriteDeadline(time.Now().Add(a.left()))
		c.Write(p)
	}
	a.linger = a.IntN(2) == 0
	a.rest()
}

// bits32 is a variable byte integer.
func bits32(n int) []byte {
	var b []byte
	for {
		d := byte(n & 127)
		if n >>= 7; n == 0 {
			return append(b, d)
		}
		b = append(b, d|128)
	}
}

// halfPackets begins large publishes after a login and never ends them.
func halfPackets(a *attack) {
	p := wire.Append(nil, wire.V5, &wire.Publish{Topic: "play/x", Payload: make([]byte, 1<<20-100)})
	for range 10 + a.IntN(60) {
		l := a.as("mallory")
		l.id, l.version, l.clean, l.ws = "", wire.V5, true, false
		c := a.connect(l)
		if a.over() || c == nil {
			break
		}
		c.SetWriteDeadline(time.Now().Add(a.left()))
		c.Write(p[:len(p)-1-a.IntN(1000)])
	}
	a.linger = a.IntN(2) == 0
	a.rest()
}

// publishWithoutPubrel makes the gateway remember identifiers of QoS 2 for ever.
func publishWithoutPubrel(a *attack) {
	for !a.over() {
		l := a.as(pick(a, "", "mallory"))
		l.id, l.clean, l.ws = fmt.Sprintf("x%02d", a.IntN(30))+strings.Repeat("y", pick(a, 0, 500, 995)), false, false
		if l.version == wire.V5 {
			l.expiry = 0xffffffff
		}
		c := a.connect(l)
		if c == nil {
			time.Sleep(10 * time.Millisecond)
			continue
		}
		a.drain(c, nil)
		var b []byte
		first := 1 + a.IntN(65_000)
		for i := range 8000 {
			b = wire.AppendPublish(b, l.version, &wire.Publish{Topic: topicOf(l.user) + "t", QoS: 2, ID: uint16((first+i)%65535 + 1)})
			if len(b) > 30_000 {
				if a.over() || c.raw(b) != nil {
					break
				}
				b = b[:0]
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// pubrecWithoutPubcomp makes flights of one session pile up, a few more each time that it comes back.
func pubrecWithoutPubcomp(a *attack) {
	if !a.g.pile.TryLock() {
		return
	}
	defer a.g.pile.Unlock()
	sub := login{user: "mallory", id: "pile", version: wire.V5, expiry: 0xfffffffe}
	c := a.connect(sub)
	if c == nil {
		return
	}
	topic := "play/pile/" + sub.id
	if codes, err := c.subscribe(2, nil, topic); err != nil || codes[0] >= 0x80 {
		return
	}
	c.Close()
	p := a.connect(login{user: "mallory", version: wire.V311, clean: true})
	if p == nil {
		return
	}
	half := a.until
	a.until = time.Now().Add(a.left() / 3)
	a.flood(p, 90, 20_000, func(int) *wire.Publish { return &wire.Publish{Topic: topic, QoS: 2} })
	a.until = half
	for !a.over() {
		c := a.connect(sub)
		if c == nil {
			return
		}
		for n, open := 0, 0; n < 100 || open > 0; {
			got, err := c.next(200 * time.Millisecond)
			if err != nil {
				break
			}
			a.note(got)
			switch got := got.(type) {
			case *wire.Publish:
				if n++; got.QoS == 2 {
					open++
					c.send(&wire.Ack{Type: wire.PUBREC, ID: got.ID})
				} else {
					c.answer(got)
				}
			case *wire.Ack:
				if got.Type == wire.PUBREL {
					open--
				}
			}
		}
		c.Close()
	}
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

// forbiddenWills are for topics that the client may not write, or that are none.
func forbiddenWills(a *attack) {
	for !a.over() {
		l := a.who()
		l.will = &wire.Will{Topic: pick(a, "victim/one", "jobs/dig", "outputs/site/pump/set", "status/site", "$SYS/broker/uptime",
			"$SYS/broker/connection/evil/state", "play/#", "", "+", "sensors/site/machine/load"), Payload: []byte(`{"value":1}`), QoS: byte(a.IntN(3)), Retain: a.IntN(2) == 0}
		if c := a.connect(l); c != nil {
			c.Close()
		}
	}
}

// stolenIdentifiers are those of other users' sessions.
func stolenIdentifiers(a *attack) {
	for !a.over() {
		l := a.who()
		l.id = pick(a, "reader5", "reader4", "worker", "writer5", "writer4", "operator", "foreman", "keeper", "site", "cloud")
		l.version = pick(a, wire.V5, wire.V311)
		if c := a.connect(l); c != nil {
			a.drain(c, honest(c))
			c.send(&wire.Unsubscribe{ID: 1, Filters: []string{"victim/one", "victim/two", "$share/w/jobs/#"}})
			c.send(&wire.Subscribe{ID: 2, Subscriptions: []wire.Subscription{{Filter: "#", QoS: 2}}})
			time.Sleep(5 * time.Millisecond)
			c.Close()
		}
	}
}

// stolenJobs joins the group of a shared subscription without the right to read.
func stolenJobs(a *attack) {
	for range 5 {
		l := a.as(pick(a, "eve", "eve", "mallory", ""))
		l.id, l.ws = fmt.Sprintf("thief%d", a.IntN(4)), false
		if c := a.connect(l); c != nil {
			acks := a.IntN(2) == 0
			a.drain(c, func(p wire.Packet) {
				if acks {
					c.answer(p)
				}
			})
			c.send(&wire.Subscribe{ID: 1, Subscriptions: []wire.Subscription{{Filter: pick(a, "$share/w/jobs/#", "$share/w/#", "$share/w/jobs/dig"), QoS: byte(a.IntN(3))}}})
		}
	}
	a.linger = a.IntN(3) == 0
	a.rest()
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

// aliases breaks the rules of topic aliases.
func aliases(a *attack) {
	for !a.over() {
		l := a.as("mallory")
		l.version, l.ws = wire.V5, false
		c := a.connect(l)
		if c == nil {
			return
		}
		a.drain(c, honest(c))
		for range 20 {
			p := &wire.Publish{TopicAlias: pick(a, uint16(1), 2, 10, 32, 33, 65535), QoS: byte(a.IntN(3)), ID: uint16(1 + a.IntN(50))}
			if a.IntN(3) == 0 {
				p.Topic = pick(a, "play/alias", "victim/one", "")
			}
			if c.send(p) != nil {
				break
			}
		}
		c.raw(frame(0x30, append(field(nil, "play/x"), 3, 0x23, 0, 0)))
		time.Sleep(5 * time.Millisecond)
		c.Close()
	}
}

// oversize announces more than may come.
func oversize(a *attack) {
	for !a.over() {
		l := a.who()
		c := a.bare(l)
		if c == nil {
			return
		}
		a.drain(c, nil)
		if a.IntN(2) == 0 {
			c.send(l.packet())
		}
		c.raw(pick(a, []byte{0x30, 0xff, 0xff, 0xff, 0x7f}, []byte{0x10, 0xff, 0xff, 0xff, 0xff, 0x7f}, []byte{0x32, 0x80, 0x80, 0x41}, []byte{0x82, 0xff, 0xff, 0x3f}))
		for range 10 {
			if a.over() || c.raw(make([]byte, 20_000)) != nil {
				break
			}
		}
		c.Close()
	}
}

// bytes returns n random bytes.
func (a *attack) bytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(a.Uint32())
	}
	return b
}

// randomBytes sends what is no MQTT, before and after CONNECT.
func randomBytes(a *attack) {
	for !a.over() {
		l := a.who()
		c := a.bare(l)
		if c == nil {
			return
		}
		a.drain(c, nil)
		if a.IntN(2) == 0 {
			c.send(l.packet())
		}
		for range 1 + a.IntN(5) {
			b := a.bytes(1 + a.IntN(200))
			if a.IntN(2) == 0 { // at least a type and a length
				b = frame(b[0], b[1:])
			}
			c.raw(b)
		}
		time.Sleep(2 * time.Millisecond)
		c.Close()
	}
}

// packet returns any packet that a client may send to its own topics.
func (a *attack) packet(l login) wire.Packet {
	front := topicOf(l.user)
	id := uint16(1 + a.IntN(100))
	switch a.IntN(10) {
	case 0:
		return &wire.Subscribe{ID: id, Subscriptions: []wire.Subscription{{Filter: front + pick(a, "#", "+/+", "a/b"), QoS: byte(a.IntN(3)), RetainHandling: byte(a.IntN(3))}}}
	case 1:
		return &wire.Unsubscribe{ID: id, Filters: []string{front + pick(a, "#", "+/+", "a/b")}}
	case 2:
		return &wire.Ack{Type: pick(a, wire.PUBACK, wire.PUBREC, wire.PUBREL, wire.PUBCOMP), ID: id}
	case 3:
		return &wire.Ping{Type: wire.PINGREQ}
	case 4:
		if a.IntN(4) == 0 {
			return l.packet()
		}
		return &wire.Disconnect{}
	}
	q := byte(a.IntN(3))
	p := &wire.Publish{Topic: front + pick(a, "a", "a/b", "c"), QoS: q, Retain: a.IntN(4) == 0, Dup: q > 0 && a.IntN(4) == 0, Payload: make([]byte, a.IntN(300)),
		Expires: a.IntN(3) == 0, Expiry: uint32(a.IntN(3))}
	if q > 0 {
		p.ID = id
	}
	return p
}

// mutatedPackets flips bits of good packets, cuts them and puts them together wrongly.
func mutatedPackets(a *attack) {
	for !a.over() {
		l := a.who()
		c := a.bare(l)
		if c == nil {
			return
		}
		a.drain(c, nil)
		b := wire.Append(nil, l.version, l.packet())
		if a.IntN(4) > 0 {
			c.raw(b)
			b = nil
		}
		for range 1 + a.IntN(20) {
			b = wire.Append(b, l.version, a.packet(l))
		}
		for range a.IntN(4) {
			b[a.IntN(len(b))] ^= 1 << a.IntN(8)
		}
		c.raw(b[:len(b)-a.IntN(min(len(b), 3))])
		time.Sleep(2 * time.Millisecond)
		c.Close()
	}
}

// websocketGarbage breaks the handshake and the frames.
func websocketGarbage(a *attack) {
	for !a.over() {
		if a.IntN(2) == 0 { // a handshake that should fail
			c := a.bare(login{version: wire.V5})
			if c == nil {
				return
			}
			c.Close()
			raw, err := dial(a.g.ws, login{}, patience)
			if err != nil {
				return
			}
			raw.raw([]byte(fmt.Sprintf("GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: %s\r\nSec-WebSocket-Version: %d\r\nSec-WebSocket-Protocol: %s\r\nOrigin: http://evil.example\r\nX: %s\r\n\r\n",
				pick(a, "/mqtt", "/", "/../etc/passwd", "/"+strings.Repeat("a", 5000)), pick(a, a.g.ws, "evil.example", ""),
				pick(a, "dGhlIHNhbXBsZSBub25jZQ==", "x"), pick(a, 13, 8, -1), pick(a, "mqtt", "mqttv3.1", "soap"), strings.Repeat("y", pick(a, 1, 10_000, 2_000_000)))))
			peekHTTP(raw, 50*time.Millisecond)
			raw.Close()
			continue
		}
		conn, err := dial(a.g.ws, login{}, patience)
		if err != nil {
			return
		}
		conn.raw([]byte("GET /mqtt HTTP/1.1\r\nHost: " + a.g.ws + "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"))
		peekHTTP(conn, 200*time.Millisecond)
		for range 1 + a.IntN(10) {
			body := a.bytes(a.IntN(200))
			first := pick(a, byte(0x82), 0x02, 0x80, 0x81, 0x89, 0x8a, 0x88, 0xf2, 0x8f)
			length := pick(a, byte(len(body)&127)|0x80, byte(len(body)&127), 0xfe, 0xff)
			conn.raw(append([]byte{first, length}, body...))
		}
		conn.Close()
	}
}

// identifiersMixed uses packet identifiers for several things at a time.
func identifiersMixed(a *attack) {
	for !a.over() {
		l := a.who()
		l.ws = false
		c := a.connect(l)
		if c == nil {
			return
		}
		a.drain(c, nil)
		for range 200 {
			id := uint16(1 + a.IntN(4))
			var p wire.Packet
			switch a.IntN(5) {
			case 0, 1:
				p = &wire.Publish{Topic: topicOf(l.user) + "mix", ID: id, QoS: byte(1 + a.IntN(2)), Dup: a.IntN(2) == 0, Payload: []byte("m")}
			case 2:
				p = &wire.Ack{Type: wire.PUBREL, ID: id}
			case 3:
				p = &wire.Subscribe{ID: id, Subscriptions: []wire.Subscription{{Filter: topicOf(l.user) + "mix", QoS: byte(a.IntN(3))}}}
			case 4:
				p = &wire.Unsubscribe{ID: id, Filters: []string{topicOf(l.user) + "mix"}}
			}
			if c.send(p) != nil {
				break
			}
		}
		time.Sleep(5 * time.Millisecond)
		c.Close()
	}
}

// unaskedAcknowledgements acknowledge what was never sent.
func unaskedAcknowledgements(a *attack) {
	for !a.over() {
		l := a.who()
		c := a.connect(l)
		if c == nil {
			return
		}
		a.drain(c, nil)
		var b []byte
		t := pick(a, wire.PUBACK, wire.PUBREC, wire.PUBREL, wire.PUBCOMP)
		for i := range 20_000 {
			b = wire.AppendAck(b, l.version, t, uint16(i+1), pick(a, wire.Code(0), 0, 0x80, 0x92))
			if len(b) > 50_000 {
				if a.over() || c.raw(b) != nil {
					break
				}
				b = b[:0]
			}
		}
		c.Close()
	}
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

// systemTopics writes and reads what is the gateway's.
func systemTopics(a *attack) {
	l := a.who()
	c := a.connect(l)
	if c == nil {
		return
	}
	a.drain(c, honest(c))
	for id := uint16(1); !a.over() && id < 2000; id++ {
		switch a.IntN(3) {
		case 0:
			c.send(&wire.Publish{Topic: pick(a, "$SYS/broker/uptime", "$SYS", "$share/a/b", "$SYS/broker/connection/evil/state", "$x"), QoS: byte(1 + a.IntN(2)), ID: id, Retain: a.IntN(2) == 0, Payload: []byte("1")})
		case 1:
			c.send(&wire.Subscribe{ID: id, Subscriptions: []wire.Subscription{{Filter: pick(a, "$SYS/#", "$share//x", "$share/g", "$share/+/x", "$queue/x", "$SYS/+"), QoS: 1}}})
		case 2:
			c.send(&wire.Unsubscribe{ID: id, Filters: []string{pick(a, "$SYS/#", "$share//x", "")}})
		}
		time.Sleep(200 * time.Microsecond)
	}
}

// loginFlood tries passwords, of honest users too, from the address that they come from.
func loginFlood(a *attack) {
	for range 6 {
		seed := a.Uint64()
		a.wait.Go(func() {
			for i := 0; !a.over() && i < 200; i++ {
				u := []string{"boss", "writer", "reader", "operator", "worker", "nobody"}[int(seed>>8+uint64(i))%6]
				if c := a.connect(login{user: u, password: fmt.Sprintf("wrong%d", i), id: fmt.Sprintf("guess%d", i), version: wire.V5, clean: true}); c != nil {
					c.Close()
				}
			}
		})
	}
	a.rest()
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

// forbiddenTopics publishes and subscribes to what is others'.
func forbiddenTopics(a *attack) {
	l := a.who()
	l.ws = false
	c := a.connect(l)
	if c == nil {
		return
	}
	a.drain(c, honest(c))
	for id := uint16(1); !a.over() && id < 3000; id++ {
		topic := pick(a, "victim/one", "victim/two", "jobs/dig", "outputs/site/pump/set", "outputs/site/pump", "status/site", "sensors/site/machine/load", "down/n", "holdfast/site/losses")
		q := byte(a.IntN(3))
		p := &wire.Publish{Topic: topic, QoS: q, Payload: []byte(pick(a, "1", `{"value":1}`, "offline", "")), Retain: a.IntN(2) == 0}
		if q > 0 {
			p.ID = id
		}
		if c.send(p, &wire.Subscribe{ID: id, Subscriptions: []wire.Subscription{{Filter: topic, QoS: 1}}}) != nil {
			return
		}
		time.Sleep(300 * time.Microsecond)
	}
}

// poison publishes what makes the upstream end the bridge's connection.
func poison(a *attack) {
	if c := a.connect(login{user: "mallory", id: "poisoner", version: wire.V5, clean: true}); c != nil {
		a.flood(c, 1, 1+a.IntN(2), func(int) *wire.Publish { return &wire.Publish{Topic: "play/up/poison", QoS: 1, Payload: []byte("p")} })
		a.rest()
	}
}

// wrongOrder sends packets where they may not come.
func wrongOrder(a *attack) {
	for !a.over() {
		l := a.who()
		c := a.bare(l)
		if c == nil {
			return
		}
		a.drain(c, nil)
		first := l.packet()
		switch a.IntN(5) {
		case 0:
			c.send(a.packet(l), first)
		case 1:
			c.send(first, first)
		case 2:
			c.send(first, &wire.Auth{Code: wire.ReAuthenticate})
		case 3:
			c.send(first, &wire.Disconnect{}, a.packet(l), a.packet(l))
		case 4:
			c.send(first, &wire.Connack{}, &wire.Ping{Type: wire.PINGRESP}, &wire.Suback{Type: wire.SUBACK, ID: 1})
		}
		time.Sleep(2 * time.Millisecond)
		c.Close()
	}
}

// properties sends large and wrong properties.
func properties(a *attack) {
	for !a.over() {
		l := a.as("mallory")
		l.version, l.clean = wire.V5, true
		c := a.connect(l)
		if c == nil {
			return
		}
		a.drain(c, honest(c))
		var many []byte
		for range 1 << a.IntN(14) {
			many = field(field(append(many, 0x26), "k"), "v")
		}
		c.send(&wire.Publish{Topic: "play/p", QoS: 1, ID: 1, Forward: many, Retain: a.IntN(2) == 0})
		first := pick(a, byte(0x30), 0x82, 0xa2, 0xe0)
		body := append([]byte{}, pick(a, []byte{0x18, 0, 0, 0, 1}, []byte{0x7f, 1}, []byte{0x23, 0, 1, 0x23, 0, 2}, []byte{0x0b, 0}, []byte{0x26, 0xff, 0xff})...)
		body = append(bits32(len(body)), body...)
		switch first {
		case 0x30:
			body = append(field(nil, "play/p"), body...)
		case 0xe0:
			body = append([]byte{0}, body...)
		default:
			body = append(field(append([]byte{0, 1}, body...), "play/#"), 0)
		}
		c.raw(frame(first, body))
		time.Sleep(5 * time.Millisecond)
		c.Close()
	}
}

// dashboard opens streams and pages and reads slowly, or not at all.
func dashboard(a *attack) {
	for range 40 {
		c, err := dial(a.g.web, login{}, patience)
		if err != nil || a.over() {
			break
		}
		a.keep(c)
		c.raw([]byte(pick(a, "GET /metrics HTTP/1.1\r\nHost: "+a.g.web+"\r\n\r\n", "GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n", "GET /events HTTP/1.1\r\nHost: "+a.g.web+"\r\n\r\n",
			"POST /api/login HTTP/1.1\r\nHost: "+a.g.web+"\r\nContent-Length: 1000000000\r\n\r\nuser=", "GET /", "GET /"+strings.Repeat("a", 20_000)+" HTTP/1.1\r\n\r\n")))
	}
	r, err := http.NewRequest("PUT", "http://"+a.g.web+"/api/outputs/pump", strings.NewReader(`{"value":1}`))
	if err == nil {
		if x, err := (&http.Client{Timeout: a.left()}).Do(r); err == nil {
			x.Body.Close()
		}
	}
	a.linger = a.IntN(3) == 0
	a.rest()
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

// revokedRights takes away a user's rule, or the user, while its will and its queue are pending: neither may have an
// effect afterwards.
func revokedRights(a *attack) {
	if !a.g.rights.TryLock() {
		return
	}
	defer a.g.rights.Unlock()
	if _, err := os.Stat(filepath.Join(a.g.dir, "rights")); err != nil {
		return // a gateway of a chain, without such a user
	}
	watch := a.connect(login{user: "reader", id: "watch", version: wire.V5, clean: true})
	if watch == nil {
		return
	}
	var wills, seen atomic.Int32
	watch.subscribe(1, nil, "guest/#")
	a.drain(watch, func(p wire.Packet) {
		if m, _ := watch.answer(p); m != nil && m.Topic == "guest/will" {
			wills.Add(1)
		}
	})
	id := fmt.Sprintf("guest%x", a.Uint32())
	durable := login{user: "guest", id: id, version: wire.V5, expiry: 60}
	if c := a.connect(durable); c != nil {
		c.subscribe(1, nil, "guest/q")
		c.Close()
	}
	willed := a.connect(login{user: "guest", id: id + "w", version: wire.V5, clean: true, expiry: 60,
		will: &wire.Will{Topic: "guest/will", Payload: []byte("will"), QoS: 1, Delay: uint32(a.IntN(2))}})
	if willed == nil {
		a.judge.problem("%s: the user could not connect before its rights were taken away", a.name)
		return
	}
	for i := range 10 {
		willed.send(&wire.Publish{Topic: "guest/q", QoS: 1, ID: uint16(i + 1)})
	}
	for range 10 {
		if _, err := willed.next(patience); err != nil {
			break
		}
	}
	deleted := a.IntN(2) == 0
	password := guestPassword
	if deleted {
		password = ""
	}
	if err := a.g.grant(password, ""); err != nil {
		a.judge.problem("%s: %v", a.name, err)
		return
	}
	willed.Close()
	if c := a.connect(durable); c != nil {
		if deleted {
			a.judge.problem("%s: a user who has been deleted was let in", a.name)
		}
		a.drain(c, func(p wire.Packet) {
			if m, _ := c.answer(p); m != nil {
				seen.Add(1)
			}
		})
	}
	time.Sleep(max(a.left(), 300*time.Millisecond))
	if n := seen.Load(); n > 0 {
		a.judge.problem("%s: %d queued messages were delivered to a user who may not read them any more", a.name, n)
	}
	if wills.Load() > 0 {
		a.judge.problem("%s: the will of a user who may not publish it any more was published (user deleted: %v)", a.name, deleted)
	}
	if err := a.g.grant(guestPassword, guestRights); err != nil {
		a.judge.problem("%s: %v", a.name, err)
	}
}
