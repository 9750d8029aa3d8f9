package bridge

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/broker"
	"holdfast/broker/journal"
	"holdfast/broker/wire"
)

// local is where a bridge publishes to. What came is settled by the journal, or by fail or hold.
type local struct {
	s    *store
	came chan *broker.Message

	mu   sync.Mutex
	fail error
	held []func()
	hold bool
}

func (l *local) publish(m *broker.Message, changes []journal.Change, done func(error)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.came <- m
	if l.fail != nil {
		done(l.fail)
		return
	}
	keep := func() {
		if err := l.s.j.Append(journal.Entry{Changes: changes, Done: committed(done)}); err != nil {
			l.s.t.Error(err)
		}
	}
	if l.hold {
		l.held = append(l.held, keep)
		return
	}
	keep()
}

type committed func(error)

func (c committed) Committed(_ *journal.Entry, _ uint64, err error) { c(err) }

func (l *local) set(hold bool, fail error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hold, l.fail = hold, fail
	for _, keep := range l.held {
		keep()
	}
	l.held = nil
}

func newLocal(s *store) *local { return &local{s: s, came: make(chan *broker.Message, 100)} }

func (l *local) in(version wire.Version, filters ...string) func(*Options) {
	return func(o *Options) {
		o.Protocol, o.Out, o.Publish, o.Journal, o.Origin = version, nil, l.publish, l.s.j, "here"
		for _, f := range filters {
			o.In = append(o.In, Rule{Filter: f, QoS: 1, Strip: "site/", Prefix: "local/"})
		}
	}
}

// commands accepts the next connection, with a session that goes on or not, and its subscription.
func (u *upstream) commands(present bool) (*peer, *wire.Connect, *wire.Subscribe) {
	u.t.Helper()
	p, connect := u.accept()
	p.send(&wire.Connack{SessionPresent: present})
	if present && connect.Version != wire.V5 {
		return p, connect, nil
	}
	subscribe, ok := p.read().(*wire.Subscribe)
	if !ok {
		u.t.Fatalf("got %+v, want SUBSCRIBE", subscribe)
	}
	p.send(&wire.Suback{Type: wire.SUBACK, ID: subscribe.ID, Codes: make([]wire.Code, len(subscribe.Subscriptions))})
	return p, connect, subscribe
}

func command(id uint16, n int, dup bool) *wire.Publish {
	return &wire.Publish{Topic: "site/cmd", ID: id, QoS: 1, Dup: dup, Payload: numbered(n).Payload}
}

// acked reads PUBACKs with these identifiers, and answers the ping that follows if answer.
func (p *peer) acked(answer bool, ids ...uint16) {
	p.t.Helper()
	pings := 0
	for len(ids) > 0 || pings == 0 {
		switch packet := p.read().(type) {
		case *wire.Ack:
			if len(ids) == 0 || packet.ID != ids[0] {
				p.t.Fatalf("acknowledges %d, want %v", packet.ID, ids)
			}
			ids = ids[1:]
		case *wire.Ping:
			pings++
			if answer {
				p.send(&wire.Ping{Type: wire.PINGRESP})
			}
		default:
			p.t.Fatalf("got %+v", packet)
		}
		if len(ids) == 0 && pings > 0 {
			return
		}
	}
}

func (l *local) expect(numbers ...int) {
	l.s.t.Helper()
	for _, n := range numbers {
		if m := <-l.came; number(m.Payload) != n || m.Topic != "local/cmd" || m.QoS != 1 {
			l.s.t.Fatalf("got %+v, want %d", m, n)
		}
	}
}

func (l *local) nothing() {
	l.s.t.Helper()
	if len(l.came) > 0 {
		l.s.t.Fatalf("got %+v, want nothing", <-l.came)
	}
}

func versions(t *testing.T, f func(t *testing.T, version wire.Version)) {
	for _, v := range []wire.Version{wire.V311, wire.V5} {
		t.Run(fmt.Sprint(v), func(t *testing.T) { f(t, v) })
	}
}

