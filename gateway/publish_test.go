package gateway

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/broker"
	"holdfast/broker/brokertest"
	"holdfast/broker/journal"
	"holdfast/broker/server"
	"holdfast/gateway/config"
	"holdfast/gateway/payload"
	"holdfast/gateway/tap"
	"holdfast/sensors"
	"holdfast/sensors/chips"
	"holdfast/sensors/outputs"
)

// Payloads are a contract with their consumers.
func TestPayloads(t *testing.T) {
	at := time.Date(2026, 11, 22, 11, 0, 0, 123_456_789, time.FixedZone("CET", 3600))
	for _, tt := range []struct {
		text any
		want string
	}{
		{readingPayload{21.37, "°C", payload.Stamp(at), 1234}, `{"value":21.37,"unit":"°C","time":"2026-11-22T10:00:00.123Z","seq":1234}`},
		{readingPayload{-0.0000004, "V", payload.Stamp(at), 1}, `{"value":-4e-7,"unit":"V","time":"2026-11-22T10:00:00.123Z","seq":1}`},
		{readingPayload{1e21 / 3, "V", payload.Stamp(at), 1}, `{"value":333333333333333300000,"unit":"V","time":"2026-11-22T10:00:00.123Z","seq":1}`},
		{statusPayload{sensors.StateFailing, sensors.Temporary, "no answer", payload.Stamp(at), payload.Stamp{}},
			`{"state":"failing","class":"temporary","reason":"no answer","since":"2026-11-22T10:00:00.123Z","last_good":null}`},
		{statusPayload{sensors.StateOK, "", "", payload.Stamp(at), payload.Stamp(at)},
			`{"state":"ok","since":"2026-11-22T10:00:00.123Z","last_good":"2026-11-22T10:00:00.123Z"}`},
	} {
		got, err := json.Marshal(tt.text)
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
			Drivers: chips.Drivers(), Outputs: outputs.Drivers(), Getenv: func(string) (string, bool) { return "x", true }, Hostname: os.Hostname,
		}); err != nil {
			t.Errorf("%v", err)
		}
	}
}

// TestRefusedReadingsLeaveNoHole: a journal that is full and refuses what is new takes no numbers away: who reads the
// stream upstream finds one reading after the other.
func TestRefusedReadingsLeaveNoHole(t *testing.T) {
	up := newFar(t)
	link := brokertest.NewLink(t, up.addr)
	s := planSite(t, fmt.Sprintf("bridges: [{name: cloud, upstream: [\"mqtt://%s\"], out: [{filter: \"#\", prefix: up/}]}]\n", link.Addr()))
	s.config = strings.Replace(s.config, "keep_free: 0B", "keep_free: 0B, commit_every: 0s, when_full: refuse-new", 1)
	errs := make(chan error, 1)
	s.opts.Taps = []tap.Options{{Name: "test", Take: func(e tap.Event) {
		if is, ok := e.(tap.Settled); ok {
			errs <- is.Err
		}
	}}}
	s.start()
	read := func() error {
		s.agent.made.readings.reading(sensors.Reading{Sensor: "air", Quantity: "temperature", Value: 1, Unit: "°C", Time: time.Now()})
		return <-errs
	}
	accepted := 0
	for range 2 {
		if err := read(); err != nil {
			t.Fatal(err)
		}
		accepted++
	}
	for size := 1 << 20; size > 64; { // down to less than a reading takes
		if err := s.agent.made.server.Publish(&broker.Message{Topic: "large", Payload: make([]byte, size), QoS: 1}, server.PublishOptions{}); err != nil {
			size /= 4
		}
	}
	refused := 0
	for refused < 3 {
		switch err := read(); {
		case errors.Is(err, journal.ErrFull):
			refused++
		case err != nil:
			t.Fatal(err)
		default: // there was space for one
			if accepted++; accepted > 1000 {
				t.Fatal("the journal is not full")
			}
		}
	}
	if got := s.readings(); got != accepted {
		t.Errorf("number %d after %d readings, %d more refused", got, accepted, refused)
	}
	s.stop() // so that the bridge connects at once
	link.Join()
	s.start()
	if !s.eventually(func() bool { return read() == nil }) {
		t.Fatal("no room when all has been delivered")
	}
	accepted++
	if !s.eventually(func() bool { missing, _ := up.missing("up", accepted); return missing == 0 }) {
		missing, twice := up.missing("up", accepted)
		t.Errorf("of %d readings %d are missing, %d came twice", accepted, missing, twice)
	}
}
