//go:build !race

// The race detector makes pools forget.

package server

import (
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"holdfast/broker/journal"
	"holdfast/broker/wire"
)

// hot is a server, a client to work for, and a scratch, so that a test can act for the reading goroutine.
func hot(t testing.TB, subscribers int, qos byte) (*conn, *scratch) {
	fs, err := journal.NewDirFS(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	j, err := journal.Open(journal.Options{FS: fs})
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(Options{Journal: j, Anonymous: true, MaxQueued: 1 << 30, MaxQueuedTotal: 1 << 40})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var work sync.WaitGroup
	t.Cleanup(func() {
		s.shutdown()
		s.work.Wait()
		l.Close()
		work.Wait()
		j.Close()
	})
	dial := func(id string, more ...wire.Packet) *conn {
		near, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		far, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		s.Serve(far)
		b := wire.Append(nil, wire.V311, &wire.Connect{Version: wire.V311, ClientID: id, CleanStart: true})
		for _, p := range more {
			b = wire.Append(b, wire.V311, p)
		}
		near.Write(b)
		in := wire.NewReader(near, 0)
		for range 1 + len(more) {
			if _, err := in.ReadPacket(); err != nil {
				t.Fatal(err)
			}
		}
		work.Go(func() {
			io.Copy(io.Discard, near)
			near.Close()
		})
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.sessions.byID[id].conn.Load()
	}
	for i := range subscribers {
		dial("sub"+string(rune('a'+i)), &wire.Subscribe{ID: 1, Subscriptions: []wire.Subscription{{Filter: "site/#", QoS: qos}}})
	}
	d := s.scratches.Get().(*scratch)
	d.now = time.Now()
	return dial("pub"), d
}

// TestNoAllocationAtQoS0: from the bytes that were read to the bytes that are written.
func TestNoAllocationAtQoS0(t *testing.T) {
	for _, subscribers := range []int{0, 1, 10} {
		c, d := hot(t, subscribers, 0)
		packet, _, err := wire.Split(wire.Append(nil, wire.V311, &wire.Publish{Topic: "site/7/temperature", Payload: make([]byte, 256)}), 0)
		if err != nil {
			t.Fatal(err)
		}
		const batch = 50 // of one read
		once := func() {
			for range batch {
				if err := c.handle(packet, d); err != nil {
					t.Fatal(err)
				}
			}
			d.finish(c.s)
		}
		for range 20 { // buffers grow
			once()
		}
		if n := testing.AllocsPerRun(50, once) / batch; n > 0.2 {
			t.Errorf("%d subscribers: %.2f allocations for a message, want none", subscribers, n)
		}
	}
}

func BenchmarkPublish(b *testing.B) {
	for _, n := range []int{1, 10} {
		b.Run(map[int]string{1: "QoS 0 to 1", 10: "QoS 0 to 10"}[n], func(b *testing.B) {
			c, d := hot(b, n, 0)
			packet, _, _ := wire.Split(wire.Append(nil, wire.V311, &wire.Publish{Topic: "site/7/temperature", Payload: make([]byte, 256)}), 0)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				c.handle(packet, d)
				if i%50 == 0 {
					d.finish(c.s)
				}
			}
			d.finish(c.s)
		})
	}
}
