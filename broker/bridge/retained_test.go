package bridge

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/broker"
	"holdfast/broker/journal"
	"holdfast/broker/wire"
)

// retainingBroker is an upstream that retains, written from the specification: [MQTT-3.3.1-6], [MQTT-3.3.1-8] of 3.1.1, and
// Retain Handling of 5 (section 3.8.3.1). What it may do in more than one way is set.
type retainingBroker struct {
	window int           // messages at QoS 1 in flight
	room   int           // messages in its queue; what is retained beyond that is dropped
	v5     bool          // RETAIN as published, as it was asked for
	late   time.Duration // after which it sends what it retains; 0 for before SUBACK
	refuse string        // a filter that may not be subscribed to

	mu      sync.Mutex
	values  map[string]string
	session map[string]byte // QoS by filter; nil for no session
	queue   []*wire.Publish
	flight  []*wire.Publish // oldest first
	id      uint16
	now     *retainingConn
	named   []string // topics that were asked for by name
	lost    int      // retained messages for which there was no room
}

// retainingConn is a connection of one.
type retainingConn struct {
	net.Conn
	version wire.Version
	out     chan []byte
	gone    chan struct{}
}

func (c *retainingConn) send(p wire.Packet) {
	select {
	case c.out <- wire.Append(nil, c.version, p):
	case <-c.gone:
	}
}

// dial is for Options.
func (u *retainingBroker) dial(context.Context, *url.URL) (net.Conn, error) {
	here, there := net.Pipe()
	c := &retainingConn{Conn: there, out: make(chan []byte, 10_000), gone: make(chan struct{})}
	go func() {
		for {
			select {
			case b := <-c.out:
				if _, err := there.Write(b); err != nil {
					return
				}
			case <-c.gone:
				return
			}
		}
	}()
	go u.serve(c)
	return here, nil
}

func (u *retainingBroker) serve(c *retainingConn) {
	r := wire.NewReader(c, 0)
	defer func() {
		c.Close()
		close(c.gone)
		u.mu.Lock()
		defer u.mu.Unlock()
		if u.now == c {
			u.now = nil
		}
	}()
	for {
		p, err := r.ReadPacket()
		if err != nil {
			return
		}
		if connect, ok := p.(*wire.Connect); ok {
			c.version = connect.Version
			r.SetVersion(connect.Version)
		}
		u.mu.Lock()
		u.handle(c, p)
		u.mu.Unlock()
	}
}

func (u *retainingBroker) handle(c *retainingConn, p wire.Packet) {
	switch p := p.(type) {
	case *wire.Connect:
		c.send(&wire.Connack{SessionPresent: u.session != nil})
		if u.session == nil {
			u.session = map[string]byte{}
		}
		u.now = c
		for _, p := range u.flight {
			p.Dup = true
			c.send(p)
		}
		u.pump()
	case *wire.Subscribe:
		ack := &wire.Suback{Type: wire.SUBACK, ID: p.ID}
		var burst []*wire.Publish
		for _, s := range p.Subscriptions {
			if s.Filter == u.refuse {
				ack.Codes = append(ack.Codes, 0x80)
				continue
			}
			ack.Codes = append(ack.Codes, wire.Code(s.QoS))
			if !strings.ContainsAny(s.Filter, "+#") {
				u.named = append(u.named, s.Filter)
			}
			for _, topic := range slices.Sorted(maps.Keys(u.values)) {
				_, had := u.session[s.Filter]
				if broker.Match(s.Filter, topic) && (c.version != wire.V5 || s.RetainHandling == 0 || s.RetainHandling == 1 && !had) {
					burst = append(burst, &wire.Publish{Topic: topic, Payload: []byte(u.values[topic]), QoS: s.QoS, Retain: true})
				}
			}
			u.session[s.Filter] = s.QoS
		}
		if u.late == 0 {
			u.burst(burst)
			c.send(ack)
			return
		}
		c.send(ack)
		time.AfterFunc(u.late, func() {
			u.mu.Lock()
			defer u.mu.Unlock()
			if u.now == c {
				u.burst(burst)
			}
		})
	case *wire.Unsubscribe:
		for _, f := range p.Filters {
			delete(u.session, f)
		}
		c.send(&wire.Suback{Type: wire.UNSUBACK, ID: p.ID, Codes: make([]wire.Code, len(p.Filters))})
	case *wire.Ack:
		u.flight = slices.DeleteFunc(u.flight, func(f *wire.Publish) bool { return f.ID == p.ID })
		u.pump()
	case *wire.Ping:
		c.send(&wire.Ping{Type: wire.PINGRESP})
	}
}

