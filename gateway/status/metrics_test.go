package status

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the table of README.md")

func TestReadme(t *testing.T) {
	const start, end = "<!-- metrics -->\n", "<!-- end -->\n"
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok1 := strings.Cut(string(text), start)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok1 || !ok2 {
		t.Fatal("README.md has no place for the table of metrics")
	}
	var b strings.Builder
	b.WriteString("| Metric | Kind | Labels | Meaning |\n|---|---|---|---|\n")
	for _, f := range families() {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", f.name, f.kind, strings.Join(f.labels, ", "), f.help)
	}
	want := before + start + b.String() + end + after
	if *update {
		if err := os.WriteFile("README.md", []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if want != string(text) {
		t.Error("README.md is out of date: go test ./gateway/status -update")
	}
}

// TestMetrics: every line is one of the format's, names follow the conventions, and nothing is there that is not
// known.
func TestMetrics(t *testing.T) {
	at := time.UnixMilli(1_700_000_000_500)
	value := 0.25
	s := Status{
		Device: "a\"b\\c\nd\xff", Version: "1", Started: at, Power: &Power{UnderVoltage: true},
		Sensors: []Sensor{
			{Name: "air", Health: Health{State: "ok", LastGood: at}, Taken: 7, Readings: []Reading{{Quantity: "temperature", Unit: "°C", Value: -1.5}}},
			{Name: "gone", Health: Health{State: "absent"}, Failures: 3, Readings: []Reading{{Quantity: "temperature", Unit: "°C", Value: 20}}},
		},
		Outputs: []Output{{Name: "pump", Value: &value}, {Name: "lost"}},
		Bridges: []Bridge{{Name: "up", Depth: 5}},
		Journal: Journal{Free: -1, Losses: []Loss{{Reader: "bridge/up", Reason: "size", Count: 9}}},
	}
	var b strings.Builder
	if err := WriteMetrics(&b, &s); err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`^(# (HELP|TYPE) [a-z_0-9]+ .+|[a-z_0-9]+(\{[a-z]+="([^"\\\n]|\\["\\n])*"(,[a-z]+="([^"\\\n]|\\["\\n])*")*\})? -?[0-9.e+]+)$`)
	for l := range strings.Lines(b.String()) {
		if !line.MatchString(strings.TrimSuffix(l, "\n")) {
			t.Errorf("not of the format: %q", l)
		}
	}
	for _, f := range families() {
		if (f.kind == counter) != strings.HasSuffix(f.name, "_total") {
			t.Errorf("%s is a %s", f.name, f.kind)
		}
	}
	for _, want := range []string{
		`holdfast_info{device="a\"b\\c\nd` + "\uFFFD" + `",version="1"} 1`, "holdfast_start_time_seconds 1.7000000005e+09",
		`holdfast_reading{sensor="air",quantity="temperature",unit="°C"} -1.5`, `holdfast_sensor_up{sensor="gone"} 0`,
		`holdfast_sensor_failures_total{sensor="gone"} 3`, `holdfast_output_value{output="pump"} 0.25`, "holdfast_under_voltage 1",
		`holdfast_bridge_waiting_messages{bridge="up"} 5`, `holdfast_journal_lost_messages_total{reader="bridge/up",reason="size"} 9`,
	} {
		if !strings.Contains(b.String(), want+"\n") {
			t.Errorf("missing: %s", want)
		}
	}
	for _, not := range []string{`holdfast_reading{sensor="gone"`, `holdfast_output_value{output="lost"}`, "\nholdfast_journal_disk_free_bytes ", "\nholdfast_bridge_oldest_message_timestamp_seconds{"} {
		if strings.Contains(b.String(), not) {
			t.Errorf("not known and yet there: %s", not)
		}
	}
}
