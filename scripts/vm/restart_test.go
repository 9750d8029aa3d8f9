package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestRestartDelay calls the unit's script with a clock and a sleep that it cannot tell from the real ones.
func TestRestartDelay(t *testing.T) {
	dir := t.TempDir()
	for name, script := range map[string]string{"date": "cat " + dir + "/now", "sleep": "echo $1 >" + dir + "/slept"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	now := 1_700_000_000
	call := func(what, result string) (slept string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, "now"), fmt.Appendln(nil, now), 0o644); err != nil {
			t.Fatal(err)
		}
		os.Remove(filepath.Join(dir, "slept"))
		cmd := exec.Command("../../deploy/package/restart-delay", what)
		cmd.Env = []string{"PATH=" + dir + ":/usr/bin:/bin", "RUNTIME_DIRECTORY=" + dir, "SERVICE_RESULT=" + result}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", what, err, out)
		}
		b, _ := os.ReadFile(filepath.Join(dir, "slept"))
		return strings.TrimSpace(string(b))
	}
	// A second less than the delay: the unit's RestartSec= is the other one.
	starts := func(want ...string) {
		t.Helper()
		for i, want := range want {
			if i > 0 {
				call("ended", "exit-code")
			}
			if got := call("wait", ""); got != want {
				t.Errorf("start %d: got a sleep of %q, want %q", i+1, got, want)
			}
			now++
		}
	}
	starts("", "", "1", "3", "7", "15", "31", "59", "59")
	now += 600 // it worked
	starts("59")
	now += 600
	call("ended", "watchdog")
	starts("", "1")
	call("ended", "success") // a restart by hand
	starts("", "", "1")
	if err := os.WriteFile(filepath.Join(dir, "failures"), []byte("gar bage\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	starts("")
}
