package bridge

import (
	"strings"
	"testing"
	"time"

	"holdfast/broker/journal"
	"holdfast/broker/wire"
)

// TestASuspectIsSetAside: an upstream of 3.1.1 that closes the connection at a certain message gets all
// others, in order, and that one no more.
func TestASuspectIsSetAside(t *testing.T) {
	versions(t, func(t *testing.T, version wire.Version) {
		s, u := newStore(t), newUpstream(t)
		s.numbers(0, 6)
		refused := make(chan string, 10)
		b := run(t, s, []string{u.url()}, func(o *Options) {
			o.Protocol = version
			o.Refused = func(d *journal.Delivery, reason string) error {
				if number(d.Message.Payload) != 3 {
					t.Errorf("refused %d", number(d.Message.Payload))
				}
				refused <- reason
				return nil
			}
		})
		const bad = 3
		var got []int
		connections := 0
		for len(got) < 5 {
			p := u.welcome()
			connections++
			for len(got) < 5 {
				packet := p.read()
				if ping, ok := packet.(*wire.Ping); ok && ping.Type == wire.PINGREQ {
					p.send(&wire.Ping{Type: wire.PINGRESP})
					continue
				}
				m, ok := packet.(*wire.Publish)
				if !ok {
					t.Fatalf("got %+v", packet)
				}
				n := number(m.Payload)
				if n == bad {
					if version == wire.V5 {
						p.send(&wire.Disconnect{Code: wire.PacketTooLarge})
					}
					p.Close()
					break
				}
				if len(got) == 0 || n > got[len(got)-1] {
					got = append(got, n)
				}
				p.ack(m.ID)
			}
		}
		b.stop()
		if reason := <-refused; !strings.Contains(reason, "7 times") {
			t.Errorf("refused because %s", reason)
		}
		if want := []int{0, 1, 2, 4, 5}; !equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
		if connections > closings+attempts+4 {
			t.Errorf("%d connections", connections)
		}
		if st := b.Stats(); st.Depth != 0 || st.Refused != 1 {
			t.Errorf("got %+v", st)
		}
	})
}

func equal(a, b []int) bool {
	for i := range a {
		if i >= len(b) || a[i] != b[i] {
			return false
		}
	}
	return len(a) == len(b)
}

// TestABreakingLinkSuspectsNobody: connections that end before the upstream has answered a ping, or by
// themselves, set nothing aside.
func TestABreakingLinkSuspectsNobody(t *testing.T) {
	s, u := newStore(t), newUpstream(t)
	s.numbers(0, 2)
	b := run(t, s, []string{u.url()}, func(o *Options) {
		o.Refused = func(*journal.Delivery, string) error {
			t.Error("a message was refused")
			return nil
		}
	})
	for range closings {
		p := u.welcome()
		p.expect(0, 1)
		p.Close()
	}
	for range 3 * attempts {
		p := u.welcome()
		if ping, ok := p.read().(*wire.Ping); !ok {
			t.Fatalf("got %+v, want a ping first", ping)
		}
		p.Close()
	}
	p := u.welcome()
	p.read()
	p.send(&wire.Ping{Type: wire.PINGRESP})
	p.ack(p.expect(0)...)
	p.ack(p.expect(1)...)
	b.stop()
	if st := b.Stats(); st.Depth != 0 {
		t.Errorf("got %+v", st)
	}
}

// TestFailBack: the first upstream is connected to before the second one is left.
func TestFailBack(t *testing.T) {
	s, first, second := newStore(t), newUpstream(t), newUpstream(t)
	s.numbers(0, 1)
	b := run(t, s, []string{first.url(), second.url()}, func(o *Options) { o.FailBack = 30 * time.Millisecond })
	p, _ := first.accept()
	p.Close()
	there := second.welcome()
	there.ack(there.expect(0)...)
	for range healthy { // it looks whether anybody is there
		c, err := first.l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
	p, _ = first.accept()
	p.Close() // does not speak: nothing changes
	s.numbers(1, 2)
	there.ack(there.expect(1)...)
	for range healthy {
		c, err := first.l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
	here := first.welcome()
	there.goodbye()
	s.numbers(2, 3)
	here.ack(here.expect(2)...)
	b.stop()
	if st := b.Stats(); st.Upstream != first.url() || st.Depth != 0 || st.Resent != 0 {
		t.Errorf("got %+v", st)
	}
}

func TestAnotherServer(t *testing.T) {
	s, u, other := newStore(t), newUpstream(t), newUpstream(t)
	s.numbers(0, 1)
	b := run(t, s, []string{u.url()}, v5)
	p, _ := u.accept()
	p.send(&wire.Connack{Code: wire.UseAnotherServer, Properties: wire.Properties{ServerReference: ref(strings.TrimPrefix(other.url(), "mqtt://"))}})
	p = other.welcome()
	p.ack(p.expect(0)...)
	p.send(&wire.Disconnect{Code: wire.ServerMoved, Properties: wire.Properties{ServerReference: ref("not:a:server")}})
	p.Close()
	u.welcome()
	b.stop()
	if st := b.Stats(); st.Depth != 0 || st.Upstream != u.url() {
		t.Errorf("got %+v", st)
	}
}
