package config

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/sensors/chips"
	"holdfast/sensors/outputs"
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

// TestNumbersReadOneWay: what YAML 1.1, YAML 1.2 and people read as different numbers is refused wherever a number is
// wanted, with what to write instead, and never with the text, which may be secret.
func TestNumbersReadOneWay(t *testing.T) {
	for _, text := range []string{"0", "7", "-1", "+1", "10", "0.5", "-0.25", "1e3", "1.5e-7", ".5", "0e0", "", "on", "simulated", "-", "abc_d"} {
		if why := ambiguous(text, false); why != "" {
			t.Errorf("%q: %s", text, why)
		}
	}
	for text, want := range map[string]string{
		"017": "0 in front", "08": "0 in front", "-010": "0 in front", "+00": "0 in front", "00.5": "0 in front", "0123e4": "0 in front",
		"1_000": "without _", "0_1": "without _", "1_0.5": "without _", "0x1_0": "without _",
		"0x10": "in decimal", "0X1f": "in decimal", "0o17": "in decimal", "0b11": "in decimal", "-0B1": "in decimal",
		"1:30": "colon", "190:20:30": "colon", "1:30.5": "colon",
	} {
		if why := ambiguous(text, false); !strings.Contains(why, want) || strings.Contains(why, text) && text != "017" && text != "1_000" {
			t.Errorf("%q: %q, want %s", text, why, want)
		}
	}
	for text, ok := range map[string]bool{"0x76": true, "0X76": true, "118": true, "0o166": false, "0166": false, "0x7_6": false} {
		if why := ambiguous(text, true); (why == "") != ok {
			t.Errorf("%q, where 0x76 is meant: %q", text, why)
		}
	}
	// Every key that takes a number, in every section and in the rows of the real drivers, has the check.
	l := newLoader(Options{})
	var walk func(at string, k kind)
	walk = func(at string, k kind) {
		if k.list != nil && k.list.id == "" && k.table == nil {
			walk(at+"[]", k.list.item)
		}
		for _, t := range []*table{k.table, k.fields} {
			if t != nil {
				for _, row := range t.keys {
					walk(at+"."+row.name, row.kind)
				}
			}
		}
		for _, tag := range k.types {
			if k.parse == nil || k.number || tag != "!!int" && tag != "!!float" {
				continue
			}
			for _, odd := range []string{"017", "1_0", "0x1", "05", "0o5", "5_0"} {
				if k.parse(odd) == nil {
					t.Errorf("%s takes %s", at, odd)
				}
			}
		}
	}
	for _, row := range l.root.keys {
		walk(row.name, row.kind)
	}
	for _, d := range chips.Drivers() {
		for _, o := range d.Options {
			walk("sensors "+d.Name+"."+o.Name, l.option(o, map[string]any{}))
		}
	}
	for _, d := range outputs.Drivers() {
		for _, o := range d.Options {
			walk("outputs "+d.Name+"."+o.Name, l.option(o, map[string]any{}))
		}
	}
}

// TestQuotesAroundWholeNumbers: an option that is a whole number, or a choice among numbers, is the same with quotes and
// without, for sensors and for outputs; the editor's schema takes both.
func TestQuotesAroundWholeNumbers(t *testing.T) {
	opts := options()
	opts.Drivers, opts.Outputs = chips.Drivers(), outputs.Drivers()
	editor := compileSchema(t, opts)
	for _, tt := range []struct {
		text, section, key string
		want               any // nil if it is refused
	}{
		{`{name: a, driver: ads1115, bus: i2c-1, channel: 0}`, "sensors", "channel", "0"},
		{`{name: a, driver: ads1115, bus: i2c-1, channel: "0"}`, "sensors", "channel", "0"},
		{`{name: a, driver: ads1115, bus: i2c-1, channel: 00}`, "sensors", "channel", nil},
		{`{name: a, driver: ads1115, bus: i2c-1, channel: 9}`, "sensors", "channel", nil},
		{`{name: a, driver: ads1115, bus: i2c-1, channel: 0-1}`, "sensors", "channel", "0-1"},
		{`{name: a, driver: ds2482, bus: i2c-1, channel: 0}`, "sensors", "channel", int64(0)},
		{`{name: a, driver: ds2482, bus: i2c-1, channel: "0"}`, "sensors", "channel", int64(0)},
		{`{name: a, driver: pca9685, bus: i2c-1, channel: 0, safe: off}`, "outputs", "channel", int64(0)},
		{`{name: a, driver: pca9685, bus: i2c-1, channel: "0", safe: off}`, "outputs", "channel", int64(0)},
		{`{name: a, driver: pca9685, bus: i2c-1, channel: "017", safe: off}`, "outputs", "channel", nil},
		{`{name: a, driver: pca9685, bus: i2c-1, channel: "16", safe: off}`, "outputs", "channel", nil},
		{`{name: a, driver: pca9685, bus: i2c-1, channel: "one", safe: off}`, "outputs", "channel", nil},
		{`{name: a, driver: gpio-input, line: "17"}`, "sensors", "line", int64(17)},
		{`{name: a, driver: gpio-output, line: "17", safe: off}`, "outputs", "line", int64(17)},
		{`{name: a, driver: sgp40, bus: i2c-1, climate_address: 0x45}`, "sensors", "climate_address", int64(0x45)},
	} {
		file := filepath.Join(t.TempDir(), "a.yaml")
		text := fmt.Sprintf("device: {id: d}\n%s: [%s]\n", tt.section, tt.text)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := Load([]string{file}, opts)
		var got any
		if err == nil {
			for _, s := range c.Sensors {
				got = s.Options[tt.key]
			}
			for _, o := range c.Outputs {
				got = o.Options[tt.key]
			}
		}
		if got != tt.want {
			t.Errorf("%s: got %v %v, want %v", tt.text, got, err, tt.want)
		}
		v, err := parseYAML([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if refused := editor.Validate(v); tt.want != nil && refused != nil {
			t.Errorf("the schema refuses %s: %v", tt.text, refused)
		}
	}
}

// TestNamesLikeDates are names: no entry vanishes.
func TestNamesLikeDates(t *testing.T) {
	c, err := load(t, `
bridges: [{name: 2026-01-01, upstream: ["mqtt://broker.example"], out: [{filter: a}]}]
sensors: [{name: 2026-01-02, driver: cpu}, {name: "2026-01-03", driver: cpu}, {name: 2026-01-04T10:00:00Z, driver: cpu}]
outputs: [{name: 2026-01-05, driver: gpio-output, line: 17, safe: off}]
`, `sensors: [{name: "2026-01-02", every: 1m}]`)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Bridges) != 1 || len(c.Sensors) != 3 || len(c.Outputs) != 1 || c.Sensors[0].Every != time.Minute || c.Bridges[0].Name != "2026-01-01" {
		t.Errorf("got %+v", c)
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
