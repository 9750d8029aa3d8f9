package server

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/broker/journal"
	"holdfast/broker/server/filters"
	"holdfast/broker/wire"
)

// TestUnreleasedPublishesAreBounded: QoS 2 publishes without PUBREL, over any number of connections of one session,
// in both versions; the one beyond ends the connection, and PUBRELs make room again, also after a restart.
func TestUnreleasedPublishesAreBounded(t *testing.T) {
	for _, v := range []wire.Version{wire.V311, wire.V5} {
		t.Run(fmt.Sprint(v), func(t *testing.T) {
			s := openServer(t, Options{MaxInflight: 8}, nil)
			id, expiry := strings.Repeat("c", 1000), uint32(1000)
			most := 8
			if v != wire.V5 {
				most = 80
			}
			back := func() *pipeClient {
				p := wire.Connect{ClientID: id}
				if v == wire.V5 {
					p.Properties.SessionExpiry = &expiry
				}
				return join(t, s, v, p)
			}
			c := back()
			publish := func(n uint16) {
				t.Helper()
				c.send(&wire.Publish{Topic: "t", QoS: 2, ID: n})
				if a, ok := c.read().(*wire.Ack); !ok || a.Type != wire.PUBREC || a.ID != n || a.Code >= 0x80 {
					t.Fatalf("publish %d: got %+v", n, a)
				}
			}
			release := func(n uint16) {
				t.Helper()
				c.send(&wire.Ack{Type: wire.PUBREL, ID: n})
				if a, ok := c.read().(*wire.Ack); !ok || a.Type != wire.PUBCOMP || a.ID != n {
					t.Fatalf("PUBREL %d: got %+v", n, a)
				}
			}
			refused := func(n uint16) {
				t.Helper()
				before := s.limits.Totals()["inflight"]
				c.send(&wire.Publish{Topic: "t", QoS: 2, ID: n})
				if v == wire.V5 {
					if d, ok := c.read().(*wire.Disconnect); !ok || d.Code != wire.ReceiveMaximumExceeded {
						t.Fatalf("publish %d: got %+v", n, d)
					}
				}
				c.conn.SetReadDeadline(time.Now().Add(30 * time.Second))
				if p, err := c.in.ReadPacket(); err == nil {
					t.Fatalf("publish %d: got %+v, want the end", n, p)
				}
				if got := s.limits.Totals()["inflight"]; got != before+1 {
					t.Errorf("refusals: got %d, want %d", got, before+1)
				}
				c = back()
			}
			for n := range most {
				publish(uint16(n + 1))
				if n%5 == 0 { // reconnecting gains nothing
					c.conn.Close()
					c = back()
				}
			}
			for n := range 3 {
				refused(uint16(1000 + n))
			}
			publish(1) // a repetition
			release(1)
			publish(2000)
			refused(2001)

			for key := range stateOf(s.journal, receivedKey) {
				if len(key) > 40 {
					t.Errorf("key of %d bytes", len(key))
				}
			}
			if got := len(stateOf(s.journal, receivedKey)); got != most {
				t.Errorf("%d keys, want %d", got, most)
			}
		})
	}
}

func stateOf(j *journal.Journal, prefix string) map[string][]byte {
	state := map[string][]byte{}
	j.Range(prefix, func(key string, value []byte) bool { state[key] = value; return true })
	return state
}

