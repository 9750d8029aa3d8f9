package brokertest_test

import (
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/broker/brokertest"
	"holdfast/broker/wire"
)

var connectChecks = map[string]func(*bench){
	"connect-first": func(b *bench) {
		for _, p := range []string{"c000", "e000", "300300017a", "820600010001 61 00"} {
			c := b.dial()
			b.raw(c, p)
			if code := c.Closed(); code != 0 {
				b.Errorf("%s: DISCONNECT %v before CONNACK", p, code)
			}
		}
	},
	"connect-twice": func(b *bench) {
		c := b.open("a")
		c.Send(&wire.Connect{Version: b.v, ClientID: "a", CleanStart: true})
		b.ends(c, wire.ProtocolError)
	},
	"protocol-name": func(b *bench) {
		b.badConnect(
			of(b, "10 0c 0004 4d515455 04 02 003c 0000", "10 0d 0004 4d515455 05 02 003c 00 0000"),
			of(b, "10 0c 0004 6d717474 04 02 003c 0000", "10 0d 0004 6d717474 05 02 003c 00 0000"))
	},
	"protocol-version": func(b *bench) {
		c := b.dial()
		b.raw(c, of(b, "10 0c 0004 4d515454 06 02 003c 0000", "10 0c 0004 4d515454 09 02 003c 0000"))
		p, err := wire.NewReader(c, 0).ReadPacket() // an unknown version is answered as 3.1.1
		if a, ok := p.(*wire.Connack); err != nil || !ok || a.Code != wire.UnsupportedVersion {
			b.Errorf("got %v, %v", p, err)
		}
		c.Closed()
	},
	"connect-flags": func(b *bench) {
		bad := map[string]string{ // 3.1.1, and the same in 5
			"10 0c 0004 4d515454 04 03 003c 0000":                     "10 0d 0004 4d515454 05 03 003c 00 0000",                      // reserved
			"10 0c 0004 4d515454 04 0a 003c 0000":                     "10 0d 0004 4d515454 05 0a 003c 00 0000",                      // will QoS without will
			"10 0c 0004 4d515454 04 22 003c 0000":                     "10 0d 0004 4d515454 05 22 003c 00 0000",                      // will RETAIN without will
			"10 12 0004 4d515454 04 1e 003c 0000 0001 77 0001 78":     "10 14 0004 4d515454 05 1e 003c 00 0000 00 0001 77 0001 78",   // will QoS 3
			"10 0c 0004 4d515454 04 06 003c 0000":                     "10 0d 0004 4d515454 05 06 003c 00 0000",                      // will flag, no will
			"10 12 0004 4d515454 04 02 003c 0000 0001 77 0001 78":     "10 13 0004 4d515454 05 02 003c 00 0000 0001 77 0001 78",      // will, no flag
			"10 0c 0004 4d515454 04 82 003c 0000":                     "10 0d 0004 4d515454 05 82 003c 00 0000",                      // user name flag, no name
			"10 0f 0004 4d515454 04 02 003c 0000 0001 75":             "10 10 0004 4d515454 05 02 003c 00 0000 0001 75",              // name, no flag
			"10 0f 0004 4d515454 04 c2 003c 0000 0001 75":             "10 10 0004 4d515454 05 c2 003c 00 0000 0001 75",              // password flag, no password
			"10 12 0004 4d515454 04 82 003c 0000 0001 75 0001 70":     "10 13 0004 4d515454 05 82 003c 00 0000 0001 75 0001 70",      // password, no flag
			"10 0d 0004 4d515454 04 02 003c 0000 00":                  "10 0e 0004 4d515454 05 02 003c 00 0000 00",                   // a byte too many
			"10 0a 0004 4d515454 04 02 003c":                          "10 0a 0004 4d515454 05 02 003c",                              // too short
			"11 0c 0004 4d515454 04 02 003c 0000":                     "11 0d 0004 4d515454 05 02 003c 00 0000",                      // flags of the packet
			"10 15 0004 4d515454 04 16 003c 0000 0001 77 0004 787878": "10 17 0004 4d515454 05 16 003c 00 0000 00 0001 77 0004 7878", // will payload cut off
		}
		for v311, v5 := range bad {
			b.badConnect(of(b, v311, v5))
		}
		for _, p := range []string{ // and good ones are taken
			of(b, "10 0c 0004 4d515454 04 02 003c 0000", "10 0d 0004 4d515454 05 02 003c 00 0000"),
			of(b, "10 12 0004 4d515454 04 c2 003c 0000 0001 75 0001 70", "10 13 0004 4d515454 05 c2 003c 00 0000 0001 75 0001 70"),
			of(b, "10 12 0004 4d515454 04 2e 003c 0000 0001 77 0001 78", "10 14 0004 4d515454 05 2e 003c 00 0000 00 0001 77 0001 78"),
		} {
			c := b.dial()
			b.raw(c, p)
			if a := brokertest.Receive[*wire.Connack](c); a.Code != 0 {
				b.Errorf("%s: %v", p, a.Code)
			}
		}
	},
	"password-alone": func(b *bench) { b.badConnect("10 0f 0004 4d515454 04 42 003c 0000 0001 70") },
	"connect-utf8": func(b *bench) {
		for _, bad := range []string{"c3 28", "ed a0 80", "00"} {
			n := len(strings.ReplaceAll(bad, " ", "")) / 2
			s := "000" + string(rune('0'+n)) + " " + bad
			size := func(n int) string { return string("0123456789abcdef"[n>>4]) + string("0123456789abcdef"[n&15]) }
			b.badConnect(
				"10 "+of(b, size(12+n)+" 0004 4d515454 04 02 003c ", size(13+n)+" 0004 4d515454 05 02 003c 00 ")+s,                              // client id
				"10 "+of(b, size(17+n)+" 0004 4d515454 04 06 003c 0000 ", size(19+n)+" 0004 4d515454 05 06 003c 00 0000 00 ")+s+" 0001 78 0000", // cut: will topic comes first
				"10 "+of(b, size(14+n)+" 0004 4d515454 04 82 003c 0000 ", size(15+n)+" 0004 4d515454 05 82 003c 00 0000 ")+s)                    // user name
		}
	},
	"connect-payload": func(b *bench) {
		c, _ := b.with(wire.Connect{
			ClientID: "full", CleanStart: true, HasUsername: true, Username: "u", HasPassword: true, Password: text("p"),
			Will: &wire.Will{Topic: "w", Payload: text("x")},
		})
		watch := b.open("watch")
		b.filter(watch, "w", 0)
		c.Close()
		b.message(watch, "w", "x")
		b.badConnect(of(b, "10 0a 0004 4d515454 04 02 003c", "10 0b 0004 4d515454 05 02 003c 00")) // no client identifier
	},
	"client-ids": func(b *bench) {
		for _, id := range []string{"a", "0123456789abcdefghijklm", "ABCDEFGHIJKLMNOPQRSTUVW", "NOPQRSTUVWXYZnopqrstuvw"} {
			b.open(id)
		}
	},
	"client-id-empty": func(b *bench) {
		_, one := b.with(wire.Connect{CleanStart: true})
		_, two := b.with(wire.Connect{CleanStart: true})
		if b.srv.Stats().Connected != 2 {
			b.Errorf("%d clients, want two", b.srv.Stats().Connected)
		}
		if b.v != wire.V5 {
			return
		}
		x, y := one.Properties.AssignedClientID, two.Properties.AssignedClientID
		if x == nil || y == nil || *x == *y || *x == "" {
			b.Errorf("assigned %v and %v", x, y)
		}
	},
	"client-id-refused": func(b *bench) {
		c := b.dial()
		id := of(b, "", strings.Repeat("x", 2000)) // 5.0 may be empty
		c.Send(&wire.Connect{Version: b.v, ClientID: id})
		b.refused(c, wire.ClientIDNotValid)
	},
	"connack-first": func(b *bench) {
		b.start()
		pub := b.open("pub")
		sub, _ := b.resume("sub")
		b.filter(sub, "t", 1)
		sub.Close()
		b.publish(pub, wire.Publish{Topic: "t", Payload: text("x"), QoS: 1})
		c := b.dial()
		p := b.lasting("sub")
		p.Version = b.v
		c.Send(&p, &wire.Ping{Type: wire.PINGREQ})
		if a := brokertest.Receive[*wire.Connack](c); a.Code != 0 || !a.SessionPresent {
			b.Errorf("CONNACK %+v", a)
		}
		for range 2 { // the message and the answer to the ping, in whatever order, and no second CONNACK
			got, err := c.Next()
			if _, again := got.(*wire.Connack); err != nil || again {
				b.Errorf("got %v, %v", got, err)
			}
		}
	},
	"connack-codes": func(b *bench) {
		b.opts.MaxSessions = 1
		b.open("one")
		c := b.dial()
		c.Send(&wire.Connect{Version: b.v, ClientID: "two", CleanStart: true})
		b.refused(c, of(b, wire.ServerUnavailable, wire.QuotaExceeded))
	},
	"connack-small": func(b *bench) {
		c := b.dial()
		p := wire.Connect{Version: b.v, ClientID: strings.Repeat("x", 2000)}
		p.Properties.MaximumPacketSize = ptr(uint32(30))
		c.Send(&p)
		if a := brokertest.Receive[*wire.Connack](c); a.Properties.ReasonString != nil {
			b.Errorf("reason %q does not fit", *a.Properties.ReasonString)
		}
		c = b.dial() // no room for a CONNACK at all: none is sent
		p = wire.Connect{Version: b.v, ClientID: "x", CleanStart: true}
		p.Properties.MaximumPacketSize = ptr(uint32(3))
		c.Send(&p)
		c.Closed()
	},
	"refused-rest": func(b *bench) {
		watch := b.open("watch")
		b.filter(watch, "#", 0)
		c := b.dial()
		c.SendBytes(append(frame(b.v, &wire.Connect{Version: b.v, ClientID: of(b, "", strings.Repeat("x", 2000))}),
			frame(b.v, &wire.Publish{Topic: "t"})...))
		b.refused(c, wire.ClientIDNotValid)
		watch.Silent()
	},
	"auth-method": func(b *bench) {
		c := b.dial()
		c.Send(&wire.Connect{Version: b.v, ClientID: "a", CleanStart: true, Properties: wire.Properties{AuthMethod: ptr("SCRAM-SHA-1")}})
		b.refused(c, wire.BadAuthenticationMethod)
	},
	"auth-packet": func(b *bench) {
		for _, code := range []wire.Code{wire.ReAuthenticate, wire.ContinueAuthentication} {
			c := b.open("a")
			c.Send(&wire.Auth{Code: code, Properties: wire.Properties{AuthMethod: ptr("X")}})
			b.ends(c, wire.ProtocolError)
		}
	},
	"server-keep-alive": func(b *bench) {
		b.opts.ServerKeepAlive = 60 * time.Second
		for asked, told := range map[uint16]uint16{0: 60, 120: 60, 61: 60, 60: 0, 30: 0} {
			_, ack := b.with(wire.Connect{CleanStart: true, KeepAlive: asked})
			got := ack.Properties.ServerKeepAlive
			if told == 0 && got != nil || told != 0 && (got == nil || *got != told) {
				b.Errorf("keep alive %d: told %v, want %d", asked, got, told)
			}
		}
	},
	"keep-alive": func(b *bench) {
		for _, most := range []time.Duration{0, 8 * time.Second} {
			b.opts.ServerKeepAlive = most
			keep := 10 * time.Second
			if most > 0 && b.v == wire.V5 {
				keep = most
			}
			b.timed(func(dial func() *brokertest.Client) {
				c := dial()
				c.Connect(wire.Connect{ClientID: "c", CleanStart: true, KeepAlive: 10})
				time.Sleep(keep*3/2 - time.Second)
				c.Silent()
				begun := time.Now()
				b.ends(c, wire.KeepAliveTimeout)
				if took := time.Since(begun); took != keep*3/2 {
					b.Errorf("ended after %v, want %v", took, keep*3/2)
				}
			})
		}
	},
	"response-information": func(b *bench) {
		b.opts.ResponseInfo = "answers/%c/"
		_, ack := b.with(wire.Connect{ClientID: "c", CleanStart: true})
		if ack.Properties.ResponseInfo != nil {
			b.Error("told without being asked")
		}
		p := wire.Connect{ClientID: "c", CleanStart: true}
		p.Properties.RequestResponseInfo = ptr(byte(1))
		if _, ack = b.with(p); ack.Properties.ResponseInfo == nil || *ack.Properties.ResponseInfo != "answers/c/" {
			b.Errorf("got %v", ack.Properties.ResponseInfo)
		}
		p.Properties.RequestResponseInfo = ptr(byte(0))
		if _, ack = b.with(p); ack.Properties.ResponseInfo != nil {
			b.Error("told though the client does not want it")
		}
	},
	"problem-information": func(b *bench) {
		for _, want := range []bool{true, false} {
			p := wire.Connect{CleanStart: true}
			if !want {
				p.Properties.RequestProblemInfo = ptr(byte(0))
			}
			c, _ := b.with(p)
			c.Send(&wire.Subscribe{ID: 1, Subscriptions: []wire.Subscription{{Filter: tooDeep}}})
			if got := brokertest.Receive[*wire.Suback](c); (got.Properties.ReasonString != nil) != want || got.Codes[0] != wire.TopicFilterInvalid {
				b.Errorf("SUBACK %+v, reasons wanted: %v", got, want)
			}
			c.Send(&wire.Publish{Topic: "$SYS/x", QoS: 1, ID: 1})
			if got := brokertest.Receive[*wire.Ack](c); (got.Properties.ReasonString != nil) != want || got.Code != wire.NotAuthorized {
				b.Errorf("PUBACK %+v, reasons wanted: %v", got, want)
			}
		}
	},
	"reasons-small": func(b *bench) {
		const most = 40
		p := wire.Connect{ClientID: "c", CleanStart: true}
		p.Properties.MaximumPacketSize = ptr(uint32(most))
		c, _ := b.with(p)
		c.Send(&wire.Subscribe{ID: 1, Subscriptions: []wire.Subscription{{Filter: tooDeep}}})
		c.Send(&wire.Unsubscribe{ID: 2, Filters: []string{tooDeep}})
		c.Send(&wire.Publish{Topic: "$SYS/x", QoS: 1, ID: 1})
		c.Send(&wire.Publish{Topic: "$SYS/x", QoS: 2, ID: 1})
		b.raw(c, "30 09 0001 61 05 08 0002 612b") // of which there is much to say
		for {
			got, err := c.Next()
			if err != nil {
				b.Fatal(err)
			}
			if n := len(wire.Append(nil, b.v, got)); n > most {
				b.Errorf("%d bytes: %s", n, brokertest.Describe(got))
			}
			if _, ok := got.(*wire.Disconnect); ok {
				return
			}
		}
	},
	"takeover": func(b *bench) {
		first, _ := b.resume("c")
		b.filter(first, "t", 1)
		second, present := b.resume("c")
		if !present {
			b.Error("the session was not taken over")
		}
		b.ends(first, wire.SessionTakenOver)
		b.publish(b.open("p"), wire.Publish{Topic: "t", Payload: text("x"), QoS: 1})
		b.take(second, "t", "x")
	},
	"disconnect-codes": func(b *bench) {
		for _, code := range []wire.Code{0, wire.DisconnectWithWill, wire.Unspecified, wire.AdministrativeAction} {
			c := b.open("c")
			c.SendBytes(append(frame(b.v, &wire.Disconnect{Code: code}), 0xc0, 0)) // a PINGREQ is not answered any more
			if got := c.Closed(); got != 0 {
				b.Errorf("%v is answered with %v", code, got)
			}
		}
		b.malformed(wire.ProtocolError, "e0 01 03", "e0 01 ff")
	},
	"disconnect-expiry": func(b *bench) {
		c := b.open("c")
		c.Send(&wire.Disconnect{Properties: wire.Properties{SessionExpiry: ptr(uint32(10))}})
		d := brokertest.Receive[*wire.Disconnect](c)
		if d.Code != wire.ProtocolError || d.Properties.SessionExpiry != nil {
			b.Errorf("got %+v", d)
		}
	},
	"ping": func(b *bench) {
		c := b.open("c")
		b.raw(c, "c000 c000")
		for range 2 {
			if p := brokertest.Receive[*wire.Ping](c); p.Type != wire.PINGRESP {
				b.Errorf("got %v", p.Type)
			}
		}
	},
	"bad-utf8": func(b *bench) {
		packets := []string{
			"30 05 0002 c328 78", "30 06 0003 eda080 78", "30 05 0002 6100 78", // topics
			"82 06 0001 0001 ff 00", "82 06 0001 0001 00 00", "82 08 0001 0003 eda080 00",
			"a2 05 0001 0001 ff", "a2 05 0001 0001 00",
		}
		if b.v == wire.V5 {
			packets = []string{
				"30 06 0002 c328 00 78", "30 07 0003 eda080 00 78", "30 06 0002 6100 00 78",
				"82 07 0001 00 0001 ff 00", "82 07 0001 00 0001 00 00",
				"a2 06 0001 00 0001 ff", "a2 06 0001 00 0001 00",
				"30 0b 0001 61 07 26 0001 ff 0001 76", "30 0b 0001 61 07 26 0001 6b 0001 ff", "30 0b 0001 61 07 26 0001 6b 0001 00", // user property
				"30 08 0001 61 04 03 0001 ff", // content type
			}
		}
		b.malformed(wire.MalformedPacket, packets...)
	},
	"flags": func(b *bench) {
		filter := of(b, "06 0001 0001 61 00", "07 0001 00 0001 61 00")
		gone := of(b, "05 0001 0001 61", "06 0001 00 0001 61")
		packets := []string{"60 02 0001", "63 02 0001", "80 " + filter, "8f " + filter, "a0 " + gone, "c1 00", "e1 00", "41 02 0001", "52 02 0001"}
		if b.v == wire.V5 {
			packets = append(packets, "f1 00", "f8 00")
		}
		b.malformed(wire.MalformedPacket, packets...)
	},
	"identifier-0": func(b *bench) {
		b.malformed(wire.ProtocolError, "32 05 0001 61 0000", "34 05 0001 61 0000", "82 06 0000 0001 61 00", "a2 05 0000 0001 61")
	},
	"lengths": func(b *bench) {
		b.malformed(wire.MalformedPacket, "30 8400 0001 61 00", "30 8080808001", "30 05 0001 61 8000", "30 07 0001 61 8080808001")
	},
	"empty-properties": func(b *bench) {
		b.malformed(wire.MalformedPacket, "82 05 0001 0001 61", "a2 04 0001 0001") // as in 3.1.1: the length of properties is missing
		c := b.open("c")
		b.raw(c, "82 07 0001 00 0001 61 00")
		brokertest.Receive[*wire.Suback](c)
	},
	"packet-too-large": func(b *bench) {
		b.opts.MaxPacket = 100
		c, ack := b.with(wire.Connect{CleanStart: true})
		if got := *ack.Properties.MaximumPacketSize; got != 100 {
			b.Errorf("told %d", got)
		}
		c.SendBytes([]byte{0x30, 101}) // its length is enough
		b.ends(c, wire.PacketTooLarge)
	},
}

// timed runs f with a server whose clock jumps ahead whenever all goroutines wait.
func (b *bench) timed(f func(dial func() *brokertest.Client)) {
	t := b.T
	synctest.Test(t, func(t *testing.T) {
		was := b.T
		b.T = t
		defer func() { b.T = was }()
		b.dir = t.TempDir()
		b.run()
		defer func() { b.stop() }()
		f(func() *brokertest.Client {
			near, far := net.Pipe()
			b.srv.Serve(far)
			return brokertest.NewClient(t, near, b.v)
		})
	})
}
