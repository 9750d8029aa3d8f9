package bridge

import (
	"testing"

	"holdfast/broker/wire"
)

// TestSentAgainAsTheSamePacket: in a session that goes on, what is not acknowledged is sent again with its identifier
// and DUP, in order, and new messages have others; a session that is not present starts anew [MQTT-4.4.0-1].
func TestSentAgainAsTheSamePacket(t *testing.T) {
	versions(t, func(t *testing.T, version wire.Version) {
		for _, present := range []bool{true, false} {
			s, u := newStore(t), newUpstream(t)
			l := newLocal(s)
			s.numbers(0, 3)
			b := run(t, s, []string{u.url()}, func(o *Options) {
				l.in(version, "site/#")(o)
				o.Out = []Rule{{Filter: "t/#", QoS: 1}}
			})
			p, _, _ := u.commands(false)
			ids := p.expect(0, 1, 2)
			p.ack(ids[0])
			p.Close()

			p, _ = u.accept()
			p.send(&wire.Connack{SessionPresent: present})
			if !present || version == wire.V5 {
				sub, ok := p.read().(*wire.Subscribe)
				if !ok {
					t.Fatal("want SUBSCRIBE")
				}
				p.send(&wire.Suback{Type: wire.SUBACK, ID: sub.ID, Codes: []wire.Code{1}})
			}
			s.numbers(3, 4)
			seen := map[uint16]bool{}
			for n := 1; n < 4; n++ {
				m, _ := p.skipPings().(*wire.Publish)
				if number(m.Payload) != n || seen[m.ID] {
					t.Fatalf("got %+v, want %d", m, n)
				}
				seen[m.ID] = true
				again := present && n < 3
				if m.Dup != again || again && m.ID != ids[n] {
					t.Errorf("present %v: %d with DUP %v and identifier %d, it had %v", present, n, m.Dup, m.ID, ids)
				}
				p.ack(m.ID)
			}
			b.stop()
			if st := b.Stats(); st.Depth != 0 {
				t.Errorf("got %+v", st)
			}
		}
	})
}

// TestPublishToABridgeThatTakesNothing: it is acknowledged, counted and said, so that an upstream which has kept a
// session sends on.
func TestPublishToABridgeThatTakesNothing(t *testing.T) {
	versions(t, func(t *testing.T, version wire.Version) {
		s, u := newStore(t), newUpstream(t)
		b := run(t, s, []string{u.url()}, func(o *Options) { o.Protocol = version })
		p := u.welcome()
		p.ack(2000) // of nothing
		p.send(command(7, 1, false))
		p.send(command(8, 2, true))
		for _, id := range []uint16{7, 8} {
			if a, ok := p.read().(*wire.Ack); !ok || a.ID != id || a.Type != wire.PUBACK {
				t.Fatalf("got %+v, want PUBACK of %d", a, id)
			}
		}
		b.stop()
		if st := b.Stats(); st.Refused != 2 || st.Reconnects != 0 {
			t.Errorf("got %+v", st)
		}
	})
}
