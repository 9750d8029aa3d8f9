package bridge

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"holdfast/broker"
	"holdfast/broker/journal"
	"holdfast/broker/outbox"
	"holdfast/broker/wire"
)

func v5(o *Options) { o.Protocol = wire.V5 }

func ref[T any](v T) *T { return &v }

func TestProperties(t *testing.T) {
	s, u := newStore(t), newUpstream(t)
	f := wire.Forwarded{
		UTF8: true, ContentType: "text/plain", ResponseTopic: "answers", CorrelationData: []byte{1, 2},
		User: []wire.UserProperty{{Name: "a", Value: "1"}, {Name: "a", Value: "2"}},
	}
	s.add(&broker.Message{Topic: "t", QoS: 1, Properties: f.Append(nil), Expires: true, Expiry: 1000})
	b := run(t, s, []string{u.url()}, v5)
	p := u.welcome()
	b.logs.wait("upstream connected")
	b.Deliver(&broker.Message{Topic: "live", Properties: f.Append(nil)})
	for range 2 { // in either order
		m := p.publish()
		got, err := wire.ParseForward(m.Forward)
		if err != nil || fmt.Sprint(got) != fmt.Sprint(f) {
			t.Errorf("got %+v %+v %v, want %+v", m, got, err, f)
		}
		if m.Topic == "t" && (!m.Expires || m.Expiry > 1000 || m.Expiry < 900) {
			t.Errorf("expires %v %d", m.Expires, m.Expiry)
		}
	}
	b.stop()
}

func TestLimitsOfTheUpstream(t *testing.T) {
	s, u := newStore(t), newUpstream(t)
	s.add(
		&broker.Message{Topic: "first/topic", QoS: 1, Retain: true},
		&broker.Message{Topic: "large", QoS: 1, Payload: make([]byte, 100)},
		&broker.Message{Topic: "first/topic", QoS: 1},
		&broker.Message{Topic: "second", QoS: 1},
	)
	refused := make(chan string, 10)
	b := run(t, s, []string{u.url()}, func(o *Options) {
		o.Protocol = wire.V5
		o.Refused = func(d *journal.Delivery, reason string) error {
			refused <- d.Message.Topic + ": " + reason
			return nil
		}
	})
	p := u.welcomeWith(wire.Connack{Properties: wire.Properties{
		ReceiveMaximum: ref(uint16(2)), MaximumPacketSize: ref(uint32(90)), TopicAliasMaximum: ref(uint16(1)), RetainAvailable: ref(byte(0)),
	}})
	first, again := p.publish(), p.publish()
	if first.Topic != "first/topic" || first.TopicAlias != 1 || first.Retain || again.Topic != "" || again.TopicAlias != 1 {
		t.Errorf("got %+v %+v, want an alias that is used again", first, again)
	}
	b.quit()
	p.ack(first.ID, again.ID)
	p.goodbye() // a third was over the receive maximum
	b.stop()
	if got := <-refused; !strings.Contains(got, "large: packet too large: 1") || len(refused) > 0 {
		t.Errorf("refused %s, and %d more", got, len(refused))
	}
	if st := b.Stats(); st.Refused != 1 || st.Depth != 1 {
		t.Errorf("got %+v", st)
	}
}

