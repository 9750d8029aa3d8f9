package gateway

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"holdfast/gateway/config"
	"holdfast/sensors"
	"holdfast/sensors/outputs"
)

// Payloads are a contract with whoever consumes them.
func TestPayloads(t *testing.T) {
	at := time.Date(2026, 11, 22, 11, 0, 0, 123_456_789, time.FixedZone("CET", 3600))
	for _, tt := range []struct {
		payload any
		want    string
	}{
		{readingPayload{21.37, "°C", stamp(at), 1234}, `{"value":21.37,"unit":"°C","time":"2026-11-22T10:00:00.123Z","seq":1234}`},
		{readingPayload{-0.0000004, "V", stamp(at), 1}, `{"value":0,"unit":"V","time":"2026-11-22T10:00:00.123Z","seq":1}`},
		{readingPayload{1e21 / 3, "V", stamp(at), 1}, `{"value":333333333333333300000,"unit":"V","time":"2026-11-22T10:00:00.123Z","seq":1}`},
		{statusPayload{sensors.StateFailing, sensors.Temporary, "no answer", stamp(at), stamp{}},
			`{"state":"failing","class":"temporary","reason":"no answer","since":"2026-11-22T10:00:00.123Z","last_good":null}`},
		{statusPayload{sensors.StateOK, "", "", stamp(at), stamp(at)},
			`{"state":"ok","since":"2026-11-22T10:00:00.123Z","last_good":"2026-11-22T10:00:00.123Z"}`},
	} {
		got, err := json.Marshal(tt.payload)
		if err != nil || string(got) != tt.want {
			t.Errorf("got  %s %v\nwant %s", got, err, tt.want)
		}
	}
}

func TestShippedExamplesAreValid(t *testing.T) {
	files, err := filepath.Glob("../deploy/examples/*.yaml")
	if err != nil || len(files) < 2 {
		t.Fatalf("examples: %v %v", files, err)
	}
	files = append(files, "../deploy/package/holdfast.yaml")
	for _, f := range files {
		if _, err := config.Load([]string{f}, config.Options{
			Drivers: sensors.Drivers(), Outputs: outputs.Drivers(), Getenv: func(string) (string, bool) { return "x", true }, Hostname: os.Hostname,
		}); err != nil {
			t.Errorf("%v", err)
		}
	}
}
