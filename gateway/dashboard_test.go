package gateway

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"holdfast/broker"
	"holdfast/broker/brokertest"
	"holdfast/gateway/web"
)

// TestDashboardCommands take the path of every other command: answered, refused with a reason, and
// carried out once.
func TestDashboardCommands(t *testing.T) {
	s := planSite(t, `outputs:
  - {name: pump, driver: gpio-output, bus: simulated, line: 1, safe: off, lease: 60s, require_time: true}
  - {name: drain, driver: gpio-output, bus: simulated, line: 2, safe: off, interlock: [pump]}`)
	s.config = strings.Replace(s.config, "web: {url: off}", `web: {url: "http://127.0.0.1:0"}`, 1)
	s.start()
	command := func(output, value, id string) (r struct{ ID, Result, Reason string }) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		answer, err := s.agent.made.views.Command(ctx, output, web.Command{Value: json.RawMessage(value), ID: id, By: "dashboard anna"})
		if err == nil {
			err = json.Unmarshal(answer, &r)
		}
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	if r := command("pump", `true`, "1"); r.ID != "1" || r.Result != "done" {
		t.Errorf("got %+v", r)
	}
	if !s.pi.GPIO(1).High() {
		t.Error("the pump is not on")
	}
	if r := command("drain", `"on"`, "2"); r.Result != "refused" || !strings.Contains(r.Reason, "pump") {
		t.Errorf("got %+v", r)
	}
	if r := command("pump", `"off"`, "1"); r.Result != "refused" || !strings.Contains(r.Reason, "taken before") {
		t.Errorf("got %+v", r)
	}
	if r := command("pump", `"sideways"`, "3"); r.Result != "refused" {
		t.Errorf("got %+v", r)
	}
	if _, err := s.agent.made.views.Command(t.Context(), "none", web.Command{Value: json.RawMessage("1"), ID: "4"}); err == nil {
		t.Error("an output that does not exist was moved")
	}
	var view struct {
		Value *float64
		Why   string
		Lease float64 `json:"lease_s"`
		High  float64
	}
	text, err := json.Marshal(s.agent.made.views.Snapshot()["output/pump"])
	if err == nil {
		err = json.Unmarshal(text, &view)
	}
	if err != nil || view.Value == nil || *view.Value != 1 || view.Why != "dashboard anna" || view.Lease != 60 || view.High != 1 {
		t.Errorf("the page is shown %+v", view)
	}
}

// TestDashboardRecallsReadings: charts begin with what the journal still has of former processes.
func TestDashboardRecallsReadings(t *testing.T) {
	s := planSite(t, `bridges:
  - {name: away, upstream: ["mqtt://127.0.0.1:1"], out: [{filter: "sensors/#"}]}
sensors:
  - {name: air, driver: bme280, bus: simulated, every: 10ms}`)
	s.config = strings.Replace(s.config, "web: {url: off}", `web: {url: "http://127.0.0.1:0"}`, 1)
	run := func() {
		s.start()
		heard := make(chan struct{}, 1)
		cancel, err := s.agent.Subscribe("sensors/site/air/temperature", func(*broker.Message) {
			select {
			case heard <- struct{}{}:
			default:
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		<-heard
		cancel()
	}
	run()
	s.stop()
	run()
	s.agent.made.views.BackfillHistory(t.Context())
	c, ok := s.agent.made.views.History().Chart("air/temperature")
	if begun := float64(s.agent.Status().Started.UnixMilli()) / 1000; !ok || c.Time[0] >= begun {
		t.Errorf("the chart begins at %v, the process at %v", c.Time[0], begun)
	}
	all := s.agent.made.views.Snapshot()
	var v struct{ Sensors, Bridges []string }
	if text, err := json.Marshal(all["gateway"]); err != nil || json.Unmarshal(text, &v) != nil || len(v.Sensors) != 1 || len(v.Bridges) != 1 {
		t.Errorf("the page is shown %+v", all["gateway"])
	}
	if p, ok := all["timeline/away"].([]web.Period); !ok || len(p) != 1 || p[0].Connected {
		t.Errorf("the page is shown %+v", all["timeline/away"])
	}
	if text, err := json.Marshal(all); err != nil || strings.Contains(string(text), "hunter") {
		t.Errorf("got %v, %s", err, text)
	}
}

// get asks the page once it is there.
func (s *site) get(url string) (answer *http.Response) {
	s.t.Helper()
	if !s.eventually(func() (ok bool) {
		var err error
		answer, err = http.Get(url)
		return err == nil
	}) {
		s.t.Fatalf("no answer at %s", url)
	}
	return answer
}

// TestDashboardAfterReload: after a reload with rules, the page allows no more than the rules.
func TestDashboardAfterReload(t *testing.T) {
	s := planSite(t, "")
	page := "http://" + brokertest.FreeAddress(t)
	s.config = strings.Replace(s.config, "web: {url: off}", "web: {url: \""+page+"\"}", 1)
	s.start()
	role := func(want string) {
		t.Helper()
		answer := s.get(page + "/api/session")
		defer answer.Body.Close()
		var is struct{ Role string }
		if err := json.NewDecoder(answer.Body).Decode(&is); err != nil || is.Role != want {
			t.Errorf("got %q, %v, want %s", is.Role, err, want)
		}
	}
	role("operate")
	rules := strings.Replace(s.config, "broker: {", "broker: {acl: [{topic: \"#\", access: readwrite, anonymous: true}], ", 1)
	if changes, err := s.reload(rules, ""); err != nil || strings.Join(changes, "; ") != "users and rules: changed" {
		t.Fatal(changes, err)
	}
	role("view")
	if _, err := s.reload(s.config, ""); err != nil {
		t.Fatal(err)
	}
	role("operate")
}
