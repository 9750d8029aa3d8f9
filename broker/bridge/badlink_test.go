package bridge

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"holdfast/broker/journal"
	"holdfast/broker/wire"
)

// TestPoisonIsSetAside: an upstream of 3.1.1 that closes the connection at a certain message gets all
// others, in order, and that one no more.
func TestPoisonIsSetAside(t *testing.T) {
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
		if reason := <-refused; !strings.Contains(reason, "2 times") {
			t.Errorf("refused because %s", reason)
		}
		if want := []int{0, 1, 2, 4, 5}; !equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
		if connections > 4 { // three end at the message
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

// TestABreakingLinkBlamesNoMessage: connections that end before the upstream has answered a ping, or by
// themselves, set nothing aside.
func TestABreakingLinkBlamesNoMessage(t *testing.T) {
	s, u := newStore(t), newUpstream(t)
	s.numbers(0, 2)
	b := run(t, s, []string{u.url()}, func(o *Options) {
		o.Refused = func(*journal.Delivery, string) error {
			t.Error("a message was refused")
			return nil
		}
	})
	p := u.welcome()
	p.expect(0, 1)
	p.Close()
	p = u.welcome()
	p.expect(0) // alone: the answer to CONNECT has just shown that the link is alive
	p.Close()
	for range 15 {
		p := u.welcome()
		if ping, ok := p.read().(*wire.Ping); !ok {
			t.Fatalf("got %+v, want a ping first", ping)
		}
		p.Close()
	}
	p = u.welcome()
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
	for range healthy { // it probes the first upstream
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
	// Followed only where the configuration lists the host, over TLS, and once: what comes after it is the configured one.
	for _, tt := range []struct {
		name, scheme, listed string
		inConnack, follows   bool
	}{
		{"listed host", "mqtts", "host", true, true},
		{"listed host and port", "mqtts", "address", true, true},
		{"in DISCONNECT", "mqtts", "host", false, true},
		{"not listed", "mqtts", "", true, false},
		{"not listed, in DISCONNECT", "mqtts", "", false, false},
		{"another port listed", "mqtts", "other", true, false},
		{"without TLS", "mqtt", "address", true, false},
		{"without TLS over a web socket", "ws", "address", true, false},
	} {
		for _, code := range []wire.Code{wire.UseAnotherServer, wire.ServerMoved} {
			t.Run(fmt.Sprint(tt.name, " ", code), func(t *testing.T) {
				s, u, other := newStore(t), newUpstream(t), newUpstream(t)
				address := other.l.Addr().String()
				host, _, _ := net.SplitHostPort(address)
				b := run(t, s, []string{tt.scheme + "://" + u.l.Addr().String()}, func(o *Options) {
					o.Protocol = wire.V5
					o.References = map[string][]string{"host": {host}, "address": {address}, "other": {host + ":1"}}[tt.listed]
					o.Dial = func(ctx context.Context, u *url.URL) (net.Conn, error) { // what is in TLS is not the matter here
						return new(net.Dialer).DialContext(ctx, "tcp", u.Host)
					}
				})
				named := wire.Properties{ServerReference: ref(address)}
				p, _ := u.accept()
				if tt.inConnack {
					p.send(&wire.Connack{Code: code, Properties: named})
				} else {
					p.send(&wire.Connack{})
					p.send(&wire.Disconnect{Code: code, Properties: named})
				}
				p.Close()
				if tt.follows {
					p = other.welcome()
					p.Close()
				}
				u.welcome()
				b.stop()
				if problems := b.Problems(); (len(problems) == 0) != tt.follows {
					t.Errorf("problems %q", problems)
				}
				other.l.(*net.TCPListener).SetDeadline(time.Now())
				if c, err := other.l.Accept(); err == nil {
					c.Close()
					t.Error("the other server was connected to")
				}
			})
		}
	}
}
