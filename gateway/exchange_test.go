package gateway

import (
	"bufio"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/broker/brokertest"
	"holdfast/broker/wire"
	"holdfast/gateway/config"
	"holdfast/gateway/reconfigure"
	"holdfast/gateway/status"
	"holdfast/sensors/chips"
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

// TestReloadOfBridges: a backlog goes to the bridge of the new name or configuration, and stays if the bridge is
// gone.
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
	epoch := s.epoch("a")
	reload(bridge("b", nobody, ", was: a, priority: 2"), "bridge a: removed; bridge b: added")
	is("bridge/b 3 waiting, priority 2")
	s.put("x/1", 1)
	is("bridge/b 4 waiting, priority 2")

	// One that is refused leaves no trace.
	taken := "broker: {listeners: [{url: \"mqtts://127.0.0.1:0\", cert: nowhere.crt, key: nowhere.key}]}\n"
	plain, _, _ := strings.Cut(head, "broker:")
	if _, err := s.reload(plain, taken+bridge("c", nobody, ", was: b")); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("got %v", err)
	}
	if _, err := s.reload(plain, taken+bridge("d", nobody, "")); err == nil {
		t.Error("taken")
	}
	if got := s.epoch("b"); got == "" || got != epoch || s.epoch("a")+s.epoch("c") != "" {
		t.Errorf("marks begin with %q, want %q as before", got, epoch)
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

// TestHiddenAfterReload: passwords that a reload brings are as unseen on the page as those of the start, and those
// that it takes away stay so.
func TestHiddenAfterReload(t *testing.T) {
	s := planSite(t, "")
	page := "http://" + brokertest.FreeAddress(t)
	head := strings.Replace(s.config, "web: {url: off}", "web: {url: \""+page+"\"}", 1)
	bridge := func(password string) string {
		return "bridges: [{name: a, username: me, password: " + password + ", upstream: [\"mqtt://127.0.0.1:1\"], out: [{filter: x}]}]\n"
	}
	s.config = head + bridge("first-one")
	s.start()
	if _, err := s.reload(head, bridge("second-one")); err != nil {
		t.Fatal(err)
	}
	s.agent.made.log.Error("echoed: first-one and second-one")
	answer := s.get(page + "/api/events")
	defer answer.Body.Close()
	for lines := bufio.NewScanner(answer.Body); lines.Scan(); {
		if _, text, found := strings.Cut(lines.Text(), "echoed: "); found {
			if !strings.HasPrefix(text, "******** and ********") {
				t.Errorf("the page shows %.40s", text)
			}
			return
		}
	}
	t.Error("the page does not show the line")
}

// TestRollBackOfRenamedBridge: the backlog of a bridge that has another name on trial goes back to the earlier name,
// while the gateway runs and at a start.
func TestRollBackOfRenamedBridge(t *testing.T) {
	bridge := func(name, more string) string {
		return "bridges: [{name: " + name + ", client_id: x, upstream: [\"mqtt://127.0.0.1:1\"], out: [{filter: x/+}]" + more + "}]\n"
	}
	s := planSite(t, "")
	head, file := s.config, filepath.Join(s.dir, "gateway.yaml")
	first, second := head+bridge("a", ""), head+bridge("b", ", was: a")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	is := func(want string) {
		t.Helper()
		if got := s.readers(); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
	source := func() *reconfigure.Source {
		return reconfigure.NewSource([]string{file}, config.Options{Drivers: chips.Drivers(), Outputs: outputs.Drivers()})
	}
	try := func() {
		t.Helper()
		if _, err := s.agent.Changes().Apply(reconfigure.Application{Text: []byte(second), Within: time.Hour}); err != nil {
			t.Fatal(err)
		}
		write(second)
	}
	s.config = first
	write(first)
	s.opts.Source = source()
	s.start()
	s.put("x/1", 3)
	try()
	is("bridge/b 3 waiting, priority 1")
	s.put("x/1", 1)
	if undone, err := s.agent.Changes().Rollback(); err != nil || !slices.Equal(undone.Changes, []string{"bridge a: added", "bridge b: removed"}) {
		t.Fatal(undone, err)
	}
	is("bridge/a 4 waiting, priority 1")
	if changes, err := s.agent.Changes().Reload(status.ByCommand); err != nil || len(changes) > 0 {
		t.Errorf("after the roll-back a reload finds %v, %v", changes, err)
	}
	try()
	s.stop()
	next := source()
	cfg, err := next.Start(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if s.agent, err = New(cfg, Options{Source: next}); err != nil {
		t.Fatal(err)
	}
	is("bridge/a 4 waiting, priority 1")
	if err := s.agent.close.closeAll(); err != nil {
		t.Error(err)
	}
}