// TestInOnceEach: what was kept before the connection ended, or before the process did, is acknowledged
// when it comes again, and not published again.
func TestInOnceEach(t *testing.T) {
	versions(t, func(t *testing.T, version wire.Version) {
		s, u := newStore(t), newUpstream(t)
		l := newLocal(s)
		l.hold = true
		b := run(t, s, []string{u.url()}, l.in(version, "site/#"))
		p, connect, subscribe := u.commands(false)
		if connect.CleanStart || version == wire.V5 && *connect.Properties.SessionExpiry != 7*24*3600 {
			t.Errorf("got %+v", connect)
		}
		if sub := subscribe.Subscriptions[0]; sub.Filter != "site/#" || sub.QoS != 1 || version == wire.V5 && !(sub.NoLocal && sub.RetainAsPublished && sub.RetainHandling == 1) {
			t.Errorf("got %+v", sub)
		}
		p.send(command(1, 1, false))
		p.send(command(2, 2, false))
		l.expect(1, 2)
		p.Close() // neither was kept yet
		p, _, _ = u.commands(true)
		p.send(command(1, 1, true))
		p.send(command(2, 2, true))
		p.send(&wire.Publish{Topic: "site/cmd", Payload: numbered(3).Payload}) // so that it has seen them
		if m := <-l.came; number(m.Payload) != 3 || m.QoS != 0 {
			t.Fatalf("got %+v, want only the third", m)
		}
		l.set(false, nil)
		p.acked(false, 1, 2) // now they are
		b.stop()

		b = run(t, s, []string{u.url()}, l.in(version, "site/#"))
		p, _ = u.accept()
		p.send(&wire.Connack{SessionPresent: true})
		sub := p.read().(*wire.Subscribe)
		p.send(&wire.Suback{Type: wire.SUBACK, ID: sub.ID, Codes: []wire.Code{1}})
		p.send(command(1, 1, true))
		p.send(command(2, 4, true)) // another message under a known number
		l.expect(4)
		p.acked(true, 1, 2)
		p.send(command(3, 5, false))
		l.expect(5)
		p.acked(true, 3)
		p.send(command(4, 6, false)) // so that the answer to the ping has been seen
		l.expect(6)
		p.acked(true, 4)
		p.Close()
		p, _, _ = u.commands(true)
		p.send(command(3, 5, true)) // the upstream knew that we had this one: it is another, with the same words
		l.expect(5)
		p.acked(true, 3)
		b.stop()
		l.nothing()
		if st := b.Stats(); st.Received != 4 || st.Duplicates != 1 {
			t.Errorf("got %+v", st)
		}
	})
}

// TestInIdentifierUsedAgain: an upstream that has an acknowledgement uses the identifier again before the ping
// that followed it is answered. What comes by it then is still in doubt.
func TestInIdentifierUsedAgain(t *testing.T) {
	s, u := newStore(t), newUpstream(t)
	l := newLocal(s)
	b := run(t, s, []string{u.url()}, l.in(wire.V311, "site/#"))
	p, _, _ := u.commands(false)
	p.send(command(1, 1, false))
	l.expect(1)
	p.acked(false, 1)
	p.send(command(1, 2, false))
	l.expect(2)
	p.send(&wire.Ping{Type: wire.PINGRESP})
	p.acked(false, 1)
	p.Close()
	p, _, _ = u.commands(true)
	p.send(command(1, 2, true))
	p.acked(true, 1)
	b.stop()
	l.nothing()
	if st := b.Stats(); st.Received != 2 || st.Duplicates != 1 {
		t.Errorf("got %+v", st)
	}
}

// TestInIsNotLost: without a place to keep it nothing is acknowledged, nor what follows.
func TestInIsNotLost(t *testing.T) {
	s, u := newStore(t), newUpstream(t)
	l := newLocal(s)
	b := run(t, s, []string{u.url()}, l.in(wire.V311, "site/#"))
	p, _, _ := u.commands(false)
	l.set(false, errors.New("disk full"))
	p.send(command(1, 1, false))
	l.expect(1)
	b.logs.wait("cannot be stored")
	l.set(false, nil)
	p.send(command(2, 2, false))
	p.send(&wire.Publish{Topic: "site/cmd", Payload: numbered(3).Payload})
	if m := <-l.came; number(m.Payload) != 3 {
		t.Fatalf("got %+v, want only the third", m)
	}
	b.quit()
	p.goodbye()
	b.stop()
	l.nothing()
}

