package main

import (
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/gateway/control"
	"holdfast/gateway/status"
)

// run calls the program and returns what it says.
func run(args ...string) (out, errs string, code int) {
	var o, e strings.Builder
	c := exec.Command(program, args...)
	c.Stdout, c.Stderr = &o, &e
	_ = c.Run()
	return o.String(), e.String(), c.ProcessState.ExitCode()
}

// status is what the gateway says of itself, once its control socket is open.
func (g *process) status() (st status.Status) {
	g.t.Helper()
	try := time.NewTicker(10 * time.Millisecond)
	defer try.Stop()
	for end := time.Now().Add(patience); ; <-try.C {
		err := control.Find("", filepath.Join(g.dir, "data")).Get(g.t.Context(), "/status", &st)
		if err == nil {
			return st
		}
		if time.Now().After(end) {
			g.t.Fatal(err)
		}
	}
}

// until waits for a state of the gateway.
func (g *process) until(what string, ok func(st status.Status) bool) (st status.Status) {
	g.t.Helper()
	try := time.NewTicker(10 * time.Millisecond)
	defer try.Stop()
	for end := time.Now().Add(patience); ; <-try.C {
		if st = g.status(); ok(st) {
			return st
		}
		if time.Now().After(end) {
			g.t.Fatalf("%s: not seen, last: %+v", what, st)
		}
	}
}

// TestReload: the gateway that runs reads its files again when `holdfast reload` or SIGHUP tell it to or when one
// has changed, and says what became of it.
func TestReload(t *testing.T) {
	t.Parallel()
	g := newProcess(t, "127.0.0.1:1")
	reload := func() (string, string, int) { return run("reload", "-c", g.base) }
	if _, errs, code := reload(); code != 1 || !strings.Contains(errs, "holdfast does not run: nothing answers at ") {
		t.Errorf("without a gateway: code %d, %s", code, errs)
	}
	g.start(g.base, g.sensors)
	g.status()
	if out, errs, code := reload(); code != 0 || out != "nothing is different\n" {
		t.Errorf("nothing to do: code %d, %s%s", code, out, errs)
	}
	air, tank := "  - {name: air, driver: bme280, bus: simulated, every: 50ms}\n", "  - {name: tank, driver: ads1115, bus: simulated, every: 100ms}\n"
	g.write("sensors.yaml", "sensors:\n"+air)
	if out, errs, code := reload(); code != 0 || out != "sensor board: removed\nsensor tank: removed\n" {
		t.Errorf("code %d, %s%s", code, out, errs)
	}
	out, _, _ := run("status", "-c", g.base)
	if !strings.Contains(out, "ago (command): sensor board: removed, sensor tank: removed") {
		t.Errorf("status does not tell of it:\n%s", out)
	}

	g.write("sensors.yaml", "sensors:\n"+air+"  - {name: tank, driver: ads1115, bus: simulated, every: 5}\n")
	wrong := g.sensors + ":3: sensors[tank].every: got 5, want a unit after the number"
	if out, errs, code := reload(); code != 1 || out != "" || !strings.Contains(errs, wrong) {
		t.Errorf("a wrong file: code %d, %s%s", code, out, errs)
	}
	st := g.status()
	if len(st.Sensors) != 1 || st.State != status.Degraded || !strings.Contains(strings.Join(st.Problems, "\n"), "not in use: "+g.sensors+":3: ") || st.Config.Last.By != status.ByCommand {
		t.Errorf("after a wrong file: %+v %+v", st.Config, st.Problems)
	}
	g.write("base.yaml", "not YAML: [")
	if _, errs, code := run("reload", "-c", g.base); code != 2 || !strings.Contains(errs, g.base+":2: not YAML") {
		t.Errorf("where the file does not even say which gateway is meant: code %d, %s", code, errs)
	}
	g.writeBase("127.0.0.1:1")

	g.write("sensors.yaml", "sensors:\n"+air+tank)
	if err := g.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	st = g.until("the signal", func(st status.Status) bool { return len(st.Sensors) == 2 })
	g.until("what became of the signal", func(st status.Status) bool {
		return st.Config.Last.By == status.BySignal && st.Config.Last.Error == "" && st.Config.Last.Changes[0] == "sensor tank: added"
	})
	g.write("sensors.yaml", "sensors:\n"+tank)
	st = g.until("the file", func(st status.Status) bool { return len(st.Sensors) == 1 && st.Config.Last.By == status.ByWatch })
	if len(st.Config.Files) != 2 || st.Config.Files[1] != g.sensors {
		t.Errorf("files %v", st.Config.Files)
	}
	g.terminate()
}
