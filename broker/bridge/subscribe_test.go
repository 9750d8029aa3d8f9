package bridge

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/broker/wire"
)

func TestFormerFiltersAreGivenUp(t *testing.T) {
	s, u := newStore(t), newUpstream(t)
	l := newLocal(s)
	b := run(t, s, []string{u.url()}, l.in(wire.V311, "site/a", "site/b"))
	u.commands(false)
	s.numbers(0, 1) // durable after what the bridge has noted
	b.stop()
	b = run(t, s, []string{u.url()}, l.in(wire.V311, "site/b", "site/c"))
	p, _ := u.accept()
	p.send(&wire.Connack{SessionPresent: true})
	if gone, ok := p.read().(*wire.Unsubscribe); !ok || len(gone.Filters) != 1 || gone.Filters[0] != "site/a" {
		t.Fatalf("got %+v", gone)
	}
	sub, ok := p.read().(*wire.Subscribe)
	if !ok || len(sub.Subscriptions) != 2 {
		t.Fatalf("got %+v", sub)
	}
	p.send(&wire.Suback{Type: wire.SUBACK, ID: sub.ID, Codes: []wire.Code{1, 0x80}})
	b.logs.wait("nothing comes in by a rule")
	b.stop()
	if st := b.Stats(); !strings.Contains(st.LastError, `"site/c"`) {
		t.Errorf("got %+v", st)
	}
}

// TestAnUnansweredSubscription: an upstream that acknowledges what goes out, and never answers the
// subscription, is left for another attempt.
func TestAnUnansweredSubscription(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, pipe := newStore(t), make(pipes, 1)
		u := &upstream{t, pipe}
		b := run(t, s, []string{u.url()}, func(o *Options) {
			newLocal(s).in(wire.V311, "site/#")(o)
			o.Dial = pipe.dial
		})
		p := u.welcome()
		began := time.Now()
		for left := false; !left; {
			switch packet := p.read().(type) {
			case *wire.Ping:
				p.send(&wire.Ping{Type: wire.PINGRESP})
			case *wire.Disconnect:
				left = true
			case *wire.Subscribe:
			default:
				t.Fatalf("got %+v", packet)
			}
		}
		if took := time.Since(began); took < subackTimeout || took > subackTimeout+time.Second {
			t.Errorf("left after %v, want %v", took, subackTimeout)
		}
		u.commands(false)
		b.stop()
		if st := b.Stats(); !strings.Contains(st.LastError, "subscription") {
			t.Errorf("got %+v", st)
		}
	})
}
