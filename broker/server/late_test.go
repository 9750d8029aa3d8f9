package server

import (
	"slices"
	"testing"
	"time"

	"holdfast/broker"
	"holdfast/broker/journal"
	"holdfast/broker/wire"
)

// TestALateDurableSession: a session of the journal that subscribes after the search for subscribers is
// not owed the message there, and gets it from memory, connected or not.
func TestALateDurableSession(t *testing.T) {
	for _, away := range []bool{false, true} {
		fs, err := journal.NewDirFS(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		j, err := journal.Open(journal.Options{FS: fs})
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
		settled := make(chan error, 1)
		message := func(topic string) *broker.Message {
			return &broker.Message{Topic: topic, QoS: 1, Retain: true, Payload: []byte("x")}
		}
		put := func(topic string, t *topic) {
			p := newPublication(s, message(topic), time.Now())
			p.opts.Done = func(err error) { settled <- err }
			s.publish(p, t, nil)
		}
		put("r/old", s.index.Named("r/old"))
		<-settled

		before := s.index.Named("r/new")
		expiry := uint32(100)
		connect := &wire.Connect{Version: wire.V5, ClientID: "c", Properties: wire.Properties{SessionExpiry: &expiry}}
		c := speak(t, s, wire.V5)
		go c.send(connect, &wire.Subscribe{ID: 1, Subscriptions: []wire.Subscription{{Filter: "r/+", QoS: 1}}})
		receive := func() string {
			for {
				c.conn.SetReadDeadline(time.Now().Add(20 * time.Second))
				p, err := c.in.ReadPacket()
				if err != nil {
					t.Fatal(err)
				}
				if p, ok := p.(*wire.Publish); ok {
					go c.send(&wire.Ack{Type: wire.PUBACK, ID: p.ID})
					return p.Topic
				}
			}
		}
		if got := receive(); got != "r/old" {
			t.Fatalf("got %s", got)
		}
		if away {
			s.mu.Lock()
			x := s.sessions.byID["c"]
			s.mu.Unlock()
			gone := x.conn.Load()
			c.conn.Close()
			<-gone.ended
		}
		put("r/new", before)
		if err := <-settled; err != nil {
			t.Fatal(err)
		}
		put("r/end", s.index.Named("r/end"))
		<-settled
		if away {
			c = speak(t, s, wire.V5)
			go c.send(connect)
		}
		got := []string{receive(), receive()}
		if away && got[0] == "r/old" { // its PUBACK was on its way
			got = []string{got[1], receive()}
		}
		if want := []string{"r/new", "r/end"}; !slices.Equal(got, want) {
			t.Errorf("away %v: got %q, want %q", away, got, want)
		}
	}
}
