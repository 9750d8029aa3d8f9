package gateway

import (
	"fmt"
	"strings"
	"testing"

	"holdfast/broker/brokertest"
	"holdfast/broker/wire"
	"holdfast/sensors/outputs"
)

// TestReloadOfOutputs: what is published of one that is gone is taken back, and the first and the last
// one come and go.
func TestReloadOfOutputs(t *testing.T) {
	s := newSite(t, "")
	head := s.config
	const pump = "outputs:\n  - {name: pump, driver: gpio-output, bus: simulated, line: 1, active_low: true, safe: off}\n"
	for range 2 {
		if changes, err := s.reload(head, pump); err != nil || strings.Join(changes, "; ") != "output pump: added" {
			t.Fatalf("%v, %v", changes, err)
		}
		s.state("pump", 0, outputs.ByStart)
		s.command("pump", "on")
		s.state("pump", 1, outputs.ByCommand)
		if changes, err := s.reload(head, pump); err != nil || len(changes) != 0 || s.pi.GPIO(1).High() {
			t.Fatalf("%v, %v: the pump was moved by a reload", changes, err)
		}
		if _, err := s.reload(head, "outputs: []\n"); err != nil {
			t.Fatal(err)
		}
		s.state("pump", 0, outputs.ByStop)
		for _, topic := range []string{"outputs/site/pump", "status/site/pump"} {
			s.hearEmpty(topic)
		}
		if got := s.readers(); got != "" {
			t.Errorf("readers %s", got)
		}
		if !s.pi.GPIO(1).High() {
			t.Error("the pump is on")
		}
	}
}

// hearEmpty waits until a retained message is taken back.
func (s *site) hearEmpty(topic string) {
	s.t.Helper()
	for {
		for i, p := range s.heard {
			if p.Topic == topic && len(p.Payload) == 0 {
				s.heard = append(s.heard[:i], s.heard[i+1:]...)
				return
			}
		}
		p, err := s.client.Next()
		if err != nil {
			s.t.Fatalf("%s was not taken back: %v", topic, err)
		}
		if pub, ok := p.(*wire.Publish); ok {
			s.heard = append(s.heard, pub)
		}
	}
}

// TestReloadOfBridges: what waits goes to the bridge of the new name or configuration, and what waits for
// one that is gone stays.
func TestReloadOfBridges(t *testing.T) {
	nobody, up := brokertest.FreeAddress(t), newFar(t)
	bridge := func(name, to, more string) string {
		return fmt.Sprintf("bridges:\n  - {name: %s, client_id: x, upstream: [\"mqtt://%s\"], out: [{filter: x/+}]%s}\n", name, to, more)
	}
	s := planSite(t, bridge("a", nobody, ""))
	s.start()
	head, _, _ := strings.Cut(s.config, "bridges:")
	s.put("x/1", 3)
	is := func(want string) {
		t.Helper()
		if got := s.readers(); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
	reload := func(text, want string) {
		t.Helper()
		changes, err := s.reload(head, text)
		if got := strings.Join(changes, "; "); err != nil || got != want {
			t.Fatalf("got  %s, %v\nwant %s", got, err, want)
		}
	}
	reload(bridge("b", nobody, ", was: a, priority: 2"), "bridge a: removed; bridge b: added")
	is("bridge/b 3 waiting, priority 2")
	s.put("x/1", 1)
	is("bridge/b 4 waiting, priority 2")

	// One that is refused leaves no trace.
	taken := "broker: {listeners: [{url: \"mqtt://" + up.addr + "\"}]}\n"
	plain, _, _ := strings.Cut(head, "broker:")
	if _, err := s.reload(plain, taken+bridge("c", nobody, ", was: b")); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("got %v", err)
	}
	if _, err := s.reload(plain, taken+bridge("d", nobody, "")); err == nil {
		t.Error("taken")
	}
	is("bridge/b 4 waiting, priority 2")
	s.put("x/1", 1)
	is("bridge/b 5 waiting, priority 2")

	reload(bridge("b", up.addr, ""), "bridge b: changed")
	if !s.eventually(func() bool {
		missing, _ := up.missing("x/1", 0)
		return missing == 0 && s.readers() == "bridge/b 0 waiting, priority 1"
	}) {
		t.Errorf("what waited has not arrived: %s", s.readers())
	}
	reload("", "bridge b: removed")
	is("")
}

// TestReloadIsRefused: nothing is done by halves.
func TestReloadIsRefused(t *testing.T) {
	s := newSite(t, relays)
	head, _, _ := strings.Cut(s.config, "outputs:")
	for text, want := range map[string]string{
		strings.Replace(head, "id: site", "id: other", 1) + relays:                                                                "these need a restart: device.id:",
		strings.Replace(head, "32MiB", "64MiB", 1):                                                                                "these need a restart: journal.max_size:",
		strings.Replace(head, "broker: {", "broker: {acl_file: nowhere, ", 1):                                                     "nowhere",
		strings.Replace(head, "mqtt://127.0.0.1:0", "mqtts://127.0.0.1:0\", cert: no, key: no, anonymous: true, mode: \"0600", 1): "mode",
	} {
		if changes, err := s.reload(text, ""); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, %v, want %s", changes, err, want)
		}
	}
	if n := len(s.driven(1)); n != 1 {
		t.Errorf("the pump was moved %d times", n)
	}
	s.ping()
	s.stop()
	if _, err := s.reload(head, relays); err == nil || !strings.Contains(err.Error(), "stopping") {
		t.Errorf("got %v", err)
	}
}
