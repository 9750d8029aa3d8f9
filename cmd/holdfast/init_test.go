package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestInitTakesFlags(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "new", "pi.yaml")
	args := []string{"init", "--simulate", "--device", `odd: "name"`, "--upstream", "mqtt://127.0.0.1:1", "--user", "pi: 1", "--data-dir", filepath.Join(dir, "data"), "--out", file}
	r := holdfast(t, "hunter2\n", args...)
	if r.code != 0 || !strings.Contains(r.out, "ok: device odd: \"name\", 5 sensors, 1 bridges\n") || !strings.Contains(r.out, "holdfast run -c "+file) {
		t.Fatalf("%+v", r)
	}
	for name, mode := range map[string]os.FileMode{"pi.yaml": 0o640, "pi.password": 0o640, "holdfast.schema.json": 0o644} {
		info, err := os.Stat(filepath.Join(dir, "new", name))
		if err != nil || info.Mode().Perm()|mode != mode {
			t.Errorf("%s: %v, %v, want %v at most", name, info, err, mode)
		}
	}
	cfg, err := load([]string{file})
	if err != nil {
		t.Fatal(err)
	}
	if b := cfg.Bridges[0]; string(b.Password) != "hunter2" || b.Username != "pi: 1" || cfg.Device.ID != `odd: "name"` {
		t.Errorf("got %+v", cfg)
	}
	text, err := os.ReadFile(file)
	if err != nil || strings.Contains(string(text), "hunter2") || !strings.HasPrefix(string(text), "# yaml-language-server: $schema=holdfast.schema.json\n") {
		t.Errorf("%v\n%s", err, text)
	}
	for _, next := range [][]string{{"check"}, {"read", "air"}} { // what it says next
		if r := holdfast(t, "", append(next, "-c", file)...); r.code != 0 {
			t.Errorf("%v: %+v", next, r)
		}
	}

	// What is there stays, unless it is asked for, and then it is kept.
	if r := holdfast(t, "other\n", args...); r.code != 1 || !strings.Contains(r.errs, "pi.password exists") || !strings.Contains(r.errs, "--force") {
		t.Errorf("again: %+v", r)
	}
	if r := holdfast(t, "other\n", append(args, "--force")...); r.code != 0 {
		t.Errorf("--force: %+v", r)
	}
	for name, want := range map[string]string{"pi.yaml.old": string(text), "pi.password.old": "hunter2\n", "pi.password": "other\n"} {
		if got, err := os.ReadFile(filepath.Join(dir, "new", name)); string(got) != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

func TestInitWritesNothingWrong(t *testing.T) {
	dir := t.TempDir()
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"--device", "a/b"}, "a.yaml:6: device.id: "},
		{[]string{"--upstream", "nonsense"}, "bridges[upstream].upstream[0]: "},
		{[]string{"--user", "me"}, "--upstream"},
		{[]string{"--upstream", "mqtt://x", "--user", "me"}, "the password is empty"},
		{[]string{"air"}, "unexpected argument"},
	} {
		r := holdfast(t, "", append([]string{"init", "--yes", "--simulate", "--out", filepath.Join(dir, "a.yaml")}, tt.args...)...)
		if r.code != 2 || !strings.Contains(r.errs, tt.want) {
			t.Errorf("%v: %+v", tt.args, r)
		}
	}
	if left, err := os.ReadDir(dir); len(left) > 0 {
		t.Error(left, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if r := holdfast(t, "", "init", "--yes", "--simulate", "--out", filepath.Join(dir, "file", "a.yaml")); r.code != 1 || !strings.Contains(r.errs, "not a directory") {
		t.Errorf("%+v", r)
	}
}

// TestInitAsks: a person at a terminal, and what the buses of this machine have.
func TestInitAsks(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pi.yaml")
	x := onTerminal(t, "init --out "+file)
	x.wait("Name of this device")
	x.enter("cellar")
	x.wait("Broker that readings go to")
	x.enter("mqtt://127.0.0.1:1")
	x.wait("User there")
	x.enter("me")
	x.wait("Password: ")
	x.enter("hunter2")
	x.wait("Again: ")
	x.enter("hunter2")
	if code := x.end(); code != 0 || strings.Contains(x.seen.String(), "hunter2") {
		t.Fatalf("code %d, seen %q", code, &x.seen)
	}
	cfg, err := load([]string{file})
	if err != nil || cfg.Device.ID != "cellar" || string(cfg.Bridges[0].Password) != "hunter2" {
		t.Errorf("%v, %+v", err, cfg)
	}
	if n := len(cfg.Sensors); n == 0 || cfg.Sensors[n-1].Driver != "system" { // what needs no wiring
		t.Errorf("got %+v", cfg.Sensors)
	}
	if r := holdfast(t, "", "read", "machine", "-c", file); r.code != 0 || !strings.Contains(r.out, "load") {
		t.Errorf("%+v", r)
	}

	file = filepath.Join(t.TempDir(), "pi.yaml")
	x = onTerminal(t, "init --simulate --out "+file)
	x.wait("Name of this device")
	x.enter("")
	x.wait("Broker that readings go to")
	x.enter("")
	if code := x.end(); code != 0 {
		t.Fatalf("code %d, seen %q", code, &x.seen)
	}
	if cfg, err := load([]string{file}); err != nil || len(cfg.Bridges) != 0 || len(cfg.Sensors) == 0 {
		t.Errorf("%v, %+v", err, cfg)
	}
}