func (u *retainingBroker) burst(all []*wire.Publish) {
	for _, p := range all {
		if p.QoS > 0 && len(u.queue) >= u.room {
			u.lost++
			continue
		}
		u.queue = append(u.queue, p)
		u.pump()
	}
}

func (u *retainingBroker) pump() {
	for u.now != nil && len(u.queue) > 0 && (len(u.flight) < u.window || u.queue[0].QoS == 0) {
		p := u.queue[0]
		u.queue = u.queue[1:]
		if p.QoS > 0 {
			u.id++
			p.ID = u.id
			u.flight = append(u.flight, p)
		}
		u.now.send(p)
	}
}

// set has a publisher upstream retain a value, or delete it, at a QoS.
func (u *retainingBroker) set(topic, value string, qos byte) (queued bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if value == "" {
		delete(u.values, topic)
	} else {
		u.values[topic] = value
	}
	for f, most := range u.session {
		if qos := min(qos, most); broker.Match(f, topic) && (u.now != nil || qos > 0) && len(u.queue) < u.room {
			u.queue = append(u.queue, &wire.Publish{Topic: topic, Payload: []byte(value), QoS: qos, Retain: u.v5})
			u.pump()
			queued = true
		}
	}
	return queued
}

// cut ends the connection.
func (u *retainingBroker) cut() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.now != nil {
		u.now.Close()
		u.now = nil
	}
}

// localRetained is what is retained here.
type localRetained struct {
	s *store

	mu     sync.Mutex
	values map[string]Retained
	came   []string        // "topic=payload", of all that was published
	once   map[string]bool // the same, of all that was ever retained
}

func (l *localRetained) options(version wire.Version, rules ...Rule) func(*Options) {
	return func(o *Options) {
		o.Protocol, o.Out, o.Journal, o.Origin, o.In = version, nil, l.s.j, "here", rules
		o.Publish = func(m *broker.Message, changes []journal.Change, done func(error)) {
			l.put(m, true)
			if err := l.s.j.Append(journal.Entry{Changes: changes, Done: committed(done)}); err != nil {
				l.s.t.Error(err)
			}
		}
		o.Retained = func(topic string) Retained {
			l.mu.Lock()
			defer l.mu.Unlock()
			return l.values[topic]
		}
		o.Clear = func(m *broker.Message, changes []journal.Change, done func(error)) bool {
			l.mu.Lock()
			is := l.values[m.Topic].Message
			l.mu.Unlock()
			if is != m {
				return false
			}
			o.Publish(&broker.Message{Topic: m.Topic, QoS: 1, Retain: true}, changes, done)
			return true
		}
	}
}

func (l *localRetained) put(m *broker.Message, ours bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.came = append(l.came, m.Topic+"="+string(m.Payload))
	switch {
	case !m.Retain:
	case len(m.Payload) == 0:
		delete(l.values, m.Topic)
	default:
		l.values[m.Topic] = Retained{Message: m, Ours: ours}
		l.once[m.Topic+"="+string(m.Payload)] = true
	}
}

// others adds topics that have a message of another publisher, or may have.
func (l *localRetained) others(to map[string]bool) map[string]bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for topic, r := range l.values {
		if !r.Ours && strings.HasPrefix(string(r.Message.Payload), "here") {
			to[topic] = true
		}
	}
	return to
}

// restart makes all that is retained older than the process.
func (l *localRetained) restart() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for topic, r := range l.values {
		l.values[topic] = Retained{Message: r.Message, Before: true}
	}
}

func (l *localRetained) now() map[string]string {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := map[string]string{}
	for topic, r := range l.values {
		all[topic] = string(r.Message.Payload)
	}
	return all
}

// published is what was published since the last call.
func (l *localRetained) published() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	came := l.came
	l.came = nil
	return came
}

func newLocalRetained(s *store) *localRetained {
	return &localRetained{s: s, values: map[string]Retained{}, once: map[string]bool{}}
}

