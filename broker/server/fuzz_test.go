package server

import (
	"context"
	"net"
	"runtime"
	"testing"
	"time"

	"holdfast/broker/journal"
	"holdfast/broker/wire"
)

// FuzzServer: whatever bytes a client sends, the server goes on serving others, and afterwards nothing of
// the client is left: no goroutine, no connection, no memory that waits for it.
func FuzzServer(f *testing.F) {
	for _, seed := range conversations() {
		f.Add(seed)
	}
	fs, err := journal.NewDirFS(f.TempDir())
	if err != nil {
		f.Fatal(err)
	}
	j, err := journal.Open(journal.Options{FS: fs, MaxSize: 4 << 20})
	if err != nil {
		f.Fatal(err)
	}
	s, err := New(Options{
		Journal: j, Anonymous: true, MaxPacket: 64 << 10, MaxQueued: 64 << 10, MaxSessions: 50, MaxSubscriptions: 20,
		MaxFilters: 200, MaxRetained: 50, MaxInflight: 10, ConnectTimeout: time.Second,
	})
	if err != nil {
		f.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	f.Cleanup(func() {
		cancel()
		<-ended
		j.Close()
	})
	others := make(chan struct{}, 1)
	watch := speak(f, s, wire.V5)
	watch.send(&wire.Connect{Version: wire.V5, ClientID: "watch", CleanStart: true},
		&wire.Subscribe{ID: 1, Subscriptions: []wire.Subscription{{Filter: "#", QoS: 2}, {Filter: "$share/g/#", QoS: 1}}})
	go func() { // answers nothing but takes everything, and knows its own message
		for {
			p, err := watch.in.ReadPacket()
			if err != nil {
				return
			}
			if _, ok := p.(*wire.Ping); ok {
				others <- struct{}{}
			}
		}
	}()
	// The engine ends a worker without a word after 10 s for one input: all waits together are shorter, so that
	// what was waited for is told. Without a keep alive watch also lives through the engine's own pauses.
	const idle = 20 // goroutines: about a dozen, and what a leak adds with every input does not stay below
	f.Fuzz(func(t *testing.T, b []byte) {
		near, far := net.Pipe()
		s.Serve(far)
		read := make(chan struct{})
		go func() {
			defer close(read)
			buf := make([]byte, 4096)
			for {
				if _, err := near.Read(buf); err != nil {
					return
				}
			}
		}()
		near.SetWriteDeadline(time.Now().Add(time.Second)) // a client that acknowledges nothing is not read on
		near.Write(b)
		near.Close()
		<-read
		deadline := time.Now().Add(4 * time.Second)
		for s.Stats().Connections > 1 || runtime.NumGoroutine() > idle {
			if time.Now().After(deadline) {
				buf := make([]byte, 1<<20)
				t.Fatalf("%d connections and %d goroutines are left\n%s", s.Stats().Connections, runtime.NumGoroutine(), buf[:runtime.Stack(buf, true)])
			}
			runtime.Gosched()
		}
		if n := s.memory.waiting.Load(); n > int64(s.opts.MaxQueued)+writeChunk { // of watch alone
			t.Fatalf("%d bytes wait", n)
		}
		watch.send(&wire.Ping{Type: wire.PINGREQ})
		select {
		case <-others:
		case <-time.After(4 * time.Second):
			t.Fatal("another client is not served any more")
		}
	})
}

type speaker struct {
	conn net.Conn
	in   *wire.Reader
	v    wire.Version
}

func speak(t testing.TB, s *Server, v wire.Version) *speaker {
	near, far := net.Pipe()
	s.Serve(far)
	t.Cleanup(func() { near.Close() })
	p := &speaker{near, wire.NewReader(near, 0), v}
	p.in.SetVersion(v)
	return p
}

func (p *speaker) send(packets ...wire.Packet) {
	var b []byte
	for _, x := range packets {
		b = wire.Append(b, p.v, x)
	}
	p.conn.Write(b) // if it fails nothing comes back
}

// conversations are what clients say, well-behaved and not.
func conversations() (all [][]byte) {
	for _, v := range []wire.Version{wire.V31, wire.V311, wire.V5} {
		join := func(packets ...wire.Packet) []byte {
			b := wire.Append(nil, v, &wire.Connect{Version: v, ClientID: "c", KeepAlive: 1})
			for _, p := range packets {
				b = wire.Append(b, v, p)
			}
			return b
		}
		id := uint32(7)
		all = append(all,
			join(),
			join(&wire.Publish{Topic: "t", Payload: []byte("x")}, &wire.Publish{Topic: "t", QoS: 1, ID: 1, Retain: true, Payload: []byte("x")},
				&wire.Publish{Topic: "t/u", QoS: 2, ID: 2}, &wire.Ack{Type: wire.PUBREL, ID: 2}, &wire.Ping{Type: wire.PINGREQ}),
			join(&wire.Subscribe{ID: 1, Subscriptions: []wire.Subscription{{Filter: "#", QoS: 2}, {Filter: "$share/g/+", QoS: 1}, {Filter: "a/#/b"}},
				Properties: wire.Properties{SubscriptionID: &id}},
				&wire.Publish{Topic: "t", QoS: 2, ID: 2, Payload: []byte("x")}, &wire.Ack{Type: wire.PUBREC, ID: 1}, &wire.Ack{Type: wire.PUBCOMP, ID: 1},
				&wire.Unsubscribe{ID: 3, Filters: []string{"#", "none"}}, &wire.Disconnect{}),
			join(&wire.Publish{Topic: "t", TopicAlias: 1, Forward: []byte("\x03\x00\x01x"), Expires: true, Expiry: 1},
				&wire.Publish{Topic: "u", TopicAlias: 1}, &wire.Publish{Topic: "$SYS/x", QoS: 1, ID: 1}, &wire.Connect{Version: v}),
			append(join(), 0x82, 0x02, 0x00, 0x01),             // a truncated SUBSCRIBE
			append(join(), 0x30, 0xff, 0xff, 0x03, 0x00, 0x01), // announces what does not come
			join(&wire.Ack{Type: wire.PUBACK, ID: 9}, &wire.Ack{Type: wire.PUBREC, ID: 9}, &wire.Ack{Type: wire.PUBREL, ID: 9}, &wire.Connack{}),
		)
	}
	w := &wire.Will{Topic: "t", Payload: []byte("w"), QoS: 1, Delay: 1, Retain: true}
	max, expiry := uint32(20), uint32(1)
	return append(all, wire.Append(nil, wire.V5, &wire.Connect{
		Version: wire.V5, CleanStart: true, Will: w, HasUsername: true, Username: "u",
		Properties: wire.Properties{MaximumPacketSize: &max, SessionExpiry: &expiry},
	}))
}
