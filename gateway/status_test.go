package gateway

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"holdfast/broker/brokertest"
	"holdfast/gateway/status"
	"holdfast/sensors/simulated"
)

// TestStatus: everything that is configured is there, with what it says and with what is wrong.
func TestStatus(t *testing.T) {
	away := brokertest.FreeAddress(t)
	s := planSite(t, relays+`sensors:
  - {name: air, driver: bme280, bus: simulated, every: 20ms}
  - {name: gone, driver: ads1115, bus: simulated, every: 20ms}
bridges:
  - {name: up, upstream: ["mqtt://`+away+`"], out: [{filter: "sensors/#"}]}
`)
	s.before = func(a *Agent) {
		s.pi.Chip("simulated", 0x48).Fault(simulated.Unplugged)
		if st := a.Status(); st.State != status.Starting || st.Sensors[0].State != status.Waiting || len(st.Sensors[0].Readings) != 0 {
			t.Errorf("before it runs: %+v", st)
		}
	}
	s.start()
	air := s.hear("sensors/site/air/temperature", func(m message) bool { return m.Value != nil })
	s.hear("status/site/gone", func(m message) bool { return m.State == "absent" })
	s.hear("sensors/site/air/temperature", func(m message) bool { return m.Value != nil })
	s.command("pump", "on")
	s.result("pump")

	st := s.agent.Status()
	if st.Device != "site" || st.State != status.Degraded || st.Started.IsZero() {
		t.Errorf("got %s, %s since %v", st.Device, st.State, st.Started)
	}
	one := st.Sensors[0]
	if one.Name != "air" || one.Driver != "bme280" || one.Bus != "simulated" || one.State != "ok" || one.Taken < 2 || one.Failures != 0 {
		t.Errorf("air: %+v", one)
	}
	if i := slices.IndexFunc(one.Readings, func(r status.Reading) bool { return r.Quantity == "temperature" }); i < 0 ||
		one.Readings[i].Unit != "°C" || one.Readings[i].Seq < air.Seq || one.Readings[i].Time.IsZero() {
		t.Errorf("readings: %+v", one.Readings)
	}
	if gone := st.Sensors[1]; gone.State != "absent" || gone.Failures == 0 || gone.Reason == "" || gone.Since.IsZero() || len(gone.Readings) != 0 {
		t.Errorf("gone: %+v", gone)
	}
	i := slices.IndexFunc(st.Outputs, func(o status.Output) bool { return o.Name == "pump" })
	if i < 0 || st.Outputs[i].Value == nil || *st.Outputs[i].Value != 1 || st.Outputs[i].By != "command" || st.Outputs[i].State != "ok" {
		t.Errorf("outputs: %+v", st.Outputs)
	}
	c := st.Clients
	if c.Connected != 1 || len(c.List) != 1 || c.List[0].ID != "watch" || c.List[0].Protocol != "5" || c.List[0].Subscriptions != 3 ||
		!c.List[0].Connected || c.List[0].Since.IsZero() || !strings.HasPrefix(c.List[0].Remote, "127.0.0.1:") {
		t.Errorf("clients: %+v", c)
	}
	b := st.Bridges[0]
	if b.Name != "up" || b.Connected || b.Depth == 0 || b.Oldest.IsZero() || b.Oldest.After(st.Time) || b.Upstream != "mqtt://"+away {
		t.Errorf("bridge: %+v", b)
	}
	j := st.Journal
	if j.Depth < b.Depth || j.Oldest.IsZero() || j.Bytes == 0 || j.MaxSize != 32<<20 || j.Free <= 0 || j.Readers[0].Name != "bridge/up/own" { // readings wait there
		t.Errorf("journal: %+v", j)
	}
	if p := st.Process; p.RSS < 1<<20 || p.Goroutines < 5 || p.Descriptors < 5 {
		t.Errorf("process: %+v", p)
	}
	for _, want := range []string{"sensors: gone absent", "bridge up is not connected"} {
		if !strings.Contains(strings.Join(st.Problems, "\n"), want) {
			t.Errorf("problems: %q, want %q among them", st.Problems, want)
		}
	}
	if text, err := json.Marshal(st); err != nil || strings.Contains(string(text), ":null") && !strings.Contains(string(text), `"value":null`) {
		t.Errorf("JSON: %v\n%s", err, text)
	}
	s.stop()
	if st := s.agent.Status(); st.State != status.Stopping {
		t.Errorf("stopped: %s", st.State)
	}
}