// TestReasonCodes: what is refused for good is set aside, what is not comes again, in order.
func TestReasonCodes(t *testing.T) {
	s, u := newStore(t), newUpstream(t)
	s.numbers(0, 6)
	refused := make(chan string, 10)
	fail := errors.New("the disk is full")
	b := run(t, s, []string{u.url()}, func(o *Options) {
		o.Protocol = wire.V5
		o.Refused = func(d *journal.Delivery, reason string) error {
			err := fail
			fail = nil
			refused <- fmt.Sprint(number(d.Message.Payload), " ", reason)
			return err
		}
	})
	p := u.welcome()
	ids := p.expect(0, 1, 2, 3, 4, 5)
	answer := func(id uint16, code wire.Code) {
		p.send(&wire.Ack{Type: wire.PUBACK, ID: id, Code: code, Properties: wire.Properties{ReasonString: ref("because")}})
	}
	answer(ids[0], wire.NoMatchingSubscribers)
	answer(ids[1], wire.NotAuthorized)
	answer(ids[2], wire.QuotaExceeded)
	answer(ids[3], wire.TopicNameInvalid)
	answer(ids[4], wire.Success)
	answer(ids[5], wire.Unspecified)
	p.ack(p.expect(2)...)
	for range outbox.MaxTries - 1 {
		answer(p.expect(5)[0], wire.Unspecified)
	}
	s.numbers(6, 7)
	p.ack(p.expect(6)...)
	p.Close()
	p = u.welcome()
	answer(p.expect(1)[0], wire.NotAuthorized) // could not be set aside before
	s.numbers(7, 8)
	p.ack(p.expect(7)...)
	b.stop()
	for _, want := range []string{"1 upstream says: not authorized (\"because\")", "3 upstream says: topic name invalid", "5 upstream says: unspecified", "1 upstream"} {
		if got := <-refused; !strings.HasPrefix(got, want) {
			t.Errorf("refused %s, want %s", got, want)
		}
	}
	if st := b.Stats(); st.Refused != 3 || st.Depth != 0 || st.Acknowledged != 5 {
		t.Errorf("got %+v", st)
	}
}

// TestAuto: 5 is spoken where it is known, and an upstream that did not know it is not asked again soon.
func TestAuto(t *testing.T) {
	for name, answer := range map[string][]byte{
		"closes":        nil,
		"3.1.1 refusal": {0x20, 2, 0, 1},
		"5 refusal":     {0x20, 3, 0, 0x84, 0},
		"not a CONNACK": {0x20, 2, 0, 77},
	} {
		t.Run(name, func(t *testing.T) {
			s, u := newStore(t), newUpstream(t)
			b := run(t, s, []string{u.url()}, func(o *Options) { o.Protocol = 0 })
			p, connect := u.accept()
			if connect.Version != wire.V5 {
				t.Errorf("speaks %d first", connect.Version)
			}
			_, _ = p.Write(answer)
			p.Close()
			for range 2 {
				p, connect = u.accept()
				if connect.Version != wire.V311 {
					t.Errorf("speaks %d then", connect.Version)
				}
				p.send(&wire.Connack{})
				s.numbers(0, 1)
				p.ack(p.expect(0)...)
				p.Close()
			}
			b.stop()
		})
	}
	s, u := newStore(t), newUpstream(t)
	s.numbers(0, 1)
	b := run(t, s, []string{u.url()}, func(o *Options) { o.Protocol = 0 })
	p, connect := u.accept()
	if connect.Version != wire.V5 {
		t.Errorf("speaks %d", connect.Version)
	}
	p.send(&wire.Connack{})
	p.ack(p.expect(0)...)
	b.stop()
}

func TestDisconnectTellsWhy(t *testing.T) {
	s, u := newStore(t), newUpstream(t)
	b := run(t, s, []string{u.url()}, v5)
	p := u.welcome()
	p.send(&wire.Disconnect{Code: wire.SessionTakenOver, Properties: wire.Properties{ReasonString: ref("another gateway-1")}})
	p.Close()
	u.welcome()
	b.stop()
	if st := b.Stats(); !strings.Contains(st.LastError, "session taken over") || !strings.Contains(st.LastError, "another gateway-1") {
		t.Errorf("last error %q", st.LastError)
	}
}

func TestPings(t *testing.T) {
	s, u := newStore(t), newUpstream(t)
	b := run(t, s, []string{u.url()}, v5)
	p := u.welcomeWith(wire.Connack{Properties: wire.Properties{ServerKeepAlive: ref(uint16(1))}})
	for range 2 {
		if ping, ok := p.read().(*wire.Ping); !ok || ping.Type != wire.PINGREQ {
			t.Fatalf("got %+v", ping)
		}
		p.send(&wire.Ping{Type: wire.PINGRESP})
	}
	b.stop()
}