func newRetainingBroker(values map[string]string) *retainingBroker {
	return &retainingBroker{window: 20, room: 1000, values: values}
}

// someTime is enough for a connection and all that follows.
func someTime() { time.Sleep(5 * time.Minute) }

// TestRetainedIsPutRight: histories of what is retained upstream and here, with the link up and down, restarts of this process
// and lost sessions, for upstreams that send what they retain in different ways. When all has come to rest, what came from the
// upstream is what it retains, and what another publisher here has put in its place stays.
func TestRetainedIsPutRight(t *testing.T) {
	versions(t, func(t *testing.T, version wire.Version) {
		for seed := range uint64(40) {
			t.Run(fmt.Sprint(seed), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { putRight(t, version, seed) })
			})
		}
	})
}

func putRight(t *testing.T, version wire.Version, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 0))
	u := newRetainingBroker(map[string]string{})
	u.v5 = version == wire.V5
	u.window = 4 + rng.IntN(16) // with its queue, room for what is asked for by name
	u.late = time.Duration(rng.IntN(2)) * time.Second
	if rng.IntN(2) == 0 {
		u.room = 5
	}
	rules := []Rule{{Filter: "a/#", QoS: byte(rng.IntN(2)), Strip: "a/", Prefix: "up/"}, {Filter: "b/+", QoS: 1}, {Filter: "c", QoS: 1}}
	s := newStore(t)
	l := newLocalRetained(s)
	topics := map[string]string{"c": "c"} // upstream, and here
	for i := range 30 {
		topics[fmt.Sprintf("a/%d", i)], topics[fmt.Sprintf("b/%d", i)] = fmt.Sprintf("up/%d", i), fmt.Sprintf("b/%d", i)
	}
	names := slices.Sorted(maps.Keys(topics))
	for _, topic := range names[:40] {
		u.values[topic] = "0"
	}
	start := func() *running {
		return run(t, s, []string{"mqtt://upstream"}, func(o *Options) {
			l.options(version, rules...)(o)
			o.Dial, o.BackoffMin, o.BackoffMax = u.dial, time.Second, 10*time.Second
		})
	}
	b := start()
	others := map[string]string{} // topics here, and what another publisher has put there since the upstream changed the value
	unsure := map[string]bool{}   // topics here
	pending := map[string]bool{}  // topics upstream, changed once since all was at rest
	n := 0
	for range 4 {
		settled := rng.IntN(3) > 0
		if settled {
			someTime()
			clear(pending)
		} else {
			time.Sleep(time.Duration(rng.IntN(8)) * time.Second)
			if version == wire.V5 { // what it retains and has queued is not to be told from what has been published again
				clear(others)
				unsure = l.others(unsure)
			}
		}
		restart := rng.IntN(3) == 0
		if restart {
			b.stop()
			l.restart()
		}
		u.cut()
		if settled && rng.IntN(4) == 0 { // not with a deletion in its queue
			u.mu.Lock()
			u.session, u.queue, u.flight = nil, nil, nil
			u.mu.Unlock()
		}
		if settled {
			for range rng.IntN(3) {
				topic := names[rng.IntN(len(names))]
				if l.now()[topics[topic]] != "" {
					n++
					others[topics[topic]] = fmt.Sprint("here", n)
					delete(unsure, topics[topic])
					l.put(&broker.Message{Topic: topics[topic], Payload: []byte(others[topics[topic]]), Retain: true}, false)
				}
			}
		}
		for range rng.IntN(20) {
			topic := names[rng.IntN(len(names))]
			if pending[topic] {
				continue
			}
			pending[topic] = true
			value, qos := "", byte(rng.IntN(2))
			if rng.IntN(2) == 0 {
				n++
				value = fmt.Sprint(n)
				delete(others, topics[topic])
			}
			if u.set(topic, value, qos) && version == wire.V5 {
				delete(others, topics[topic]) // a deletion that is queued takes away what is here
			}
		}
		if restart {
			b = start()
		}
	}
	someTime()
	u.cut()
	someTime()
	b.stop()
	got, want := l.now(), map[string]string{}
	for upstream, here := range topics {
		if value := u.values[upstream]; value != "" {
			want[here] = value
		}
	}
	maps.Copy(want, others)
	if !maps.Equal(got, want) {
		for _, topic := range names {
			here := topics[topic]
			dropped := got[here] == "" && u.lost > 0 && !l.once[here+"="+want[here]]
			if got[here] != want[here] && !dropped && !unsure[here] {
				t.Errorf("%s: retained %q, want %q", here, got[here], want[here])
			}
		}
	}
	for f := range u.session {
		if !slices.ContainsFunc(rules, func(r Rule) bool { return r.Filter == f }) {
			t.Errorf("the session is left with a subscription to %q", f)
		}
	}
}

