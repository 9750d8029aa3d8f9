package bridge

import (
	"strings"
	"testing"

	"holdfast/broker"
	"holdfast/broker/wire"
)

func TestMarks(t *testing.T) {
	s, u := newStore(t), newUpstream(t)
	l := newLocal(s)
	change := func(o *Options) {
		l.in(wire.V5, "site/#")(o)
		o.Out = []Rule{{Filter: "#", QoS: 1}}
	}
	b := run(t, s, []string{u.url()}, change)
	p, _, _ := u.commands(false)
	b.logs.wait("upstream connected")
	b.Deliver(&broker.Message{Topic: "live"})
	live := p.publish()
	s.add(&broker.Message{Topic: "t", QoS: 1})
	sent := p.publish()
	for m, numbered := range map[*wire.Publish]bool{live: false, sent: true} {
		f, err := wire.ParseForward(m.Forward)
		if err != nil || len(f.User) != 1 || f.User[0].Name != markName || !strings.HasPrefix(f.User[0].Value, "here/test/") ||
			strings.HasSuffix(f.User[0].Value, "/0") == numbered {
			t.Fatalf("%s: got %+v %v", m.Topic, f, err)
		}
	}
	p.ack(sent.ID)
	from := func(id uint16, values ...string) *wire.Publish {
		m := command(id, int(id), false)
		for _, v := range values {
			m.Forward = wire.AppendUser(m.Forward, markName, []byte(v))
		}
		return m
	}
	p.send(from(1, "there/x/1/1"))
	p.send(from(2, "there/x/1/1"))                          // sent twice by the other gateway
	p.send(from(3, "there/x/1/1", "here/test/1/5"))         // has been here
	p.send(from(4, "there/x/1/2"))                          // another
	p.send(from(5, "a", "b", "c", "d", "e", "f", "g", "h")) // runs in circles
	p.send(from(6, "hereabouts/x/1/1"))
	p.send(from(7, "there/x/1/0")) // of QoS 0, there: all of them look the same
	p.send(from(8, "there/x/1/0"))
	p.send(from(10, "there/x/1/0", "here/test/1/0"))
	l.expect(1, 4, 6, 7, 8)
	for n := 0; n < 9; {
		if a, ok := p.read().(*wire.Ack); ok && a.Type == wire.PUBACK {
			n++
		}
	}
	p.Close()
	p, _, _ = u.commands(false)
	p.send(from(9, "there/x/1/2"))
	for {
		if a, ok := p.read().(*wire.Ack); ok && a.ID == 9 {
			break
		}
	}
	l.nothing()
}
