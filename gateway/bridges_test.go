package gateway

import (
	"bytes"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"holdfast/broker/brokertest"
	"holdfast/broker/journal"
	"holdfast/broker/wire"
)

// withBridges restarts a site with other bridges and returns what it logged since it was started.
func (s *site) withBridges(log *bytes.Buffer, bridges string) (logged string) {
	s.t.Helper()
	s.stop()
	logged = log.String()
	log.Reset()
	head, _, _ := strings.Cut(s.config, "bridges:")
	s.config = head + bridges
	s.start()
	return logged
}

// put publishes messages that wait for a bridge.
func (s *site) put(topic string, n int) {
	s.t.Helper()
	for range n {
		s.publish(wire.Publish{Topic: topic, QoS: 1, Payload: []byte("x")})
		if a := brokertest.Receive[*wire.Ack](s.client); a.Code != 0 {
			s.t.Fatalf("PUBACK: %+v", a)
		}
	}
}

// readers returns the readers of the journal. Those of what the gateway itself publishes, of which each bridge has
// one, are left out where nothing waits in them.
func (s *site) readers() string {
	var text []string
	for _, r := range s.agent.made.storage.Readers() {
		if strings.HasSuffix(r.Name, "/own") && r.Depth == 0 {
			continue
		}
		text = append(text, fmt.Sprintf("%s %d waiting, priority %d", r.Name, r.Depth, r.Priority))
	}
	return strings.Join(text, "; ")
}

// epoch is what the marks of a bridge's messages begin with; empty if the journal has none.
func (s *site) epoch(bridge string) (epoch string) {
	s.agent.made.storage.Range("bridge/"+bridge+"/epoch", func(_ string, value []byte) bool {
		epoch = string(value)
		return false
	})
	return epoch
}

// TestBridgesComeAndGo: a bridge's backlog has its priority; the bridge that had its name before adopts it; it
// stays, with a warning, if there is none.
func TestBridgesComeAndGo(t *testing.T) {
	nobody := brokertest.FreeAddress(t)
	bridge := func(name, more string) string {
		return fmt.Sprintf("  - {name: %s, client_id: %s, upstream: [\"mqtt://%s\"], out: [{filter: x/%s}]%s}\n", name, name, nobody, name, more)
	}
	var log bytes.Buffer
	s := planSite(t, "bridges:\n"+bridge("a", "")+bridge("b", ", priority: 3")+bridge("idle", ", priority: 0"))
	s.opts.Log = slog.New(slog.NewTextHandler(&log, nil))
	s.start()
	s.put("x/a", 2)
	s.put("x/b", 3)
	is := func(want string) {
		t.Helper()
		if got := s.readers(); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
	is("bridge/a 2 waiting, priority 1; bridge/b 3 waiting, priority 3; bridge/idle 0 waiting, priority 0")
	epoch := s.epoch("a")

	logged := s.withBridges(&log, "bridges:\n"+bridge("c", ", was: a"))
	if strings.Contains(logged, "does not have") {
		t.Errorf("warned of bridges that there are: %s", logged)
	}
	is("bridge/b 3 waiting, priority 3; bridge/c 2 waiting, priority 1")
	if got := s.epoch("c"); got != epoch || !strings.HasPrefix(got, "a/") || s.epoch("a") != "" {
		t.Errorf("marks begin with %q, want %q as before; %q is left", got, epoch, s.epoch("a"))
	}

	// Renamed without a word, and put right later.
	logged = s.withBridges(&log, "bridges:\n"+bridge("d", ""))
	if n := strings.Count(logged, `waiting="b: 3"`); n != 1 || !strings.Contains(logged, "taken over") {
		t.Errorf("%d warnings, want one: %s", n, logged)
	}
	is("bridge/b 3 waiting, priority 3; bridge/c 2 waiting, priority 1; bridge/d 0 waiting, priority 1")
	logged = s.withBridges(&log, "bridges:\n"+bridge("d", ", was: c, priority: 2")+bridge("b", ""))
	if !strings.Contains(logged, `waiting="b: 3, c: 2"`) || !strings.Contains(logged, "was: NAME") || !strings.Contains(logged, "holdfast journal forget bridge/NAME") {
		t.Errorf("no warning with the remedy: %s", logged)
	}
	is("bridge/b 3 waiting, priority 1; bridge/d 2 waiting, priority 2")

	s.agent.made.storage.Range("bridge/", func(key string, _ []byte) bool {
		if !strings.HasPrefix(key, "bridge/d/") && !strings.HasPrefix(key, "bridge/c/") && !strings.HasPrefix(key, "bridge/b/") {
			t.Errorf("%s is left of a bridge that is gone", key)
		}
		return true
	})

	// One that has messages of its own keeps them apart.
	s.withBridges(&log, "bridges:\n"+bridge("b", ", was: d"))
	is("bridge/b 3 waiting, priority 1; bridge/d 2 waiting, priority 2")
	s.stop()
	if logged := log.String(); !strings.Contains(logged, "a backlog of its own") {
		t.Errorf("no word of it: %s", logged)
	}
	v, err := journal.Inspect(s.dir + "/journal")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, r := range v.Readers() {
		names = append(names, r.Name)
	}
	if want := []string{"bridge/b", "bridge/b/own", "bridge/d", "bridge/d/own"}; !slices.Equal(names, want) {
		t.Errorf("on disk: %q, want %q", names, want)
	}
}
