package brokertest_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"maps"
	"strings"
	"testing"

	"holdfast/broker/brokertest"
	"holdfast/broker/journal"
	"holdfast/broker/server"
	"holdfast/broker/wire"
)

// bench is a server for one check of the suite, and the version that the check is made for.
type bench struct {
	*testing.T
	v    wire.Version
	opts server.Options
	dir  string
	addr string
	srv  *server.Server
	stop func()
}

func newBench(t *testing.T, v wire.Version) *bench {
	b := &bench{T: t, v: v, dir: t.TempDir(), stop: func() {}}
	t.Cleanup(func() { b.stop() })
	return b
}

// start starts the server, again if it runs; what the journal has stays.
func (b *bench) start() {
	b.Helper()
	b.run(server.Listener{Network: "tcp", Address: "127.0.0.1:0"})
	b.addr = b.srv.Addrs()[0].String()
}

func (b *bench) run(listeners ...server.Listener) {
	b.Helper()
	b.stop()
	fs, err := journal.NewDirFS(b.dir)
	if err != nil {
		b.Fatal(err)
	}
	j, err := journal.Open(journal.Options{FS: fs})
	if err != nil {
		b.Fatal(err)
	}
	b.opts.Journal, b.opts.Anonymous = j, true
	b.opts.Listeners = listeners
	if b.srv, err = server.New(b.opts); err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- b.srv.Run(ctx) }()
	b.stop = func() {
		cancel()
		if err := <-ended; err != nil {
			b.Error(err)
		}
		if err := j.Close(); err != nil && !errors.Is(err, journal.ErrClosed) { // a check may have closed it
			b.Error(err)
		}
		b.stop = func() {}
	}
}

func (b *bench) dial() *brokertest.Client {
	b.Helper()
	if b.addr == "" {
		b.start()
	}
	return brokertest.Dial(b, b.addr, b.v)
}

// with connects as p says and wants to be accepted.
func (b *bench) with(p wire.Connect) (*brokertest.Client, *wire.Connack) {
	b.Helper()
	c := b.dial()
	ack := c.Connect(p)
	if ack.Code != wire.Success {
		b.Fatalf("CONNACK: %v", ack.Code)
	}
	return c, ack
}

// open connects with a session that ends with the connection.
func (b *bench) open(id string) *brokertest.Client {
	b.Helper()
	c, _ := b.with(wire.Connect{ClientID: id, CleanStart: true})
	return c
}

// resume connects with a durable session, and reports whether it was present.
func (b *bench) resume(id string) (*brokertest.Client, bool) {
	b.Helper()
	c, ack := b.with(b.lasting(id))
	return c, ack.SessionPresent
}

func (b *bench) lasting(id string) (p wire.Connect) {
	p.ClientID = id
	if b.v == wire.V5 {
		p.Properties.SessionExpiry = ptr(uint32(3600))
	}
	return p
}

func ptr[T any](v T) *T { return &v }

// ends wants the connection closed, after a DISCONNECT with the reason in 5.0.
func (b *bench) ends(c *brokertest.Client, want wire.Code) {
	b.Helper()
	if got := c.Closed(); b.v == wire.V5 && got != want {
		b.Errorf("DISCONNECT: got %v, want %v", got, want)
	}
}

// refused wants the answer to a CONNECT, and then the end.
func (b *bench) refused(c *brokertest.Client, want wire.Code) {
	b.Helper()
	got := brokertest.Receive[*wire.Connack](c)
	if got.Code != want || got.SessionPresent {
		b.Errorf("CONNACK: got %v, session present %v, want %v", got.Code, got.SessionPresent, want)
	}
	if code := c.Closed(); code != 0 {
		b.Errorf("DISCONNECT %v after a refusal", code)
	}
}

// raw sends bytes written as hexadecimal.
func (b *bench) raw(c *brokertest.Client, s string) {
	b.Helper()
	p, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		b.Fatal(err)
	}
	c.SendBytes(p)
}

// subscribe wants each filter granted with its QoS.
func (b *bench) subscribe(c *brokertest.Client, subs ...wire.Subscription) {
	b.Helper()
	c.Send(&wire.Subscribe{ID: 77, Subscriptions: subs})
	ack := brokertest.Receive[*wire.Suback](c)
	for i, s := range subs {
		if ack.Type != wire.SUBACK || ack.ID != 77 || len(ack.Codes) != len(subs) || ack.Codes[i] != wire.Code(s.QoS) {
			b.Fatalf("SUBACK %+v for %+v", ack, subs)
		}
	}
}

func (b *bench) filter(c *brokertest.Client, filter string, qos byte) {
	b.Helper()
	b.subscribe(c, wire.Subscription{Filter: filter, QoS: qos})
}

