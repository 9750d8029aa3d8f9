package main

import (
	"encoding/json"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/gateway/status"
)

// TestStatus: the gateway that runs is found by its configuration, shown as a table and as JSON, and live on a
// terminal, also while its configuration file is spoilt; without one the error says what to do.
func TestStatus(t *testing.T) {
	g := newProcess(t, "127.0.0.1:1") // an upstream that is never there
	odd := g.write("odd.yaml", `sensors:
  - {name: loose, driver: bme280, bus: i2c-99, every: 50ms}
`)
	args := func(command ...string) []string { return append(command, "-c", g.base, "-c", g.sensors, "-c", odd) }
	ask := func(args ...string) (out, errs string, code int) {
		var o, e strings.Builder
		c := exec.Command(program, args...)
		c.Stdout, c.Stderr = &o, &e
		_ = c.Run()
		return o.String(), e.String(), c.ProcessState.ExitCode()
	}
	if _, errs, code := ask(args("status")...); code != 1 || !strings.Contains(errs, "holdfast does not run: nothing answers at "+filepath.Join(g.dir, "data", "control.sock")) {
		t.Errorf("without a gateway: code %d, %s", code, errs)
	}
	g.start(g.base, g.sensors, odd)

	var st status.Status
	look := func() bool { // everything has been read at least once, and more than one message waits
		out, _, code := ask(args("status", "--json")...)
		st = status.Status{}
		if code != 0 || json.Unmarshal([]byte(out), &st) != nil || len(st.Sensors) != 4 {
			return false
		}
		for _, s := range st.Sensors {
			if s.State == status.Waiting {
				return false
			}
		}
		return st.Bridges[0].LastError != "" && st.Journal.Depth > 1
	}
	for end := time.Now().Add(patience); !look(); {
		if time.Now().After(end) {
			t.Fatalf("last seen: %+v", st)
		}
	}
	if st.Device != "e2e" || st.State != status.Degraded || st.Sensors[3].Name != "loose" || st.Sensors[3].State != "absent" || st.Process.PID != g.cmd.Process.Pid {
		t.Errorf("JSON: %+v", st)
	}
	table := []string{
		"e2e  degraded", "! sensors: loose absent", "! bridge up is not connected", "SENSOR", "temperature ", " °C", "pressure",
		"raspi-config", "BRIDGE", "mqtt://127.0.0.1:1", "connection refused", "messages wait, the oldest for", "lost", "nothing", "goroutines",
	}
	out, errs, code := ask(args("status")...)
	for _, want := range table {
		if !strings.Contains(out, want) {
			t.Errorf("the table has no %q", want)
		}
	}
	if code != 0 || errs != "" || strings.Contains(out, "\x1b") {
		t.Errorf("code %d, %s\n%s", code, errs, out)
	}
	spoilt := g.write("spoilt.yaml", "sensors: none\n")
	if _, errs, code := ask("status", "-c", spoilt); code != 2 || !strings.Contains(errs, "spoilt.yaml:1: sensors") {
		t.Errorf("a wrong file: code %d, %s", code, errs)
	}
	if out, _, code := ask("status", "-c", spoilt, "--socket", filepath.Join(g.dir, "data", "control.sock")); code != 0 || !strings.Contains(out, "e2e") {
		t.Errorf("a wrong file and the socket: code %d, %s", code, out)
	}
	if _, errs, code := ask(args("top")...); code != 2 || !strings.Contains(errs, "top needs a terminal") {
		t.Errorf("top without a terminal: code %d, %s", code, errs)
	}

	x := onTerminal(t, strings.Join(args("top"), " "))
	x.wait("\x1b[?1049h")
	x.wait("e2e")
	x.wait("SENSOR")
	seen := x.seen.Len()
	g.terminate()
	x.wait("holdfast does not run")
	g.start(g.base, g.sensors, odd)
	x.seen.Next(seen)
	for !strings.Contains(x.seen.String(), "\x1b[1me2e") {
		x.seen.Reset()
		x.wait("\x1b[J")
	}
	io.WriteString(x.in, "q")
	if code := x.end(); code != 0 || !strings.HasSuffix(x.seen.String(), "\x1b[?25h\x1b[?1049l") {
		t.Errorf("q: code %d, the screen ends with %q", code, x.seen.String()[max(0, x.seen.Len()-40):])
	}
}

// TestPage: columns stand below each other whatever their characters and colours, nothing is wider than the
// screen, and no name reaches the terminal as a command to it.
func TestPage(t *testing.T) {
	p := page{colour: true}
	p.row(span{"a title that is long", bold})
	p.head("NAME", "UNIT")
	p.cells(span{"°C µ", good}, span{"x", plain})
	p.cells(span{"evil\x1b[2J\u009b", plain}, span{"yy", bad})
	p.row(span{"after", plain})
	want := []string{
		"\x1b[1ma title th\x1b[0m", "",
		"\x1b[2mNAME      \x1b[0m",
		"\x1b[32m°C µ      \x1b[0m",
		"evil?[2J?",
		"after",
	}
	got := p.lines(10)
	for i := range want {
		if i >= len(got) || got[i] != want[i] {
			t.Errorf("line %d: got %q, want %q", i, got[min(i, len(got)-1)], want[i])
		}
	}
	var b strings.Builder
	if err := draw(&b, []string{"1", "2", "3", "4"}, 3); err != nil || b.String() != "\x1b[H1\x1b[K\r\n2\x1b[K\r\n... 2 lines more\x1b[K\x1b[J" {
		t.Errorf("got %q", b.String())
	}
}

func TestAge(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "0s", 1900 * time.Millisecond: "1s", 61 * time.Second: "1m1s", 3*time.Hour + 5*time.Minute: "3h5m", 49 * time.Hour: "2d1h",
	} {
		if got := age(d); got != want {
			t.Errorf("%v: got %s, want %s", d, got, want)
		}
	}
}

func TestDecimal(t *testing.T) {
	for want, v := range map[string]float64{
		"0": 0, "21.37": 21.37, "-0.5": -0.5, "69.3711": 69.371123, "1020.54": 1020.5412, "1234567": 1234567.2, "12345678": 12345678,
		"0.0123457": 0.012345678, "0.0001": 0.0001, "2.5e-05": 2.5e-5, "4e-07": 4e-7, "1.01423e+304": 1.0142320547e304, "100": 100, "1000000": 1e6,
	} {
		if got := decimal(v); got != want {
			t.Errorf("%v: %s, want %s", v, got, want)
		}
	}
}
