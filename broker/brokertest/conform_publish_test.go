package brokertest_test

import (
	"fmt"
	"strings"
	"time"

	"holdfast/broker/brokertest"
	"holdfast/broker/wire"
)

var publishChecks = map[string]func(*bench){
	"bom": func(b *bench) {
		sub := b.open("sub")
		topic := "\ufefft"
		b.filter(sub, topic, 0)
		pub := b.open("pub")
		b.publish(pub, wire.Publish{Topic: "t", Payload: text("other")})
		b.publish(pub, wire.Publish{Topic: topic, Payload: text("x")})
		b.take(sub, topic, "x")
	},
	"identifiers": func(b *bench) {
		// Both directions use the same identifiers at the same time, and neither disturbs the other.
		c, _ := b.resume("c")
		b.filter(c, "t", 2)
		other := b.open("other")
		b.publish(other, wire.Publish{Topic: "t", Payload: text("1"), QoS: 1})
		b.publish(other, wire.Publish{Topic: "t", Payload: text("2"), QoS: 2})
		one, two := b.message(c, "t", "1"), b.message(c, "t", "2")
		if one.ID == 0 || two.ID == 0 || one.ID == two.ID || one.QoS != 1 || two.QoS != 2 {
			b.Errorf("identifiers %d and %d at QoS %d and %d", one.ID, two.ID, one.QoS, two.QoS)
		}
		b.publish(c, wire.Publish{Topic: "u", QoS: 1, ID: two.ID})
		b.publish(c, wire.Publish{Topic: "u", QoS: 2, ID: one.ID})
		for _, id := range []uint16{1, 255, 256, 65535} {
			b.publish(c, wire.Publish{Topic: "u", QoS: 1, ID: id})
			b.publish(c, wire.Publish{Topic: "u", QoS: 2, ID: id})
		}
		b.settle(c, one)
		b.settle(c, two)
		c.Silent()
	},
	"qos0": func(b *bench) {
		sub := b.open("sub")
		b.filter(sub, "t", 0)
		pub := b.open("pub")
		pub.Send(&wire.Publish{Topic: "t", Payload: text("x")})
		pub.Silent() // no answer
		want := frame(b.v, &wire.Publish{Topic: "t", Payload: text("x")})
		got := make([]byte, len(want))
		for n := 0; n < len(got); {
			m, err := sub.Read(got[n:])
			if err != nil {
				b.Fatal(err)
			}
			n += m
		}
		if string(got) != string(want) {
			b.Errorf("got %x, want %x: no DUP, no identifier", got, want)
		}
		sub.Silent()
	},
	"dup-qos0": func(b *bench) { b.malformed(wire.MalformedPacket, "38 05 0001 61 00 78") },
	"dup-not-passed": func(b *bench) {
		sub := b.open("sub")
		b.filter(sub, "t", 2)
		pub := b.open("pub")
		for _, qos := range []byte{1, 2} {
			b.publish(pub, wire.Publish{Topic: "t", Payload: text("x"), QoS: qos, Dup: true})
			if p := b.take(sub, "t", "x"); p.Dup {
				b.Errorf("QoS %d: DUP was passed on", qos)
			}
		}
	},
	"publish-malformed": func(b *bench) {
		b.malformed(wire.MalformedPacket, "36 06 0001 61 0001 00", "37 06 0001 61 0001 00", "3e 06 0001 61 0001 00", "30 02 0005")
		if b.v == wire.V5 {
			b.malformed(wire.ProtocolError, "30 06 0001 61 02 0b01", "30 08 0001 61 04 0101 0100", "30 06 0001 61 02 0102")
			b.malformed(wire.MalformedPacket, "30 06 0001 61 02 0401")
		}
	},
	"publish-topics": func(b *bench) {
		for _, topic := range []string{"+", "#", "a/+", "a/#", "a+", "a#b"} {
			c := b.open("c")
			c.Send(&wire.Publish{Topic: topic})
			b.ends(c, wire.TopicNameInvalid)
		}
		c := b.open("c")
		b.raw(c, of(b, "30 02 0000", "30 03 0000 00")) // an empty topic
		b.ends(c, wire.ProtocolError)
		c.Close()
		c = b.open("c")
		c.Send(&wire.Subscribe{ID: 1, Subscriptions: []wire.Subscription{{Filter: ""}}})
		b.ends(c, wire.MalformedPacket)
	},
	"retained": func(b *bench) {
		pub, old := b.open("pub"), b.open("old")
		b.filter(old, "r/#", 2)
		for qos := range byte(3) {
			topic := fmt.Sprint("r/", qos)
			for _, payload := range []string{"first", "second"} { // the second replaces it
				b.publish(pub, wire.Publish{Topic: topic, Payload: text(payload), QoS: qos, Retain: true})
				if p := b.take(old, topic, payload); p.Retain {
					b.Error("RETAIN to a subscription that was there")
				}
			}
			b.publish(pub, wire.Publish{Topic: topic, Payload: text("passing"), QoS: qos})
			b.take(old, topic, "passing")
			// QoS 0 replaces what was retained at QoS 2.
			b.publish(pub, wire.Publish{Topic: "r/any", Payload: text(fmt.Sprint(qos)), QoS: 2 - qos, Retain: true})
			b.take(old, "r/any", fmt.Sprint(qos))
		}
		b.start() // also from disk
		late := b.open("late")
		b.filter(late, "r/+", 2)
		for qos, topic := range []string{"r/0", "r/1", "r/2", "r/any"} {
			want := of2(qos < 3, "second", "2")
			if p := b.nextMessage(late); p.Topic != topic || string(p.Payload) != want || !p.Retain || p.QoS != byte(qos%3) {
				b.Errorf("got %+v, want %q to %s", p, want, topic)
			}
		}
		b.quiet(late)
	},
	"retained-removed": func(b *bench) {
		pub, old := b.open("pub"), b.open("old")
		b.filter(old, "r", 1)
		b.publish(pub, wire.Publish{Topic: "r", Payload: text("x"), QoS: 1, Retain: true})
		b.take(old, "r", "x")
		b.publish(pub, wire.Publish{Topic: "r", QoS: 1, Retain: true})
		b.take(old, "r", "")
		late := b.open("late")
		b.filter(late, "r", 1)
		late.Silent()
		b.start()
		late = b.open("late")
		b.filter(late, "r", 1)
		late.Silent()
	},
	"retained-outlives": func(b *bench) {
		pub := b.open("pub")
		b.publish(pub, wire.Publish{Topic: "r", Payload: text("x"), QoS: 1, Retain: true})
		pub.Send(&wire.Disconnect{})
		pub.Closed()
		late := b.open("late")
		b.filter(late, "r", 1)
		b.take(late, "r", "x")
	},
	"retain-handling": func(b *bench) {
		b.publish(b.open("pub"), wire.Publish{Topic: "r", Payload: text("x"), QoS: 1, Retain: true})
		c := b.open("c")
		b.subscribe(c, wire.Subscription{Filter: "r", QoS: 1, RetainHandling: 2})
		c.Silent()
		b.subscribe(c, wire.Subscription{Filter: "r", QoS: 1, RetainHandling: 1})
		c.Silent() // it was there
		b.subscribe(c, wire.Subscription{Filter: "+", QoS: 1, RetainHandling: 1})
		b.take(c, "r", "x")
		b.subscribe(c, wire.Subscription{Filter: "+", QoS: 1, RetainHandling: 0})
		b.take(c, "r", "x")
		c.Silent()
	},
	"retain-as-published": func(b *bench) {
		c, pub := b.open("c"), b.open("pub")
		b.subscribe(c, wire.Subscription{Filter: "r", QoS: 1, RetainAsPublished: true})
		for _, retain := range []bool{true, false} {
			for qos := range byte(2) {
				b.publish(pub, wire.Publish{Topic: "r", Payload: text("x"), QoS: qos, Retain: retain})
				if p := b.take(c, "r", "x"); p.Retain != retain {
					b.Errorf("QoS %d: RETAIN %v, published %v", qos, p.Retain, retain)
				}
			}
		}
	},
	"properties": func(b *bench) {
		f := wire.Forwarded{
			UTF8: true, ContentType: "text/plain", ResponseTopic: "answer/here", CorrelationData: []byte{0, 1, 255},
			User: []wire.UserProperty{{Name: "b", Value: "1"}, {Name: "a", Value: "2"}, {Name: "b", Value: "1"}, {Name: "", Value: ""}},
		}
		want := f.Append(nil)
		live := b.open("live")
		b.filter(live, "t", 2)
		away, _ := b.resume("away")
		b.filter(away, "t", 2)
		away.Close()
		pub := b.open("pub")
		for qos := range byte(3) {
			b.publish(pub, wire.Publish{Topic: "t", Payload: text("x"), QoS: qos, Forward: want, Retain: qos == 2})
			if p := b.take(live, "t", "x"); string(p.Forward) != string(want) {
				b.Errorf("QoS %d: got %x, want %x", qos, p.Forward, want)
			}
		}
		away, _ = b.resume("away")
		for range 2 {
			if p := b.take(away, "t", "x"); string(p.Forward) != string(want) {
				b.Errorf("from disk: got %x, want %x", p.Forward, want)
			}
		}
		b.filter(live, "t", 2)
		if p := b.take(live, "t", "x"); string(p.Forward) != string(want) {
			b.Errorf("retained: got %x, want %x", p.Forward, want)
		}
	},
	"message-expiry": func(b *bench) {
		b.timed(func(dial func() *brokertest.Client) {
			away := dial()
			away.Connect(b.lasting("away"))
			b.filter(away, "t", 1)
			away.Send(&wire.Disconnect{})
			away.Closed()
			pub := dial()
			pub.Connect(wire.Connect{ClientID: "pub", CleanStart: true})
			for payload, seconds := range map[string]uint32{"long": 100, "short": 10} {
				b.publish(pub, wire.Publish{Topic: "t/" + payload, QoS: 1, Payload: text(payload), Retain: true, Expires: true, Expiry: seconds})
			}
			time.Sleep(30 * time.Second)
			b.filter(pub, "t/#", 1)
			if p := b.take(pub, "t/long", "long"); !p.Expires || p.Expiry != 70 {
				b.Errorf("got %+v, want 70 s left", p)
			}
			pub.Silent()
		})
	},
	"aliases-in": func(b *bench) {
		sub := b.open("sub")
		b.filter(sub, "#", 0)
		p := wire.Connect{CleanStart: true}
		c, ack := b.with(p)
		most := *ack.Properties.TopicAliasMaximum
		if most == 0 {
			b.Fatal("no aliases")
		}
		for a := uint16(1); a <= most; a++ { // all that it allowed
			c.Send(&wire.Publish{Topic: fmt.Sprint("t/", a), TopicAlias: a})
			b.message(sub, fmt.Sprint("t/", a), "")
		}
		c.Send(&wire.Publish{TopicAlias: most}, &wire.Publish{TopicAlias: 1}, &wire.Publish{Topic: "new", TopicAlias: 1}, &wire.Publish{TopicAlias: 1})
		for _, topic := range []string{fmt.Sprint("t/", most), "t/1", "new", "new"} {
			b.message(sub, topic, "")
		}
		c, _ = b.with(p) // a new connection knows none
		c.Send(&wire.Publish{TopicAlias: 1})
		b.ends(c, wire.ProtocolError)
		c, _ = b.with(p)
		c.Send(&wire.Publish{Topic: "t", TopicAlias: most + 1})
		b.ends(c, wire.TopicAliasInvalid)
		b.malformed(wire.TopicAliasInvalid, "30 07 0001 61 03 23 0000")
		sub.Silent()
	},
	"aliases-out": func(b *bench) {
		pub := b.open("pub")
		for _, most := range []uint16{0, 2} {
			p := wire.Connect{ClientID: "sub", CleanStart: true}
			if most > 0 {
				p.Properties.TopicAliasMaximum = &most
			}
			for range 2 { // a new connection begins anew
				sub, _ := b.with(p)
				b.filter(sub, "#", 1)
				names := map[uint16]string{}
				for i := range 12 {
					topic := fmt.Sprint("a/long/topic/", i%3)
					b.publish(pub, wire.Publish{Topic: topic, Payload: text("x"), QoS: byte(i % 2)})
					got := brokertest.Receive[*wire.Publish](sub)
					b.settle(sub, got)
					if got.TopicAlias > most {
						b.Fatalf("alias %d, the client takes %d", got.TopicAlias, most)
					}
					if got.Topic == "" {
						got.Topic = names[got.TopicAlias]
					} else if got.TopicAlias > 0 {
						names[got.TopicAlias] = got.Topic
					}
					if got.Topic != topic {
						b.Errorf("got %q by alias %d, want %q", got.Topic, got.TopicAlias, topic)
					}
				}
				if len(names) != int(most) {
					b.Errorf("%d aliases used of %d", len(names), most)
				}
			}
		}
	},
	"response-topic": func(b *bench) {
		b.malformed(wire.ProtocolError, "30 09 0001 61 05 08 0002 612b", "30 09 0001 61 05 08 0002 6123")
		b.malformed(wire.MalformedPacket, "30 08 0001 61 04 08 0001 ff")
	},
	"denied": func(b *bench) {
		watch := b.open("watch")
		b.filter(watch, "$SYS/#", 2)
		c := b.open("c")
		c.Send(&wire.Publish{Topic: "$SYS/x", Payload: text("x"), QoS: 1, ID: 5})
		b.ack(c, wire.PUBACK, 5, wire.NotAuthorized)
		c.Send(&wire.Publish{Topic: "$SYS/x", Payload: text("x"), QoS: 2, ID: 6})
		b.ack(c, wire.PUBREC, 6, wire.NotAuthorized)
		if b.v != wire.V5 {
			c.Send(&wire.Ack{Type: wire.PUBREL, ID: 6})
			b.ack(c, wire.PUBCOMP, 6, 0)
		}
		c.Send(&wire.Publish{Topic: "$SYS/x", Payload: text("x")})
		c.Silent()
		watch.Silent()
	},
	"maximum-packet": func(b *bench) {
		pub := b.open("pub")
		p := b.lasting("sub")
		p.Properties.MaximumPacketSize = ptr(uint32(60))
		sub, _ := b.with(p)
		b.filter(sub, "t", 2)
		for qos := range byte(3) {
			b.publish(pub, wire.Publish{Topic: "t", Payload: text(strings.Repeat("x", 100)), QoS: qos})
			b.publish(pub, wire.Publish{Topic: "t", Payload: text("small"), QoS: qos})
			b.take(sub, "t", "small")
		}
		sub.Silent()
		sub.Close()
		sub, _ = b.resume("sub") // with room for all, but they count as sent
		sub.Silent()
	},
	"ack-order": func(b *bench) {
		keep, _ := b.resume("keep") // so that some of them have to go to disk
		b.filter(keep, "disk", 1)
		keep.Close()
		c := b.open("c")
		const n = 90
		var packets []wire.Packet
		for i := uint16(1); i <= n; i++ {
			packets = append(packets, &wire.Publish{Topic: of2(i%3 == 0, "disk", "memory"), QoS: 1 + byte(i%2), ID: i})
		}
		c.Send(packets...)
		for i := uint16(1); i <= n; i++ {
			b.ack(c, of2(i%2 == 0, wire.PUBACK, wire.PUBREC), i, 0)
		}
	},
	"order": func(b *bench) {
		lasting, _ := b.resume("lasting")
		b.filter(lasting, "t/#", 2)
		passing := b.open("passing")
		b.filter(passing, "t/#", 2)
		pub := b.open("pub")
		const n = 300
		acks := 0
		for i := range n {
			qos := byte(i / 2 % 2)
			acks += int(qos)
			pub.Send(&wire.Publish{Topic: fmt.Sprint("t/", i%2), Payload: text(fmt.Sprint(i)), QoS: qos, ID: uint16(i%50 + 1)})
			if i%50 == 49 {
				for ; acks > 0; acks-- {
					brokertest.Receive[*wire.Ack](pub)
				}
			}
		}
		for _, c := range []*brokertest.Client{lasting, passing} {
			last := map[string]int{}
			for range n {
				p := brokertest.Receive[*wire.Publish](c)
				b.settle(c, p)
				var i int
				fmt.Sscan(string(p.Payload), &i)
				key := fmt.Sprint(p.Topic, p.QoS)
				if was, ok := last[key]; ok && i <= was {
					b.Errorf("%d after %d to %s at QoS %d", i, was, p.Topic, p.QoS)
				}
				last[key] = i
			}
		}
	},
	"qos1-again": func(b *bench) {
		sub := b.open("sub")
		b.filter(sub, "t", 1)
		pub := b.open("pub")
		for _, dup := range []bool{false, true} { // after PUBACK the same identifier is another message
			b.publish(pub, wire.Publish{Topic: "t", Payload: text("x"), QoS: 1, ID: 9, Dup: dup})
			b.take(sub, "t", "x")
		}
	},
	"qos2-in": func(b *bench) {
		sub := b.open("sub")
		b.filter(sub, "t", 1)
		pub, _ := b.resume("pub")
		once := wire.Publish{Topic: "t", Payload: text("once"), QoS: 2, ID: 9}
		pub.Send(&once)
		b.ack(pub, wire.PUBREC, 9, 0)
		b.take(sub, "t", "once")
		once.Dup = true
		pub.Send(&once)
		b.ack(pub, wire.PUBREC, 9, 0)
		pub.Close()
		pub, _ = b.resume("pub")
		pub.Send(&once)
		b.ack(pub, wire.PUBREC, 9, 0)
		sub.Silent()
		b.start() // not after a restart either
		pub, _ = b.resume("pub")
		sub = b.open("sub")
		b.filter(sub, "t", 1)
		pub.Send(&once)
		b.ack(pub, wire.PUBREC, 9, 0)
		for range 2 { // PUBREL may be sent again as well
			pub.Send(&wire.Ack{Type: wire.PUBREL, ID: 9})
			a := brokertest.Receive[*wire.Ack](pub)
			if a.Type != wire.PUBCOMP || a.ID != 9 {
				b.Errorf("got %+v", a)
			}
		}
		sub.Silent()
		b.publish(pub, wire.Publish{Topic: "t", Payload: text("new"), QoS: 2, ID: 9})
		b.take(sub, "t", "new")
	},
	"qos2-refused": func(b *bench) {
		c := b.open("c")
		for range 2 {
			c.Send(&wire.Publish{Topic: "$SYS/x", QoS: 2, ID: 6})
			b.ack(c, wire.PUBREC, 6, wire.NotAuthorized)
		}
		b.publish(c, wire.Publish{Topic: "t", QoS: 2, ID: 6})
	},
	"unknown-identifiers": func(b *bench) {
		c := b.open("c")
		c.Send(&wire.Ack{Type: wire.PUBREL, ID: 6})
		b.ack(c, wire.PUBCOMP, 6, wire.PacketIDNotFound)
		c.Send(&wire.Ack{Type: wire.PUBREC, ID: 6})
		b.ack(c, wire.PUBREL, 6, wire.PacketIDNotFound)
		c.Send(&wire.Ack{Type: wire.PUBCOMP, ID: 6}, &wire.Ack{Type: wire.PUBACK, ID: 6})
		c.Silent()
		b.malformed(wire.ProtocolError, "40 03 0001 92", "50 03 0001 92", "62 03 0001 97", "70 03 0001 97")
	},
	"receive-maximum-in": func(b *bench) {
		b.opts.MaxInflight = 2
		c, ack := b.with(wire.Connect{CleanStart: true})
		if got := *ack.Properties.ReceiveMaximum; got != 2 {
			b.Errorf("told %d", got)
		}
		for id := range uint16(3) {
			c.Send(&wire.Publish{Topic: "t", QoS: 2, ID: id + 1})
			if id < 2 {
				b.ack(c, wire.PUBREC, id+1, 0)
			}
		}
		b.ends(c, wire.ReceiveMaximumExceeded)
	},
	"journal-refuses": func(b *bench) {
		keep, _ := b.resume("keep")
		b.filter(keep, "t", 1)
		c := b.open("c")
		if err := b.opts.Journal.Close(); err != nil {
			b.Fatal(err)
		}
		c.Send(&wire.Publish{Topic: "t", Payload: text("x"), QoS: 1, ID: 1})
		c.Closed() // and not acknowledged: the client sends it again on its next connection
	},
	"long-topic": func(b *bench) {
		b.opts.MaxPacket = 200_000
		long := strings.Repeat("x", 65535)
		sub := b.open("sub")
		b.filter(sub, long, 1)
		pub := b.open("pub")
		b.publish(pub, wire.Publish{Topic: long, Payload: text("x"), QoS: 1})
		b.take(sub, long, "x")
	},
	"not-normalised": func(b *bench) {
		sub := b.open("sub")
		for _, filter := range []string{"A", "a/", "/a", "a//b", "ü"} {
			b.filter(sub, filter, 0)
		}
		pub := b.open("pub")
		for _, topic := range []string{"a", "a/b", "u\u0308", "/A"} {
			b.publish(pub, wire.Publish{Topic: topic})
		}
		pub.Silent()
		sub.Silent()
		for _, topic := range []string{"A", "a/", "/a", "a//b", "ü"} {
			b.publish(pub, wire.Publish{Topic: topic})
			b.take(sub, topic, "")
		}
	},
}

func of2[T any](first bool, a, b T) T {
	if first {
		return a
	}
	return b
}