// publish sends a message and takes its handshake to the end.
func (b *bench) publish(c *brokertest.Client, p wire.Publish) {
	b.Helper()
	if p.QoS > 0 && p.ID == 0 {
		p.ID = 99
	}
	c.Send(&p)
	switch p.QoS {
	case 1:
		b.ack(c, wire.PUBACK, p.ID, 0)
	case 2:
		b.ack(c, wire.PUBREC, p.ID, 0)
		c.Send(&wire.Ack{Type: wire.PUBREL, ID: p.ID})
		b.ack(c, wire.PUBCOMP, p.ID, 0)
	}
}

// ack wants a certain acknowledgement next.
func (b *bench) ack(c *brokertest.Client, t wire.Type, id uint16, code wire.Code) *wire.Ack {
	b.Helper()
	a := brokertest.Receive[*wire.Ack](c)
	if a.Type != t || a.ID != id || b.v == wire.V5 && a.Code != code {
		b.Errorf("got %v of %d with %v, want %v of %d with %v", a.Type, a.ID, a.Code, t, id, code)
	}
	return a
}

// message wants a message next, without answering it.
func (b *bench) message(c *brokertest.Client, topic, payload string) *wire.Publish {
	b.Helper()
	p := brokertest.Receive[*wire.Publish](c)
	if p.Topic != topic || string(p.Payload) != payload {
		b.Errorf("got %q to %q, want %q to %q", p.Payload, p.Topic, payload, topic)
	}
	return p
}

// take is message, and takes the handshake to the end.
func (b *bench) take(c *brokertest.Client, topic, payload string) *wire.Publish {
	b.Helper()
	p := b.message(c, topic, payload)
	b.settle(c, p)
	return p
}

func (b *bench) settle(c *brokertest.Client, p *wire.Publish) {
	b.Helper()
	switch p.QoS {
	case 1:
		c.Send(&wire.Ack{Type: wire.PUBACK, ID: p.ID})
	case 2:
		c.Send(&wire.Ack{Type: wire.PUBREC, ID: p.ID})
		b.ack(c, wire.PUBREL, p.ID, 0)
		c.Send(&wire.Ack{Type: wire.PUBCOMP, ID: p.ID})
	}
}

func text(s string) []byte { return []byte(s) }

// malformed sends each of the packets on a connection of its own, which has to end with the code.
func (b *bench) malformed(want wire.Code, packets ...string) {
	b.Helper()
	for _, p := range packets {
		c := b.open("")
		b.raw(c, p)
		if got := c.Closed(); b.v == wire.V5 && got != want {
			b.Errorf("%s: got %v, want %v", p, got, want)
		}
	}
}

// badConnect sends each CONNECT, and wants the connection closed without an answer that accepts it.
func (b *bench) badConnect(packets ...string) {
	b.Helper()
	for _, p := range packets {
		c := b.dial()
		b.raw(c, p)
		got, err := c.Next()
		if a, ok := got.(*wire.Connack); ok && a.Code == wire.Success || err == nil && !ok {
			b.Errorf("%s: answered with %s", p, brokertest.Describe(got))
		}
		if err == nil {
			c.Closed()
		}
	}
}

// of chooses what depends on the version.
func of[T any](b *bench, v311, v5 T) T {
	if b.v == wire.V5 {
		return v5
	}
	return v311
}

// TestConformance makes each check for each version that a statement of its belongs to.
func TestConformance(t *testing.T) {
	checks := map[string]func(*bench){}
	for _, m := range []map[string]func(*bench){connectChecks, publishChecks, sessionChecks} {
		maps.Copy(checks, m)
	}
	begun := map[string]bool{} // checks, and with their version
	for _, r := range statements {
		if strings.HasPrefix(r.test, "!") {
			continue
		}
		check, ok := checks[r.test]
		if !ok {
			t.Errorf("no check %q for %q", r.test, r.what)
			continue
		}
		begun[r.test] = true
		for v, numbers := range map[wire.Version]string{wire.V311: r.v311, wire.V5: r.v5} {
			full := r.test + "/" + name(v)
			if numbers == "" || begun[full] {
				continue
			}
			begun[full] = true
			t.Run(full, func(t *testing.T) {
				t.Parallel()
				check(newBench(t, v))
			})
		}
	}
	for name := range checks {
		if !begun[name] {
			t.Errorf("check %q covers no statement", name)
		}
	}
}

func name(v wire.Version) string {
	if v == wire.V5 {
		return "5"
	}
	return "3.1.1"
}

// frame encodes a packet, to be changed before it is sent.
func frame(v wire.Version, p wire.Packet) []byte { return bytes.Clone(wire.Append(nil, v, p)) }
