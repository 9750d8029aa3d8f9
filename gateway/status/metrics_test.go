package status

import (
	"flag"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
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
	kinds := map[prometheus.ValueType]string{gauge: "gauge", counter: "counter"}
	for _, f := range families() {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", f.name, kinds[f.kind], strings.Join(f.labels, ", "), f.help)
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

// TestMetrics: names and texts are as Prometheus wants them, and nothing is there that is not known.
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
	w := httptest.NewRecorder()
	MetricsHandler(func() Status { return s }, slog.New(slog.DiscardHandler)).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	text := w.Body.String()
	problems, err := promlint.New(strings.NewReader(text)).Lint() // what promtool check metrics does
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	for _, want := range []string{
		`holdfast_info{device="a\"b\\c\nd` + "\uFFFD" + `",version="1"} 1`, `holdfast_sensor_last_reading_timestamp_seconds{sensor="air"} 1.7000000005e+09`,
		`holdfast_reading{quantity="temperature",sensor="air",unit="°C"} -1.5`, `holdfast_sensor_up{sensor="gone"} 0`,
		`holdfast_sensor_failures_total{sensor="gone"} 3`, `holdfast_output_value{output="pump"} 0.25`, "holdfast_under_voltage 1",
		`holdfast_bridge_waiting_messages{bridge="up"} 5`, `holdfast_journal_lost_messages_total{reader="bridge/up",reason="size"} 9`,
	} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("missing: %s", want)
		}
	}
	for _, not := range []string{`quantity="temperature",sensor="gone"`, `holdfast_output_value{output="lost"}`, "\nholdfast_journal_disk_free_bytes ", "\nholdfast_bridge_oldest_message_timestamp_seconds{"} {
		if strings.Contains(text, not) {
			t.Errorf("not known and yet there: %s", not)
		}
	}
}
