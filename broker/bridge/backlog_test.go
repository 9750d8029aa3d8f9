package bridge

import (
	"testing"
	"time"

	"holdfast/broker"
	"holdfast/broker/wire"
)

// queueing is an upstream with a session: a window and a queue, as MQTT brokers have them.
type queueing struct {
	*peer
	window int
	flying map[uint16]bool
	queue  []*wire.Publish
	answer bool // pings
}

// step handles one packet.
func (q *queueing) step() wire.Packet {
	q.t.Helper()
	q.fill()
	p := q.read()
	switch p := p.(type) {
	case *wire.Ack:
		delete(q.flying, p.ID)
	case *wire.Ping:
		if q.answer {
			q.fill()
			q.send(&wire.Ping{Type: wire.PINGRESP})
		}
	case *wire.Subscribe:
		q.send(&wire.Suback{Type: wire.SUBACK, ID: p.ID, Codes: make([]wire.Code, len(p.Subscriptions))})
	}
	return p
}

// fill sends what the window allows.
func (q *queueing) fill() {
	for len(q.flying) < q.window && len(q.queue) > 0 {
		m := q.queue[0]
		q.queue = q.queue[1:]
		q.flying[m.ID] = true
		q.send(m)
	}
}

// drained returns when everything was acknowledged, and a ping that came after that was answered.
func (q *queueing) drained() {
	q.t.Helper()
	for len(q.queue)+len(q.flying) > 0 {
		q.step()
	}
	for {
		if _, is := q.step().(*wire.Ping); is {
			return
		}
	}
}

// TestBacklogOfTheUpstream: a message shows whether it may have been queued upstream while the bridge was not connected,
// and for how long.
func TestBacklogOfTheUpstream(t *testing.T) {
	versions(t, func(t *testing.T, version wire.Version) {
		for _, window := range []int{1, 2, 100} {
			s := newStore(t)
			l := newLocal(s)
			u := newUpstream(t)
			run(t, s, []string{u.url()}, l.in(version, "site/#"))
			id := uint16(0)
			next := func(n int) (list []*wire.Publish) {
				for range n {
					id++
					list = append(list, command(id, int(id), false))
				}
				return list
			}
			connect := func(present bool, queued int) *queueing {
				p, _ := u.accept()
				p.send(&wire.Connack{SessionPresent: present})
				return &queueing{peer: p, window: window, flying: map[uint16]bool{}, queue: next(queued), answer: true}
			}
			come := func(what string, n int, ok func(d Delay, m *broker.Message) bool) {
				t.Helper()
				for range n {
					if m := <-l.came; !ok(ReadDelay(m.Properties), m) {
						t.Errorf("window %d, %s: got %+v", window, what, ReadDelay(m.Properties))
					}
				}
			}
			unknown := func(d Delay, _ *broker.Message) bool { return d.Unknown }
			live := func(d Delay, m *broker.Message) bool { return d == Delay{} && len(m.Properties) == 0 }
			bounded := func(d Delay, _ *broker.Message) bool {
				return !d.Unknown && d.AtMost > 0 && d.AtMost < time.Hour && d.Taken == nil
			}

			p := connect(true, 5)
			p.drained()
			come("queued before the start", 5, unknown)
			p.queue = next(3)
			p.drained()
			come("live", 3, live)
			p.Close()

			p = connect(true, 5)
			p.queue = append(p.queue, &wire.Publish{Topic: "site/state", Payload: []byte("x"), Retain: true, ID: 1000, QoS: 1})
			p.drained()
			come("queued during a cut", 5, bounded)
			come("retained", 1, live)
			p.Close()

			p = connect(false, 0)
			p.answer = false
			p.queue = next(2)
			for len(p.queue)+len(p.flying) > 0 {
				p.step()
			}
			come("of a new session, before any ping is answered", 2, live)
			p.Close()
		}
	})
}

// TestBacklogOfAnotherUpstream: what is known of one upstream's queue says nothing of another one's.
func TestBacklogOfAnotherUpstream(t *testing.T) {
	now := time.Now()
	var b backlog
	for _, step := range []struct {
		host    string
		present bool
		want    string
	}{
		{"a", true, "unknown"},
		{"a", false, ""},
		{"a", true, "11s"},
		{"b", true, "unknown"},
		{"a", true, "unknown"},
	} {
		b.begin(step.host, step.present, now)
		got := ""
		if f, err := wire.ParseForward(b.mark(nil, now.Add(10*time.Second))); err != nil || len(f.User) > 0 {
			got = f.User[0].Value
		}
		if got != step.want {
			t.Errorf("%+v: got %q", step, got)
		}
	}
	b.settled(now)
	if len(b.mark(nil, now)) > 0 {
		t.Error("all has come, and is still marked")
	}
}