// TestRetainedUnchanged is not published again by the next connection, over as many as there are.
func TestRetainedUnchanged(t *testing.T) {
	versions(t, func(t *testing.T, version wire.Version) {
		synctest.Test(t, func(t *testing.T) {
			u := newRetainingBroker(map[string]string{"site/a": "1", "site/b": "1", "site/c": "1"})
			s := newStore(t)
			l := newLocalRetained(s)
			start := func() *running {
				return run(t, s, []string{"mqtt://upstream"}, func(o *Options) {
					l.options(version, Rule{Filter: "site/#", QoS: 1})(o)
					o.Dial = u.dial
				})
			}
			b := start()
			someTime()
			if came := l.published(); len(came) != 3 {
				t.Errorf("published %q, want each", came)
			}
			u.cut()
			someTime()
			b.stop()
			l.restart()
			b = start()
			someTime()
			if came := l.published(); len(came) != 0 {
				t.Errorf("published %q again", came)
			}
			u.cut()
			u.set("site/b", "2", 0)
			u.set("site/c", "", 0)
			someTime()
			b.stop()
			came := l.published()
			if slices.Sort(came); !slices.Equal(came, []string{"site/b=2", "site/c="}) {
				t.Errorf("published %q, want the change and the deletion", came)
			}
			if want := []string{"site/c"}; !slices.Equal(u.named, want) {
				t.Errorf("asked for %q by name, want %q", u.named, want)
			}
		})
	})
}

// TestRetainedLiveAgain: over 5, a value that is published again while the link is up is a message, though it is the same.
func TestRetainedLiveAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newRetainingBroker(map[string]string{"site/a": "1"})
		s := newStore(t)
		l := newLocalRetained(s)
		b := run(t, s, []string{"mqtt://upstream"}, func(o *Options) {
			l.options(wire.V5, Rule{Filter: "site/#", QoS: 1})(o)
			o.Dial = u.dial
		})
		someTime()
		u.cut()
		someTime()
		for range 3 {
			u.set("site/a", "1", 1)
		}
		someTime()
		b.stop()
		if came := l.published(); len(came) != 4 {
			t.Errorf("published %q, want it once and three times", came)
		}
	})
}

// TestRetainedOfARefusedRule, of another upstream and what is beyond the bounds stays here.
func TestRetainedStays(t *testing.T) {
	versions(t, func(t *testing.T, version wire.Version) {
		for _, why := range []string{"refused", "another upstream", "too many"} {
			t.Run(why, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					values := map[string]string{"site/a": "1"}
					long := "site/" + strings.Repeat("x", maxFollowedTopic)
					if why == "too many" {
						values[long] = "1"
					}
					u := newRetainingBroker(values)
					s := newStore(t)
					l := newLocalRetained(s)
					upstream := "mqtt://upstream"
					start := func() *running {
						return run(t, s, []string{upstream}, func(o *Options) {
							l.options(version, Rule{Filter: "site/#", QoS: 1})(o)
							o.Dial = u.dial
						})
					}
					b := start()
					someTime()
					b.stop()
					all := l.now()
					if len(all) != len(values) {
						t.Fatalf("retained %d", len(all))
					}
					l.restart()
					u.set("site/a", "", 0)
					u.set(long, "", 0)
					u.session = nil
					switch why {
					case "refused":
						u.refuse = "site/#"
					case "another upstream":
						upstream = "mqtt://other"
					case "too many":
						if p := b.Problems(); len(p) != 1 || !strings.Contains(p[0], "narrower filters") {
							t.Errorf("problems %q", p)
						}
						delete(all, "site/a")
					}
					b = start()
					someTime()
					b.stop()
					if got := l.now(); !maps.Equal(got, all) {
						t.Errorf("retained %d messages, want %d", len(got), len(all))
					}
				})
			})
		}
	})
}
