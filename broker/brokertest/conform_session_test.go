package brokertest_test

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast/broker/brokertest"
	"holdfast/broker/wire"
)

// tooDeep is a well-formed filter of more levels than the server takes.
var tooDeep = strings.Repeat("a/", 64) + "a"

var sessionChecks = map[string]func(*bench){
	"resume": func(b *bench) {
		c, present := b.resume("c")
		if present {
			b.Error("a session before the first connection")
		}
		b.filter(c, "t", 1)
		c.Send(&wire.Disconnect{})
		c.Closed()
		if _, present := b.resume("other"); present {
			b.Error("the session of another identifier")
		}
		b.start()
		if c, present = b.resume("c"); !present {
			b.Fatal("the session is gone")
		}
		b.publish(b.open("pub"), wire.Publish{Topic: "t", Payload: text("x"), QoS: 1})
		b.take(c, "t", "x")
	},
	"offline": func(b *bench) {
		const n = 2000
		names := []string{"one", "two"}
		for _, id := range names {
			c, _ := b.resume(id)
			b.filter(c, "t", 2)
			c.Close()
		}
		pub := b.open("pub")
		for i := range n {
			b.publish(pub, wire.Publish{Topic: "t", Payload: text(fmt.Sprint(i)), QoS: 1 + byte(i%2)})
			if i == n/2 {
				b.start()
				pub = b.open("pub")
			}
		}
		for _, id := range names {
			c, _ := b.resume(id)
			next := [3]int{0, 0, 1} // of QoS 1 and of QoS 2
			for range n {
				p := b.nextMessage(c)
				if want := fmt.Sprint(next[p.QoS]); string(p.Payload) != want {
					b.Fatalf("QoS %d: got %s, want %s", p.QoS, p.Payload, want)
				}
				next[p.QoS] += 2
			}
			b.quiet(c)
		}
	},
	"clean-start": func(b *bench) {
		c, _ := b.resume("c")
		b.filter(c, "t", 1)
		c.Close()
		pub := b.open("pub")
		b.publish(pub, wire.Publish{Topic: "t", Payload: text("old"), QoS: 1})
		c, ack := b.with(wire.Connect{ClientID: "c", CleanStart: true})
		if ack.SessionPresent {
			b.Error("session present after a clean start")
		}
		b.publish(pub, wire.Publish{Topic: "t", Payload: text("new"), QoS: 1})
		c.Silent()
		c.Send(&wire.Disconnect{})
		c.Closed()
		if _, present := b.resume("c"); present {
			b.Error("a clean session outlived its connection")
		}
	},
	"will": func(b *bench) {
		watch := b.open("watch")
		b.filter(watch, "will", 2)
		for qos := range byte(3) {
			for name, end := range map[string]func(*brokertest.Client){
				"lost":      func(c *brokertest.Client) { c.Close() },
				"violation": func(c *brokertest.Client) { b.raw(c, "36 06 0001 61 0001 00"); c.Closed() },
				"takeover":  func(c *brokertest.Client) { b.open("c"); c.Closed() },
			} {
				c, _ := b.with(wire.Connect{ClientID: "c", CleanStart: true, Will: &wire.Will{Topic: "will", Payload: text(name), QoS: qos}})
				end(c)
				if p := b.take(watch, "will", name); p.QoS != qos || p.Dup {
					b.Errorf("%s: got %+v", name, p)
				}
			}
		}
		if b.v == wire.V5 {
			c, _ := b.with(wire.Connect{ClientID: "c", CleanStart: true, Will: &wire.Will{Topic: "will", Payload: text("asked")}})
			c.Send(&wire.Disconnect{Code: wire.DisconnectWithWill})
			b.take(watch, "will", "asked")
		}
		watch.Silent()
	},
	"will-discarded": func(b *bench) {
		watch := b.open("watch")
		b.filter(watch, "#", 1)
		for _, will := range []*wire.Will{nil, {Topic: "will", Payload: text("x")}} {
			c, _ := b.with(wire.Connect{ClientID: "c", CleanStart: true, Will: will})
			c.Send(&wire.Disconnect{})
			c.Closed()
		}
		c := b.open("c") // without a will
		c.Close()
		once, _ := b.with(wire.Connect{ClientID: "once", CleanStart: true, Will: &wire.Will{Topic: "will", Payload: text("once")}})
		once.Close()
		b.take(watch, "will", "once")
		for range 2 { // the next connections have none
			b.open("once").Close()
		}
		watch.Silent()
	},
	"will-retain": func(b *bench) {
		watch := b.open("watch")
		b.filter(watch, "will/#", 1)
		for _, retain := range []bool{false, true} {
			topic := fmt.Sprint("will/", retain)
			c, _ := b.with(wire.Connect{ClientID: "c", CleanStart: true, Will: &wire.Will{Topic: topic, Payload: text("x"), QoS: 1, Retain: retain}})
			c.Close()
			b.take(watch, topic, "x")
			late := b.open("late")
			b.filter(late, topic, 1)
			if retain {
				b.take(late, topic, "x")
			}
			late.Silent()
			late.Close()
		}
	},
	"will-delay": func(b *bench) {
		b.timed(func(dial func() *brokertest.Client) {
			watch := dial()
			watch.Connect(wire.Connect{ClientID: "watch", CleanStart: true})
			b.filter(watch, "will", 0)
			p := b.lasting("c")
			p.Will = &wire.Will{Topic: "will", Payload: text("x"), Delay: 60}
			c := dial()
			c.Connect(p)
			c.Close()
			time.Sleep(59 * time.Second)
			c = dial() // back in time
			c.Connect(b.lasting("c"))
			time.Sleep(time.Hour)
			watch.Silent()
			c.Close()
			c = dial()
			c.Connect(p)
			c.Close()
			time.Sleep(59 * time.Second)
			watch.Silent()
			begun := time.Now()
			b.take(watch, "will", "x")
			if took := time.Since(begun); took != time.Second {
				b.Errorf("the will came after another %v, want 1 s", took)
			}
		})
	},
	"will-properties": func(b *bench) {
		f := wire.Forwarded{UTF8: true, ContentType: "a", ResponseTopic: "b", CorrelationData: []byte{0},
			User: []wire.UserProperty{{Name: "z", Value: "1"}, {Name: "a", Value: "2"}, {Name: "z", Value: "3"}}}
		want := f.Append(nil)
		watch := b.open("watch")
		b.filter(watch, "will", 1)
		c, _ := b.with(wire.Connect{ClientID: "c", CleanStart: true, Will: &wire.Will{Topic: "will", Payload: text("x"), QoS: 1, Forward: want, Expires: true, Expiry: 60}})
		c.Close()
		if p := b.take(watch, "will", "x"); string(p.Forward) != string(want) || p.Expiry != 60 {
			b.Errorf("got %+v, want %x", p, want)
		}
	},
	"suback": func(b *bench) {
		b.opts.MaxSubscriptions = 4
		c := b.open("c")
		subs := []wire.Subscription{{Filter: "a", QoS: 2}, {Filter: tooDeep, QoS: 1}, {Filter: "b/+", QoS: 0}, {Filter: "#", QoS: 1}, {Filter: "+/" + tooDeep, QoS: 1}, {Filter: "a", QoS: 1}}
		c.Send(&wire.Subscribe{ID: 0x1234, Subscriptions: subs})
		got := brokertest.Receive[*wire.Suback](c)
		bad := of(b, wire.Unspecified, wire.TopicFilterInvalid)
		if want := []wire.Code{2, bad, 0, 1, bad, 1}; got.ID != 0x1234 || !slices.Equal(got.Codes, want) {
			b.Errorf("got %v for %d, want %v", got.Codes, got.ID, want)
		}
		c.Send(&wire.Subscribe{ID: 7, Subscriptions: []wire.Subscription{{Filter: "d"}, {Filter: "e"}}})
		if got := brokertest.Receive[*wire.Suback](c); !slices.Equal(got.Codes, []wire.Code{0, of(b, wire.Unspecified, wire.QuotaExceeded)}) {
			b.Errorf("beyond the limit: %v", got.Codes)
		}
		c.Send(&wire.Unsubscribe{ID: 8, Filters: []string{"b/+"}})
		if got := brokertest.Receive[*wire.Suback](c); got.Type != wire.UNSUBACK || got.ID != 8 {
			b.Errorf("got %+v", got)
		}
		b.publish(b.open("pub"), wire.Publish{Topic: "a", Payload: text("x"), QoS: 2})
		if p := b.take(c, "a", "x"); p.QoS != 1 { // the last one in the packet replaced the first
			b.Errorf("QoS %d", p.QoS)
		}
	},
	"resubscribe": func(b *bench) {
		pub := b.open("pub")
		b.publish(pub, wire.Publish{Topic: "t", Payload: text("kept"), QoS: 1, Retain: true})
		c, _ := b.resume("c")
		for _, qos := range []byte{0, 2, 1} {
			b.filter(c, "t", qos)
			b.take(c, "t", "kept") // comes again
			b.publish(pub, wire.Publish{Topic: "t", Payload: text("x"), QoS: 2})
			if p := b.take(c, "t", "x"); p.QoS != qos { // once
				b.Errorf("got QoS %d, want %d", p.QoS, qos)
			}
		}
		// Replacing while messages come loses none of them.
		const n = 200
		done := make(chan struct{})
		go func() {
			defer close(done)
			for i := range n {
				b.publish(pub, wire.Publish{Topic: "t", Payload: text(fmt.Sprint(i)), QoS: 1})
			}
		}()
		for next := 0; next < n; {
			c.Send(&wire.Subscribe{ID: 3, Subscriptions: []wire.Subscription{{Filter: "t", QoS: 1}}})
			for acked := false; !acked || next == n && !acked; {
				p, err := c.Next()
				if err != nil {
					b.Fatal(err)
				}
				switch p := p.(type) {
				case *wire.Suback:
					acked = true
				case *wire.Publish:
					c.Send(&wire.Ack{Type: wire.PUBACK, ID: p.ID})
					if p.Retain {
						continue
					}
					if string(p.Payload) != fmt.Sprint(next) {
						b.Fatalf("got %s, want %d", p.Payload, next)
					}
					next++
				}
			}
		}
		<-done
	},
	"subscribe-empty": func(b *bench) {
		b.malformed(wire.ProtocolError, of(b, "82 02 0001", "82 03 0001 00"), of(b, "a2 02 0001", "a2 03 0001 00"))
	},
	"subscribe-options": func(b *bench) {
		if b.v == wire.V5 {
			b.malformed(wire.MalformedPacket, "82 07 0001 00 0001 61 03", "82 07 0001 00 0001 61 40", "82 07 0001 00 0001 61 80", "82 07 0001 00 0001 61 30")
			return
		}
		b.malformed(wire.MalformedPacket, "82 06 0001 0001 61 03", "82 06 0001 0001 61 04", "82 06 0001 0001 61 80")
	},
	"no-local": func(b *bench) {
		c, _ := b.resume("c")
		b.subscribe(c, wire.Subscription{Filter: "t", QoS: 2, NoLocal: true})
		other := b.open("other")
		for qos := range byte(3) {
			b.publish(c, wire.Publish{Topic: "t", Payload: text("own"), QoS: qos})
			b.publish(other, wire.Publish{Topic: "t", Payload: text("other"), QoS: qos})
			b.take(c, "t", "other")
		}
		c.Silent()
	},
	"shared-no-local": func(b *bench) {
		c := b.open("c")
		c.Send(&wire.Subscribe{ID: 1, Subscriptions: []wire.Subscription{{Filter: "$share/g/t", NoLocal: true}}})
		b.ends(c, wire.ProtocolError)
	},
	"qos-matrix": func(b *bench) {
		pub := b.open("pub")
		for granted := range byte(3) {
			passing := b.open("passing")
			lasting, _ := b.resume("lasting")
			b.filter(passing, "t", granted)
			b.filter(lasting, "t", granted)
			for qos := range byte(3) {
				b.publish(pub, wire.Publish{Topic: "t", Payload: text("x"), QoS: qos})
				for _, c := range []*brokertest.Client{passing, lasting} {
					if p := b.take(c, "t", "x"); p.QoS != min(qos, granted) {
						b.Errorf("published at %d, granted %d: delivered at %d", qos, granted, p.QoS)
					}
				}
			}
		}
	},
	"overlap": func(b *bench) {
		passing := b.open("passing")
		lasting, _ := b.resume("lasting")
		pub := b.open("pub")
		for _, c := range []*brokertest.Client{passing, lasting} {
			b.subscribe(c, wire.Subscription{Filter: "a/#", QoS: 0}, wire.Subscription{Filter: "a/+", QoS: 2}, wire.Subscription{Filter: "a/b", QoS: 1})
		}
		b.publish(pub, wire.Publish{Topic: "a/b", Payload: text("x"), QoS: 2})
		for _, c := range []*brokertest.Client{passing, lasting} {
			if p := b.take(c, "a/b", "x"); p.QoS != 2 {
				b.Errorf("QoS %d, want the highest", p.QoS)
			}
			b.quiet(c) // once
		}
	},
	"subscription-ids": func(b *bench) {
		passing := b.open("passing")
		lasting, _ := b.resume("lasting")
		clients := []*brokertest.Client{passing, lasting}
		for _, c := range clients {
			for filter, id := range map[string]uint32{"a/#": 1, "a/+": 268_435_455, "a/b": 3, "other": 4} {
				c.Send(&wire.Subscribe{ID: 1, Subscriptions: []wire.Subscription{{Filter: filter, QoS: 1}}, Properties: wire.Properties{SubscriptionID: &id}})
				brokertest.Receive[*wire.Suback](c)
			}
			b.filter(c, "#", 1) // without one
		}
		pub := b.open("pub")
		for qos := range byte(2) {
			for topic, want := range map[string][]uint32{"a/b": {1, 3, 268_435_455}, "a": {1}, "a/c": {1, 268_435_455}, "none": nil} {
				b.publish(pub, wire.Publish{Topic: topic, Payload: text("x"), QoS: qos})
				for _, c := range clients {
					p := b.take(c, topic, "x")
					slices.Sort(p.SubscriptionIDs)
					if !slices.Equal(p.SubscriptionIDs, want) {
						b.Errorf("%s at QoS %d: got %v, want %v", topic, qos, p.SubscriptionIDs, want)
					}
				}
			}
		}
		for _, bad := range []string{"82 09 0001 02 0b00 0001 61 00", "82 0b 0001 04 0b01 0b02 0001 61 00"} {
			b.malformed(wire.ProtocolError, bad)
		}
	},
	"unsubscribe": func(b *bench) {
		c := b.open("c")
		b.subscribe(c, wire.Subscription{Filter: "a/+"}, wire.Subscription{Filter: "a/b"}, wire.Subscription{Filter: "c"})
		c.Send(&wire.Unsubscribe{ID: 0x4321, Filters: []string{"a/b", "never", "a/#", "A/b"}})
		got := brokertest.Receive[*wire.Suback](c)
		none := wire.NoSubscriptionExisted
		if got.Type != wire.UNSUBACK || got.ID != 0x4321 || b.v == wire.V5 && !slices.Equal(got.Codes, []wire.Code{0, none, none, none}) {
			b.Errorf("got %+v", got)
		}
		pub := b.open("pub")
		b.publish(pub, wire.Publish{Topic: "a/b", Payload: text("x")})
		b.take(c, "a/b", "x") // by "a/+", which is another filter
		c.Send(&wire.Unsubscribe{ID: 2, Filters: []string{"a/+", "c"}})
		brokertest.Receive[*wire.Suback](c)
		b.publish(pub, wire.Publish{Topic: "a/b", Payload: text("x"), QoS: 1})
		b.publish(pub, wire.Publish{Topic: "c", Payload: text("x"), QoS: 1})
		c.Silent()
	},
	"unsubscribe-begun": func(b *bench) {
		c, _ := b.resume("c")
		b.filter(c, "t", 2)
		pub := b.open("pub")
		for qos := byte(1); qos <= 2; qos++ {
			b.publish(pub, wire.Publish{Topic: "t", Payload: text(fmt.Sprint(qos)), QoS: qos})
		}
		one, two := b.message(c, "t", "1"), b.message(c, "t", "2")
		c.Send(&wire.Unsubscribe{ID: 2, Filters: []string{"t"}})
		brokertest.Receive[*wire.Suback](c)
		c.Close()
		c, _ = b.resume("c")
		for _, was := range []*wire.Publish{one, two} {
			if p := b.take(c, "t", string(was.Payload)); p.ID != was.ID || !p.Dup {
				b.Errorf("got %+v, want %d again", p, was.ID)
			}
		}
		c.Silent()
	},
	"redelivery": func(b *bench) {
		c, _ := b.resume("c")
		b.filter(c, "t", 1)
		pub := b.open("pub")
		const n = 20
		for i := range n {
			b.publish(pub, wire.Publish{Topic: "t", Payload: text(fmt.Sprint(i)), QoS: 1})
		}
		ids := map[string]uint16{}
		var last *wire.Publish
		for i := range n {
			last = b.message(c, "t", fmt.Sprint(i))
			if last.Dup || last.ID == 0 || last.QoS != 1 {
				b.Errorf("first delivery: %+v", last)
			}
			ids[string(last.Payload)] = last.ID
		}
		c.Silent() // nothing is sent again on the same connection
		c.Send(&wire.Ack{Type: wire.PUBACK, ID: ids["5"]}, &wire.Ack{Type: wire.PUBACK, ID: ids["0"]})
		c.Silent()
		c.Close()
		c, _ = b.resume("c")
		for i := range n {
			if i == 0 || i == 5 {
				continue
			}
			if p := b.take(c, "t", fmt.Sprint(i)); !p.Dup || p.ID != ids[fmt.Sprint(i)] {
				b.Errorf("again: %+v, want DUP and identifier %d", p, ids[fmt.Sprint(i)])
			}
		}
		c.Silent()
		b.publish(pub, wire.Publish{Topic: "t", Payload: text("new"), QoS: 1})
		if p := b.take(c, "t", "new"); p.Dup {
			b.Error("DUP in a new message")
		}
	},
	"qos2-out": func(b *bench) {
		for _, lasting := range []bool{true, false} {
			var c *brokertest.Client
			if c = b.open("c"); lasting {
				c.Close()
				c, _ = b.resume("c")
			}
			b.filter(c, "t", 2)
			b.publish(b.open("pub"), wire.Publish{Topic: "t", Payload: text("x"), QoS: 2})
			p := b.message(c, "t", "x")
			if p.QoS != 2 || p.Dup || p.ID == 0 {
				b.Errorf("got %+v", p)
			}
			if lasting {
				c.Close()
				c, _ = b.resume("c")
				if q := b.message(c, "t", "x"); !q.Dup || q.ID != p.ID {
					b.Errorf("before PUBREC: %+v", q)
				}
			}
			c.Send(&wire.Ack{Type: wire.PUBREC, ID: p.ID})
			b.ack(c, wire.PUBREL, p.ID, 0)
			if lasting { // after PUBREC only PUBREL comes again, also after a restart
				for _, restart := range []bool{false, true} {
					c.Close()
					if restart {
						b.start()
					}
					c, _ = b.resume("c")
					b.ack(c, wire.PUBREL, p.ID, 0)
				}
			}
			c.Send(&wire.Ack{Type: wire.PUBCOMP, ID: p.ID})
			c.Silent()
			c.Close()
		}
		c, _ := b.resume("c")
		c.Silent()
	},
	"qos2-expiry": func(b *bench) {
		b.timed(func(dial func() *brokertest.Client) {
			c := dial()
			c.Connect(wire.Connect{ClientID: "c", CleanStart: true})
			b.filter(c, "t", 2)
			pub := dial()
			pub.Connect(wire.Connect{ClientID: "pub", CleanStart: true})
			pub.Send(&wire.Publish{Topic: "t", Payload: text("x"), QoS: 2, ID: 4, Expires: true, Expiry: 1})
			b.ack(pub, wire.PUBREC, 4, 0)
			p := b.message(c, "t", "x")
			time.Sleep(time.Minute)
			pub.Send(&wire.Ack{Type: wire.PUBREL, ID: 4})
			b.ack(pub, wire.PUBCOMP, 4, 0)
			pub.Close()
			c.Send(&wire.Ack{Type: wire.PUBREC, ID: p.ID})
			b.ack(c, wire.PUBREL, p.ID, 0)
			c.Send(&wire.Ack{Type: wire.PUBCOMP, ID: p.ID})
			c.Silent()
			c.Close()
		})
	},
	"refused-delivery": func(b *bench) {
		c, _ := b.resume("c")
		b.filter(c, "t", 2)
		pub := b.open("pub")
		for qos := byte(1); qos <= 2; qos++ {
			b.publish(pub, wire.Publish{Topic: "t", Payload: text("x"), QoS: qos})
			p := b.message(c, "t", "x")
			c.Send(&wire.Ack{Type: of2(qos == 1, wire.PUBACK, wire.PUBREC), ID: p.ID, Code: wire.QuotaExceeded})
		}
		c.Silent()
		c.Close()
		c, _ = b.resume("c")
		c.Silent()
	},
	"pubrel-order": func(b *bench) {
		c, _ := b.resume("c")
		b.filter(c, "t", 2)
		pub := b.open("pub")
		var ids []uint16
		for range 20 {
			b.publish(pub, wire.Publish{Topic: "t", QoS: 2})
			ids = append(ids, b.message(c, "t", "").ID)
		}
		slices.Reverse(ids) // of PUBREC, whatever the order of PUBLISH
		var recs []wire.Packet
		for _, id := range ids {
			recs = append(recs, &wire.Ack{Type: wire.PUBREC, ID: id})
		}
		c.Send(recs...)
		for _, id := range ids {
			b.ack(c, wire.PUBREL, id, 0)
			c.Send(&wire.Ack{Type: wire.PUBCOMP, ID: id})
		}
		c.Silent()
	},
	"receive-maximum-out": func(b *bench) {
		for _, most := range []uint16{1, 2} {
			for _, lasting := range []bool{false, true} {
				p := wire.Connect{ClientID: "c", CleanStart: true}
				if lasting {
					p = b.lasting("c")
				}
				p.Properties.ReceiveMaximum = &most
				c, _ := b.with(p)
				b.filter(c, "t", 1+byte(most%2))
				pub := b.open("pub")
				const n = 20
				for i := range n {
					b.publish(pub, wire.Publish{Topic: "t", Payload: text(fmt.Sprint(i)), QoS: 2})
				}
				for i := 0; i < n; {
					var under []*wire.Publish
					for range min(int(most), n-i) {
						under = append(under, b.message(c, "t", fmt.Sprint(i)))
						i++
					}
					b.filter(c, "other", 0) // answers are not held up, and messages are
					c.Silent()
					for _, p := range under {
						if p.QoS == 2 {
							c.Send(&wire.Ack{Type: wire.PUBREC, ID: p.ID})
							b.ack(c, wire.PUBREL, p.ID, 0)
							if most == 1 {
								c.Silent() // PUBREC does not free the place
							}
							c.Send(&wire.Ack{Type: wire.PUBCOMP, ID: p.ID})
						} else {
							b.settle(c, p)
						}
					}
				}
				c.Silent()
				c.Close()
			}
		}
	},
	"filters": func(b *bench) {
		c, pub := b.open("c"), b.open("pub")
		for _, tt := range []struct {
			filter, topic string
			match         bool
		}{
			{"#", "a/b", true}, {"a/#", "a", true}, {"a/#", "a/b/c", true}, {"a/#", "ab", false}, {"+", "a", true}, {"+", "a/b", false},
			{"+", "/a", false}, {"+/+", "/a", true}, {"/+", "/a", true}, {"a/+", "a", false}, {"a/+", "a/", true}, {"a/+/c", "a/b/c", true},
			{"a/+/c", "a//c", true}, {"a/b", "a/b", true}, {"a/b", "a/B", false}, {"+/b/#", "a/b", true}, {"a/+/#", "a", false}, {"a", "a/", false},
		} {
			b.filter(c, tt.filter, 0)
			b.publish(pub, wire.Publish{Topic: tt.topic, Payload: text("x")})
			if pub.Silent(); tt.match {
				b.take(c, tt.topic, "x")
			}
			c.Silent()
			c.Send(&wire.Unsubscribe{ID: 1, Filters: []string{tt.filter}})
			brokertest.Receive[*wire.Suback](c)
		}
		for _, bad := range []string{"", "a#", "a/#/b", "#/a", "a+", "+a", "a/b+/c", "##", "a/+#"} {
			for _, p := range []wire.Packet{
				&wire.Subscribe{ID: 1, Subscriptions: []wire.Subscription{{Filter: "fine"}, {Filter: bad}}},
				&wire.Unsubscribe{ID: 1, Filters: []string{"fine", bad}},
			} {
				c := b.open("malformed")
				c.Send(p)
				b.ends(c, wire.MalformedPacket)
			}
		}
	},
	"dollar": func(b *bench) {
		c, pub := b.open("c"), b.open("pub")
		b.subscribe(c, wire.Subscription{Filter: "#"}, wire.Subscription{Filter: "+/x"}, wire.Subscription{Filter: "+/#"})
		b.publish(pub, wire.Publish{Topic: "$own/x"})
		pub.Silent()
		c.Silent()
		b.filter(c, "$own/+", 0)
		b.publish(pub, wire.Publish{Topic: "$own/x", Retain: true, Payload: text("x")})
		b.take(c, "$own/x", "x")
		late := b.open("late")
		b.filter(late, "#", 0)
		late.Silent()
	},
	"shared-form": func(b *bench) {
		c := b.open("c")
		for filter, ok := range map[string]bool{
			"$share/g/a": true, "$share/g/+/#": true, "$share/g//": true, "$share/g": false, "$share/g/": false, "$share//a": false,
			"$share/+/a": false, "$share/g#/a": false, "$share/g/a/#/b": false, "$share": true, "$share/": false,
		} {
			if b.v == wire.V5 && !ok {
				c := b.open("malformed")
				c.Send(&wire.Subscribe{ID: 1, Subscriptions: []wire.Subscription{{Filter: filter}}})
				b.ends(c, wire.MalformedPacket)
				continue
			}
			if filter == "$share/g/a/#/b" { // malformed in any version
				continue
			}
			c.Send(&wire.Subscribe{ID: 1, Subscriptions: []wire.Subscription{{Filter: filter}}})
			if got := brokertest.Receive[*wire.Suback](c); (got.Codes[0] == 0) != ok {
				b.Errorf("%q: %v", filter, got.Codes)
			}
		}
	},
	"shared": func(b *bench) {
		b.publish(b.open("pub"), wire.Publish{Topic: "t/kept", Payload: text("kept"), QoS: 1, Retain: true})
		pub := b.open("pub")
		var members []*brokertest.Client
		for i := range 3 {
			c, _ := b.resume(fmt.Sprint("member", i))
			b.filter(c, "$share/g/t/#", byte(i)) // no retained message
			members = append(members, c)
		}
		other := b.open("other") // another group, and a client without one
		b.subscribe(other, wire.Subscription{Filter: "$share/h/t/#", QoS: 1})
		alone := b.open("alone")
		b.filter(alone, "t/+", 1)
		b.take(alone, "t/kept", "kept")
		const n = 30
		for i := range n {
			b.publish(pub, wire.Publish{Topic: "t/x", Payload: text(fmt.Sprint(i)), QoS: 2})
			b.take(other, "t/x", fmt.Sprint(i))
			b.take(alone, "t/x", fmt.Sprint(i))
		}
		seen := map[string]int{}
		for i, c := range members {
			for range n / 3 { // in turn
				p := b.nextMessage(c)
				if int(p.QoS) != i {
					b.Errorf("member %d: QoS %d", i, p.QoS)
				}
				seen[string(p.Payload)]++
			}
			b.quiet(c)
		}
		if len(seen) != n {
			b.Errorf("%d different messages of %d", len(seen), n)
		}
		// The one connected member gets all; while none is connected the durable sessions share them.
		members[1].Close()
		members[2].Close()
		b.gone(2)
		for i := range 4 {
			b.publish(pub, wire.Publish{Topic: "t/y", Payload: text(fmt.Sprint(i)), QoS: 1})
			b.take(members[0], "t/y", fmt.Sprint(i))
		}
		members[0].Send(&wire.Unsubscribe{ID: 4, Filters: []string{"$share/g/t/#"}})
		brokertest.Receive[*wire.Suback](members[0])
		for i := range 4 {
			b.publish(pub, wire.Publish{Topic: "t/z", Payload: text(fmt.Sprint(i)), QoS: 1})
		}
		b.start()
		for _, i := range []int{1, 2} {
			c, _ := b.resume(fmt.Sprint("member", i))
			for range 2 {
				b.nextMessage(c)
			}
			b.quiet(c)
		}
	},
	"shared-qos2": func(b *bench) {
		one, _ := b.resume("one")
		two := b.open("two")
		b.filter(one, "$share/g/t", 2)
		pub := b.open("pub")
		b.publish(pub, wire.Publish{Topic: "t", Payload: text("x"), QoS: 2})
		p := b.message(one, "t", "x")
		b.filter(two, "$share/g/t", 2)
		one.Close()
		two.Silent()
		one, _ = b.resume("one")
		if q := b.message(one, "t", "x"); q.ID != p.ID || !q.Dup {
			b.Errorf("got %+v, want %d again", q, p.ID)
		}
		one.Send(&wire.Disconnect{Properties: wire.Properties{SessionExpiry: ptr(uint32(0))}}) // the session ends, and the delivery with it
		one.Closed()
		two.Silent()
	},
	"shared-refused": func(b *bench) {
		one, two := b.open("one"), b.open("two")
		b.filter(one, "$share/g/t", 2)
		pub := b.open("pub")
		for qos := byte(1); qos <= 2; qos++ {
			b.publish(pub, wire.Publish{Topic: "t", Payload: text("x"), QoS: qos})
		}
		for range 2 {
			p := b.message(one, "t", "x")
			if p.QoS == 1 {
				b.filter(two, "$share/g/t", 2)
			}
			one.Send(&wire.Ack{Type: of2(p.QoS == 1, wire.PUBACK, wire.PUBREC), ID: p.ID, Code: wire.ImplementationSpecific})
		}
		one.Silent()
		two.Silent()
	},
}