// TestKeysOfEarlierVersions: packet identifiers under keys with the client identifier are read, more than the limits
// of today allow, and replaced; those of sessions that are gone are removed. A client with so many deliveries that it
// never completed gets nothing new, and its PUBRELs in order.
func TestKeysOfEarlierVersions(t *testing.T) {
	dir, err := journal.NewDirFS(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	const n = 65535
	id := strings.Repeat("c", 300)
	old := func(prefix, client string, packet int) string {
		return string(binary.BigEndian.AppendUint16([]byte(prefix+client+"\x00"), uint16(packet)))
	}
	j, err := journal.Open(journal.Options{FS: dir})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := j.OpenReader(sessionKey + id); err != nil {
		t.Fatal(err)
	}
	changes := []journal.Change{
		{Key: sessionKey + id, Value: binary.AppendUvarint(nil, forever)},
		{Key: subKey + id + "\x00q", Value: encodeSubscription(filters.Subscription{QoS: 2})},
		{Key: old(oldReceivedKey, id, 7), Value: []byte{}},
		{Key: old(oldReceivedKey, "gone", 7), Value: []byte{}},
		{Key: receivedKey + "999/7", Value: []byte{}},
	}
	for i := range n { // sent in the order of 2, 3, ... 65535, 1
		packet := (i+1)%n + 1
		changes = append(changes, journal.Change{Key: old(oldDeliveredKey, id, packet), Value: binary.AppendUvarint([]byte{1}, uint64(i+1))})
	}
	for i := 0; i < len(changes); i += 1000 {
		j.WaitForRoom()
		if err := j.Append(journal.Entry{Changes: changes[i:min(i+1000, len(changes))]}); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // the second time from the new keys
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		if j, err = journal.Open(journal.Options{FS: dir}); err != nil {
			t.Fatal(err)
		}
		s, err := New(Options{Journal: j, Anonymous: true})
		if err != nil {
			t.Fatal(err)
		}
		c := join(t, s, wire.V311, wire.Connect{ClientID: id})
		c.send(&wire.Publish{Topic: "q", QoS: 2, ID: 7}) // a repetition: nothing is published
		first, rels := true, 0
		for rels < n {
			a, ok := c.read().(*wire.Ack)
			switch {
			case ok && a.Type == wire.PUBREC && a.ID == 7 && first:
				first = false
			case !ok || a.Type != wire.PUBREL || int(a.ID) != (rels+1)%n+1:
				t.Fatalf("PUBREL %d: got %+v, want identifier %d", rels, a, (rels+1)%n+1)
			default:
				rels++
			}
		}
		other := join(t, s, wire.V311, wire.Connect{ClientID: "other", CleanStart: true})
		for i := range 5 {
			other.send(&wire.Publish{Topic: "q", QoS: 2, ID: uint16(i + 1)})
			if a, ok := other.read().(*wire.Ack); !ok || a.Type != wire.PUBREC {
				t.Fatalf("got %+v", a)
			}
		}
		if first {
			c.read()
		}
		c.conn.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		if p, err := c.in.ReadPacket(); err == nil {
			t.Fatalf("got %+v, with all identifiers taken", p)
		} else if e, ok := err.(net.Error); !ok || !e.Timeout() {
			t.Fatal(err)
		}
		s.shutdown()
		s.work.Wait()
	}
	for prefix, want := range map[string]int{oldReceivedKey: 0, oldDeliveredKey: 0, receivedKey: 1, deliveredKey: n} {
		if got := len(stateOf(j, prefix)); got != want {
			t.Errorf("%s: %d keys, want %d", prefix, got, want)
		}
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestStateOfClientsIsBounded: where the state has its share, sessions, subscriptions and QoS 2 publishes of durable
// sessions are refused with a reason; what is there stays, and what is given up makes room.
func TestStateOfClientsIsBounded(t *testing.T) {
	dir, err := journal.NewDirFS(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	j, err := journal.Open(journal.Options{FS: dir, MaxState: 6000})
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(Options{Journal: j, Anonymous: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.shutdown()
		s.work.Wait()
		j.Close()
	})
	expiry := uint32(1000)
	connect := func(id string) (*pipeClient, wire.Code) {
		m := &pipeClient{speaker: speak(t, s, wire.V5), t: t}
		m.send(&wire.Connect{Version: wire.V5, ClientID: id, Properties: wire.Properties{SessionExpiry: &expiry}})
		return m, m.read().(*wire.Connack).Code
	}
	subscribe := func(c *pipeClient, filter string) wire.Code {
		c.n++
		c.send(&wire.Subscribe{ID: c.n, Subscriptions: []wire.Subscription{{Filter: filter, QoS: 1}}})
		return c.read().(*wire.Suback).Codes[0]
	}
	c, code := connect("c")
	if code != wire.Success {
		t.Fatal(code)
	}
	n := 0
	for ; code < 0x80; n++ {
		code = subscribe(c, fmt.Sprint("filter/", n))
	}
	if code != wire.QuotaExceeded || n < 10 {
		t.Fatalf("subscription %d: got %v", n, code)
	}
	if code := subscribe(c, "filter/0"); code != 1 {
		t.Errorf("subscription that is there: got %v", code)
	}
	if x := s.sessionOf("c"); len(x.subs.byFilter) != n-1 {
		t.Errorf("%d subscriptions, want %d", len(x.subs.byFilter), n-1)
	}
	if _, code := connect(strings.Repeat("d", 500)); code != wire.QuotaExceeded {
		t.Errorf("new session: got %v", code)
	}
	for i := 0; subscribe(c, fmt.Sprint(i)) < 0x80; i++ { // shorter keys than that of a packet identifier
	}
	c.send(&wire.Publish{Topic: "t", QoS: 2, ID: 1})
	if a := c.read().(*wire.Ack); a.Code != wire.QuotaExceeded {
		t.Errorf("QoS 2 publish: got %v", a.Code)
	}
	c.n++
	c.send(&wire.Unsubscribe{ID: c.n, Filters: []string{"filter/1", "filter/2"}})
	c.read()
	c.send(&wire.Publish{Topic: "t", QoS: 2, ID: 2})
	if a := c.read().(*wire.Ack); a.Code != wire.Success {
		t.Errorf("with room again: got %v", a.Code)
	}
	if s.limits.Totals()["state"] < 2 {
		t.Errorf("refusals: %v", s.limits.Totals())
	}
	c.conn.Close()
	if _, code := connect("c"); code != wire.Success {
		t.Errorf("session that is there: got %v", code)
	}
}

// TestIdentifiersOfARewoundJournal: a QoS 2 publish that a client has not released is known again after a restart, but not
// by a journal that was restored from before the client released it: there the identifier is a new message's.
func TestIdentifiersOfARewoundJournal(t *testing.T) {
	for _, rewound := range []bool{false, true} {
		t.Run(fmt.Sprintf("rewound %v", rewound), func(t *testing.T) {
			dir, old := t.TempDir(), t.TempDir()
			start := func() (*Server, func()) {
				beside, err := journal.NewDirFS(dir)
				if err != nil {
					t.Fatal(err)
				}
				disk, err := journal.NewDirFS(filepath.Join(dir, "journal"))
				if err != nil {
					t.Fatal(err)
				}
				j, err := journal.Open(journal.Options{FS: disk, Beside: beside, MaxSize: 2 << 20})
				if err != nil {
					t.Fatal(err)
				}
				s, err := New(Options{Journal: j, Anonymous: true})
				if err != nil {
					t.Fatal(err)
				}
				return s, func() {
					s.shutdown()
					s.work.Wait()
					if err := j.Close(); err != nil {
						t.Fatal(err)
					}
				}
			}
			publish := func(c *pipeClient, payload string, dup bool) {
				c.send(&wire.Publish{Topic: "q", QoS: 2, ID: 7, Payload: []byte(payload), Dup: dup})
				if a, ok := c.read().(*wire.Ack); !ok || a.Type != wire.PUBREC || a.ID != 7 {
					t.Fatalf("got %+v, want PUBREC 7", a)
				}
			}
			s, stop := start()
			publish(join(t, s, wire.V311, wire.Connect{ClientID: "c"}), "first", false)
			stop()
			if err := os.CopyFS(old, os.DirFS(filepath.Join(dir, "journal"))); err != nil {
				t.Fatal(err)
			}
			if rewound {
				s, stop = start()
				c := join(t, s, wire.V311, wire.Connect{ClientID: "c"})
				c.send(&wire.Ack{Type: wire.PUBREL, ID: 7})
				c.read()
				stop()
				if err := errors.Join(os.RemoveAll(filepath.Join(dir, "journal")), os.CopyFS(filepath.Join(dir, "journal"), os.DirFS(old))); err != nil {
					t.Fatal(err)
				}
			}
			s, stop = start()
			defer func() { stop() }()
			sub := join(t, s, wire.V311, wire.Connect{ClientID: "sub", CleanStart: true})
			sub.subscribe("q", 0)
			c := join(t, s, wire.V311, wire.Connect{ClientID: "c"})
			want := []string{"end"}
			if rewound {
				publish(c, "new", false)
				want = []string{"new", "end"}
			} else {
				publish(c, "first", true)
			}
			c.send(&wire.Publish{Topic: "q", Payload: []byte("end")})
			for _, w := range want {
				if p, ok := sub.read().(*wire.Publish); !ok || string(p.Payload) != w {
					t.Fatalf("got %+v, want %s", p, w)
				}
			}
			if keys := stateOf(s.journal, receivedKey); len(keys) != 1 {
				t.Errorf("%d identifiers are stored, want 1: %v", len(keys), keys)
			}
		})
	}
}
