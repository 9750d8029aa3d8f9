package gateway

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"holdfast/broker"
	"holdfast/broker/brokertest"
	"holdfast/broker/journal"
	"holdfast/broker/wire"
)

// copies counts what an upstream gets under p/, by topic and payload, and what of it has RETAIN.
type copies struct {
	*far
	mu    sync.Mutex
	seen  map[string]int
	plain int
}

func newCopies(t *testing.T) *copies {
	c := &copies{far: newFar(t), seen: map[string]int{}}
	if _, err := c.Subscribe("p/#", func(m *broker.Message) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.seen[m.Topic+" "+string(m.Payload)]++
		if !m.Retain {
			c.plain++
		}
	}); err != nil {
		t.Fatal(err)
	}
	return c
}

// counts returns what has come, and how much of it came without RETAIN.
func (c *copies) counts() (seen map[string]int, plain int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	seen = map[string]int{}
	for k, n := range c.seen {
		seen[k] = n
	}
	return seen, c.plain
}

// retain publishes a retained value at the site.
func (s *site) retain(topic, value string, qos byte) {
	s.t.Helper()
	s.publish(wire.Publish{Topic: topic, QoS: qos, Retain: true, Payload: []byte(value)})
	if qos > 0 {
		brokertest.Receive[*wire.Ack](s.client)
	}
}

// noted waits until as many rules of a bridge have sent all.
func (s *site) noted(bridge string, want int) {
	s.t.Helper()
	if !s.eventually(func() bool {
		n := 0
		s.agent.made.storage.Range("bridge/"+bridge+"/retained/", func(_ string, v []byte) bool {
			if string(v) == "." {
				n++
			}
			return true
		})
		return n == want
	}) {
		s.t.Fatalf("not %d rules of %s have sent what is retained", want, bridge)
	}
}

// TestRetainedBeforeTheRule: what is retained when a bridge or a rule is added goes up once for each rule that wants it, with
// RETAIN, whatever its QoS; not after restarts, other keys, and upgrades; again for a rule with other names upstream.
func TestRetainedBeforeTheRule(t *testing.T) {
	up := newCopies(t)
	s := planSite(t, "")
	s.start()
	head := s.config
	const many = 3*64 + 7 // some batches
	want := map[string]int{}
	for i := range many {
		s.retain(fmt.Sprintf("a/%d", i), fmt.Sprint("v", i), byte(i%2))
		want[fmt.Sprintf("p/a/%d v%d", i, i)] = 1
	}
	s.retain("b/x", "skipped", 1)
	s.retain("a/gone", "old", 1)
	s.retain("a/gone", "", 1)
	s.retain("home/in/x", "theirs", 1)
	rule := func(filter, more string) string { return fmt.Sprintf("{filter: %q, prefix: p/%s}", filter, more) }
	bridge := func(name, more string, rules ...string) string {
		return fmt.Sprintf("bridges:\n  - {name: %s, client_id: x, upstream: [\"mqtt://%s\"], protocol: \"5\", out: [%s], in: [{filter: in/#, prefix: home/}]%s}\n",
			name, up.addr, strings.Join(rules, ", "), more)
	}
	load := func(text string) {
		t.Helper()
		if _, err := s.reload(head, text); err != nil {
			t.Fatal(err)
		}
		s.config = head + text
	}
	n := 0
	is := func(bridge string, rules int) {
		t.Helper()
		s.noted(bridge, rules)
		n++ // a live one behind all that may be under way
		s.retain("a/last", fmt.Sprint(n), 1)
		want[fmt.Sprintf("p/a/last %d", n)]++
		if !s.eventually(func() bool {
			seen, _ := up.counts()
			return seen[fmt.Sprintf("p/a/last %d", n)] > 0 && s.waiting() == 0
		}) {
			t.Fatalf("not all has arrived: %s", s.readers())
		}
		seen, plain := up.counts()
		for k, times := range want {
			if seen[k] != times {
				t.Errorf("%q came %d times, want %d", k, seen[k], times)
			}
		}
		for k := range seen {
			if want[k] == 0 {
				t.Errorf("%q has come", k)
			}
		}
		if plain > 0 {
			t.Errorf("%d without RETAIN", plain)
		}
		if t.Failed() {
			t.FailNow()
		}
	}
	a, skip, home := rule("a/#", ""), rule("b/#", ", retained: skip"), rule("home/#", "")
	load(bridge("c", "", a, skip, home))
	is("c", 2)
	s.stop()
	s.start()
	is("c", 2)
	load(bridge("c", ", window: 7", rule("a/#", ", priority: 3"), skip, home)) // the same names upstream
	is("c", 2)
	load(bridge("d", ", was: c", a, skip, home))
	is("d", 2)
	s.retain("e/x", "1", 0)
	want["p/e/x 1"] = 1
	load(bridge("d", "", a, skip, home, rule("e/#", "")))
	is("d", 3)
	want["p/b/x skipped"] = 1
	load(bridge("d", "", a, rule("b/#", ""), home, rule("e/#", ""))) // now it is wanted
	is("d", 4)
	load(bridge("d", "", a, rule("b/#", ""), home))
	is("d", 3)
	want["p/e/x 1"]++ // a rule that was gone is new
	load(bridge("d", "", a, rule("b/#", ""), home, rule("e/#", "")))
	is("d", 4)

	// The data of a version that knew nothing of this.
	s.stop()
	s.forgetRules()
	s.start()
	is("d", 4)
	load("bridges: []\n")
	load(bridge("d", "", rule("b/#", "")))
	want["p/b/x skipped"]++
	s.noted("d", 1)
	if !s.eventually(func() bool { seen, _ := up.counts(); return seen["p/b/x skipped"] == 2 }) {
		t.Error("a bridge that was gone is not new")
	}
}

// waiting is how many messages the bridges' readers have.
func (s *site) waiting() (n uint64) {
	for _, r := range s.agent.made.storage.Readers() {
		if strings.HasPrefix(r.Name, "bridge/") {
			n += r.Depth
		}
	}
	return n
}

// forgetRules takes out of the journal of a site that is stopped all that is known of rules.
func (s *site) forgetRules() {
	s.t.Helper()
	fs, err := journal.NewDirFS(s.dir + "/journal")
	if err != nil {
		s.t.Fatal(err)
	}
	j, err := journal.Open(journal.Options{FS: fs, MaxSize: 32 << 20})
	if err != nil {
		s.t.Fatal(err)
	}
	var changes []journal.Change
	for _, prefix := range []string{"bridge/", "gateway/retained"} {
		j.Range(prefix, func(key string, _ []byte) bool {
			if key == "gateway/retained" || strings.Contains(key, "/retained/") {
				changes = append(changes, journal.Change{Key: key})
			}
			return true
		})
	}
	if len(changes) < 2 {
		s.t.Fatalf("%d keys", len(changes))
	}
	if err := j.AppendDurable(s.t.Context(), journal.Entry{Changes: changes}); err != nil {
		s.t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		s.t.Fatal(err)
	}
}