// nextMessage takes the next message, in between answering the handshakes of others.
func (b *bench) nextMessage(c *brokertest.Client) *wire.Publish {
	b.Helper()
	for {
		p, err := c.Next()
		if err != nil {
			b.Fatal(err)
		}
		switch p := p.(type) {
		case *wire.Publish:
			switch p.QoS {
			case 1:
				c.Send(&wire.Ack{Type: wire.PUBACK, ID: p.ID})
			case 2:
				c.Send(&wire.Ack{Type: wire.PUBREC, ID: p.ID})
			}
			return p
		case *wire.Ack:
			c.Send(&wire.Ack{Type: wire.PUBCOMP, ID: p.ID})
		}
	}
}

// quiet checks that no message comes, in between ending handshakes.
func (b *bench) quiet(c *brokertest.Client) {
	b.Helper()
	c.Send(&wire.Ping{Type: wire.PINGREQ})
	for {
		p, err := c.Next()
		if err != nil {
			b.Fatal(err)
		}
		switch p := p.(type) {
		case *wire.Ping:
			return
		case *wire.Ack:
			c.Send(&wire.Ack{Type: wire.PUBCOMP, ID: p.ID})
		default:
			b.Errorf("got %s", brokertest.Describe(p))
		}
	}
}

// gone waits until the server has seen n of its clients' sessions disconnected.
func (b *bench) gone(n int) {
	b.Helper()
	for st := b.srv.Stats(); st.Sessions-st.Connected < n; st = b.srv.Stats() {
		b.open("").Close()
	}
}