// TestInTooLarge: what the journal never takes is refused, and so is what is too long to be read; what follows comes.
func TestInTooLarge(t *testing.T) {
	s, u := newStore(t), newUpstream(t)
	l := newLocal(s)
	b := run(t, s, []string{u.url()}, l.in(wire.V311, "site/#"))
	p, _, _ := u.commands(false)
	l.set(false, fmt.Errorf("journal: %w", journal.ErrTooLarge))
	p.send(command(1, 1, false))
	l.expect(1)
	p.acked(true, 1)
	l.set(false, nil)
	p.send(command(2, 2, false))
	l.expect(2)
	p.acked(true, 2)
	large := command(3, 3, false)
	large.Payload = make([]byte, maxReceive)
	p.send(large)
	p.send(command(4, 4, false))
	l.expect(4)
	p.acked(true, 3, 4)
	b.stop()
	if st := b.Stats(); st.Refused != 2 || st.Reconnects != 0 || st.Received != 2 || !strings.Contains(b.logs.String(), "topic=site/cmd") {
		t.Errorf("got %+v, and in the log\n%s", st, b.logs)
	}
}

// TestInOfAnotherSession: an upstream that has lost the session begins its identifiers again, so that the same
// identifier with the same words is another message, although it is the second attempt to send it.
func TestInOfAnotherSession(t *testing.T) {
	s, u := newStore(t), newUpstream(t)
	l := newLocal(s)
	b := run(t, s, []string{u.url()}, l.in(wire.V311, "site/#"))
	p, _, _ := u.commands(false)
	p.send(command(1, 1, false))
	l.expect(1)
	p.acked(false, 1)
	p.Close()
	p, _, _ = u.commands(false)
	p.Close() // what it sent did not arrive
	p, _, _ = u.commands(true)
	p.send(command(1, 1, true))
	l.expect(1)
	p.acked(false, 1)
	b.stop()
	l.nothing()

	// The same with restarts here.
	b = run(t, s, []string{u.url()}, l.in(wire.V311, "site/#"))
	u.commands(false)
	s.numbers(0, 1) // durable after what the bridge has noted
	b.stop()
	b = run(t, s, []string{u.url()}, l.in(wire.V311, "site/#"))
	p, _ = u.accept()
	p.send(&wire.Connack{SessionPresent: true})
	sub := p.read().(*wire.Subscribe)
	p.send(&wire.Suback{Type: wire.SUBACK, ID: sub.ID, Codes: []wire.Code{1}})
	p.send(command(1, 1, true))
	l.expect(1)
	p.acked(true, 1)
	b.stop()
	l.nothing()
}

// TestInIsForgotten: a minute after the connection has begun, the upstream does not send again any more what an
// earlier one has acknowledged.
func TestInIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, pipe := newStore(t), make(pipes, 1)
		u := &upstream{t, pipe}
		l := newLocal(s)
		b := run(t, s, []string{u.url()}, func(o *Options) {
			l.in(wire.V311, "site/#")(o)
			o.Dial = pipe.dial
		})
		p, _, _ := u.commands(false)
		p.send(command(1, 1, false))
		l.expect(1)
		p.acked(false, 1)
		p.Close()
		p, _, _ = u.commands(true)
		for began := time.Now(); time.Since(began) < time.Minute; {
			p.acked(true) // a ping
		}
		p.send(command(2, 2, false)) // so that the answer has been seen
		l.expect(2)
		p.acked(true, 2)
		p.Close()
		p, _, _ = u.commands(true)
		p.send(command(1, 1, true))
		l.expect(1)
		p.acked(true, 1)
		b.stop()
		l.nothing()
	})
}
