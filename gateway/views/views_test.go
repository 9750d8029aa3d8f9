package views

import (
	"errors"
	"log/slog"
	"testing"
	"time"

	"holdfast/gateway/config"
	"holdfast/gateway/status"
	"holdfast/gateway/tap"
	"holdfast/sensors"
	"holdfast/sensors/outputs"
)

// TestTaps: views show what was published before: latest values, charts and connections; and nothing that has been
// forgotten.
func TestTaps(t *testing.T) {
	hub := tap.NewHub(slog.New(slog.DiscardHandler))
	v := New(Options{Config: &config.Config{Web: config.Web{Endpoint: config.Endpoint{Address: "127.0.0.1:0"}}}, Hub: hub, Log: slog.New(slog.DiscardHandler)})
	if v.page == nil {
		t.Fatal("there is no page")
	}
	at := time.Now()
	for i := range 500 {
		hub.Publish(tap.Reading{Reading: sensors.Reading{Sensor: "air", Quantity: "t", Value: float64(i), Time: at.Add(time.Duration(i) * time.Second)}, Seq: uint64(i)})
	}
	hub.Publish(sensors.Status{Sensor: "air", State: sensors.StateOK})
	hub.Publish(outputs.State{Output: "pump", Known: true, Value: 1})
	hub.Publish(tap.Connection{Bridge: "up", Connected: true})
	hub.Publish(tap.Connection{Bridge: "up", Err: errors.New("cut")})
	v.flush()
	if r := v.latest.readings["air"]; len(r) != 1 || r[0].Value != 499 || r[0].Seq != 499 {
		t.Errorf("readings: %+v", r)
	}
	if h := v.latest.of("air"); h.State != "ok" {
		t.Errorf("health: %+v", h)
	}
	if s := v.latest.outputs["pump"]; !s.Known || s.Value != 1 {
		t.Errorf("output: %+v", s)
	}
	if c, ok := v.History().Chart("air/t"); !ok || len(c.Time) == 0 {
		t.Error("no chart")
	}
	if p := v.page.timeline("up").Periods(); len(p) == 0 || p[len(p)-1].Connected {
		t.Errorf("periods: %+v", p)
	}
	hub.Publish(tap.Forgotten{Names: []string{"air", "pump"}})
	v.flush()
	if h := v.latest.of("air"); h.State != status.Waiting || len(v.latest.readings["air"]) > 0 {
		t.Errorf("not forgotten: %+v", h)
	}
	if _, ok := v.latest.outputs["pump"]; ok {
		t.Error("the pump is not forgotten")
	}
	if err := v.Close(); err != nil {
		t.Error(err)
	}
}
