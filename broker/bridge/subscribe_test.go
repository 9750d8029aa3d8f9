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
	if problems := b.Problems(); len(problems) != 1 || !strings.Contains(problems[0], `"site/c"`) {
		t.Errorf("problems %q", problems)
	}
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

// TestARefusedSubscriptionIsAskedForAgain by the same connection, later each time, and is a problem until it is taken.
func TestARefusedSubscriptionIsAskedForAgain(t *testing.T) {
	versions(t, func(t *testing.T, version wire.Version) {
		synctest.Test(t, func(t *testing.T) {
			s, pipe := newStore(t), make(pipes, 1)
			u := &upstream{t, pipe}
			b := run(t, s, []string{u.url()}, func(o *Options) {
				newLocal(s).in(version, "site/#")(o)
				o.Dial = pipe.dial
			})
			p := u.welcome()
			var at []time.Duration
			began := time.Now()
			for len(at) < 4 {
				switch packet := p.read().(type) {
				case *wire.Ping:
					p.send(&wire.Ping{Type: wire.PINGRESP})
				case *wire.Subscribe:
					code := wire.NotAuthorized
					if version != wire.V5 {
						code = 0x80
					}
					if at = append(at, time.Since(began)); len(at) == 4 {
						code = 1
					}
					p.send(&wire.Suback{Type: wire.SUBACK, ID: packet.ID, Codes: []wire.Code{code}})
					synctest.Wait()
					if n := len(b.Problems()); n != 1 && len(at) < 4 || n != 0 && len(at) == 4 {
						t.Errorf("%d problems after %d subscriptions", n, len(at))
					}
				}
			}
			for i, want := range []time.Duration{0, time.Minute, 3 * time.Minute, 7 * time.Minute} {
				if at[i] != want {
					t.Errorf("asked at %v, want %v", at, want)
				}
			}
			b.stop()
		})
	})
}
