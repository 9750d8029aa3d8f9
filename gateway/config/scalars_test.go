package config

import (
	"strings"
	"testing"
	"time"
)

func TestSizes(t *testing.T) {
	var n int64
	k := size(&n, 0, "")
	for text, want := range map[string]int64{
		"1B": 1, "2KiB": 2048, "3MiB": 3 << 20, "2TiB": 2 << 40, "4kB": 4000, "5MB": 5e6, "6GB": 6e9, "0.5KiB": 512, "0B": 0,
	} {
		if err := k.parse(text); err != nil || n != want {
			t.Errorf("%s: got %d, %v, want %d", text, n, err, want)
		}
	}
	for _, text := range []string{"", "1", "B", "GiB", "1 GiB", "1e3B", "1gib", "-1B", "+1B", "1.2.3B", ".B", "NaNB", "0x10B", "8388608TiB"} {
		if err := k.parse(text); err == nil {
			t.Errorf("%q: got %d, want an error", text, n)
		}
	}
}

func TestDurations(t *testing.T) {
	var d time.Duration
	k := duration(&d, 0, "")
	for text, want := range map[string]time.Duration{
		"0s": 0, "1ms": time.Millisecond, "1d": 24 * time.Hour, "1d12h": 36 * time.Hour, "30d": 720 * time.Hour, "1h30m": 90 * time.Minute,
	} {
		if err := k.parse(text); err != nil || d != want {
			t.Errorf("%s: got %v, %v, want %v", text, d, err, want)
		}
	}
	for _, text := range []string{"", "0", "5", "d", "1d5", "-1s", "-1d", "1.5d", "1d-1h", "36501d", "99999999h", "1h1d", "1dd"} {
		if err := k.parse(text); err == nil {
			t.Errorf("%q: got %v, want an error", text, d)
		}
	}
}

// TestStatus: a bridge announces presence under the name that its rules give that topic, if they do, or another
// one; to AWS only if the configuration names one.
func TestStatus(t *testing.T) {
	for text, want := range map[string]string{
		`out: [{filter: "sensors/#"}]`: "",
		`out: [{filter: "sensors/#"}, {filter: "status/#", strip: "status/", prefix: "fleet/"}]`:          "fleet/pi",
		`out: [{filter: "#", prefix: "north/"}, {filter: "status/#"}]`:                                    "north/status/pi",
		`out: [{filter: "status/+/air"}]`:                                                                 "",
		`out: [{filter: "#"}], status: off`:                                                               "",
		`out: [{filter: "sensors/#"}], status: "fleet/${device.id}"`:                                      "fleet/pi",
		`out: [{filter: "#"}], profile: mosquitto`:                                                        "status/pi",
		`out: [{filter: "#"}], profile: aws-iot-core, tls: {cert: a, key: b}`:                             "",
		`out: [{filter: "#"}], profile: aws-iot-core, tls: {cert: a, key: b}, status: "x/${device.id}"`:   "x/pi",
		`in: [{filter: "status/#"}], protocol: 5, client_id: b, drain: fifo, keep_alive: 30s, window: 10`: "",
	} {
		c, err := load(t, "device: {id: pi}\nbridges: [{name: up, upstream: [\"mqtts://broker.example\"], "+text+"}]\n")
		if err != nil {
			t.Errorf("%s: %v", text, err)
		} else if got := c.Bridges[0].Status; got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
	_, err := load(t, "device: {id: pi}\nbridges: [{name: up, profile: aws-iot-core, tls: {cert: a, key: b}, upstream: [\"mqtts://broker.example\"], out: [{filter: a}], status: a/b/c/d/e/f/g/h/i}]\n")
	if err == nil || !strings.Contains(err.Error(), "bridges[up].status: aws-iot-core takes topics of at most 8 levels") {
		t.Errorf("got %v", err)
	}
}
