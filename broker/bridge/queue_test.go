package bridge

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/broker"
	"holdfast/broker/journal"
	"holdfast/broker/outbox"
	"holdfast/broker/wire"
)

// queue makes a queue with readers of a store's journal.
func (s *store) queue(priority int, name string) *outbox.Queue {
	s.t.Helper()
	open := func(n int) (*journal.Reader, error) { return s.j.OpenReader(fmt.Sprintf("bridge/%s/%d", name, n)) }
	r, err := open(1)
	if err != nil {
		s.t.Fatal(err)
	}
	return outbox.NewQueue(priority, open, r)
}

// put makes messages durable for a queue's live reader, as the server does.
func (s *store) put(l *outbox.Queue, messages ...*broker.Message) {
	s.t.Helper()
	before := s.reader
	s.reader = l.Live()
	s.add(messages...)
	s.reader = before
}

func (s *store) putNumbers(l *outbox.Queue, from, to int) {
	s.t.Helper()
	var messages []*broker.Message
	for n := from; n < to; n++ {
		messages = append(messages, numbered(n))
	}
	s.put(l, messages...)
}

// TestAlarmPassesABacklog: with 100,000 messages waiting, one of a higher priority is sent as soon as there
// is room in the window.
func TestAlarmPassesABacklog(t *testing.T) {
	const backlog, window = 100_000, 10
	s, u := newStore(t), newUpstream(t)
	readings, alarms := s.queue(1, "readings"), s.queue(3, "alarms")
	s.putNumbers(readings, 0, backlog)
	b := run(t, s, []string{u.url()}, func(o *Options) {
		o.Reader, o.Queues, o.Window = nil, []*outbox.Queue{readings, alarms}, window
	})
	p := u.welcome()
	ids := p.expect(sequence(0, window)...)
	s.putNumbers(alarms, backlog, backlog+1)
	p.ack(ids[0])
	p.expect(backlog)
	p.ack(ids[1:]...)
	p.expect(sequence(window, 2*window-1)...)
	b.quit()
	b.stop()
	if d := b.Stats().Depth; d != backlog+1-window {
		t.Errorf("%d wait, want %d", d, backlog+1-window)
	}
}

// TestLiveFirst: what comes after the connection began does not wait for the backlog, which has its share of
// the window and no more; both are in order, and nothing is sent twice or left out.
func TestLiveFirst(t *testing.T) {
	const backlog, window, share = 1000, 20, 25
	s, u := newStore(t), newUpstream(t)
	l := s.queue(1, "a")
	s.putNumbers(l, 0, backlog)
	b := run(t, s, []string{u.url()}, func(o *Options) {
		o.Reader, o.Queues, o.Window, o.LiveFirst, o.Share = nil, []*outbox.Queue{l}, window, true, share
	})
	p := u.welcome()
	const late = 4 // 25 % of the first window, which is 16
	flight := p.expect(sequence(0, late)...)
	live, old := backlog, late
	next := func() { // one live message comes, is the next one that is sent, and an old one when there is room
		s.putNumbers(l, live, live+1)
		m := p.publish()
		if n := number(m.Payload); n != live {
			t.Fatalf("got %d, want the live %d", n, live)
		}
		live++
		p.ack(m.ID, flight[0])
		flight = append(flight[1:], p.expect(old)...)
		old++
	}
	for range 50 {
		next()
	}
	// The rest of the backlog, when nothing new comes.
	for old < backlog {
		p.ack(flight[0])
		flight = append(flight[1:], p.expect(old)...)
		if old++; old == backlog/2 {
			p.Close() // and a second outage in the middle, with a little coming meanwhile
			break
		}
	}
	p = u.welcome()
	unacked := old - len(flight)
	seen := map[int]bool{}
	for len(seen) < backlog-unacked {
		m := p.publish()
		n := number(m.Payload)
		if seen[n] || n < unacked || n >= backlog {
			t.Fatalf("got %d, again %v", n, seen[n])
		}
		seen[n] = true
		p.ack(m.ID)
	}
	s.putNumbers(l, live, live+3)
	p.ack(p.expect(live, live+1, live+2)...)
	b.quit()
	b.stop()
	if d := b.Stats().Depth; d != 0 {
		t.Errorf("%d wait, want none", d)
	}
}

// pipes is a net.Listener in memory, for tests on a clock that stands still.
type pipes chan net.Conn

func (p pipes) Accept() (net.Conn, error) { return <-p, nil }
func (p pipes) Close() error              { return nil }
func (p pipes) Addr() net.Addr            { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }

func (p pipes) dial(context.Context, *url.URL) (net.Conn, error) {
	here, there := net.Pipe()
	p <- there
	return here, nil
}

// TestRateOnTheWire: what is above the rate stays in the journal until its time has come, also at QoS 0.
func TestRateOnTheWire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, l := newStore(t), make(pipes, 1)
		u := &upstream{t, l}
		s.numbers(0, 10)
		b := run(t, s, []string{u.url()}, func(o *Options) {
			o.Rate, o.Dial = outbox.Rate{Messages: 2}, l.dial
		})
		p := u.welcome()
		start := time.Now()
		for n := range 10 {
			p.ack(p.expect(n)...)
			due := time.Duration(max(0, n-1)) * time.Second / 2 // two at once
			if took := time.Since(start); took < due || took > due+10*time.Millisecond {
				t.Errorf("message %d after %v, want %v", n, took, due)
			}
		}
		for range 3 {
			b.Deliver(&broker.Message{Topic: "live"})
		}
		for i := range 3 {
			p.publish()
			if took := time.Since(start) - 4*time.Second; took < time.Duration(i+1)*time.Second/2 {
				t.Errorf("QoS 0 message %d after %v more", i, took)
			}
		}
		b.quit()
		p.goodbye()
		b.stop()
	})
}

// TestReplayedMessagesSaySo, with when they were taken; those that come as they are sent do not.
func TestReplayedMessagesSaySo(t *testing.T) {
	s, u := newStore(t), newUpstream(t)
	l := s.queue(1, "a")
	s.putNumbers(l, 0, 3)
	s.put(l, &broker.Message{Topic: "t/n", Payload: []byte("abcd"), QoS: 1, Properties: []byte{0x03, 0, 1, 'x'}})
	taken, want := time.Now(), 2
	if _, synced := journal.Now(); !synced {
		want = 1 // its time is not known
	}
	run(t, s, []string{u.url()}, func(o *Options) {
		o.Reader, o.Queues, o.LiveFirst, o.Window, o.Protocol = nil, []*outbox.Queue{l}, true, 1, wire.V5
	})
	p := u.welcome()
	for i := range 4 {
		m := p.publish()
		f, err := wire.ParseForward(m.Forward)
		if err != nil || len(f.User) != want || f.User[0] != (wire.UserProperty{Name: "holdfast-replayed", Value: "true"}) {
			t.Fatalf("message %d: %+v, %v", i, f, err)
		}
		if want == 2 {
			at, err := time.Parse(time.RFC3339, f.User[1].Value)
			if err != nil || f.User[1].Name != "holdfast-taken" || at.After(taken) || taken.Sub(at) > time.Minute {
				t.Errorf("%+v, %v, want about %v", f.User[1], err, taken)
			}
		}
		if i == 3 && f.ContentType != "x" {
			t.Errorf("its own properties are gone: %+v", f)
		}
		p.ack(m.ID)
	}
	s.putNumbers(l, 4, 5)
	if m := p.publish(); number(m.Payload) != 4 || len(m.Forward) > 0 {
		t.Errorf("live message: %+v", m)
	}
}
