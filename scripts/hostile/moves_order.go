package main

import (
	"fmt"
	"strings"
	"time"

	"holdfast/broker/wire"
)

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
