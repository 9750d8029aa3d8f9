package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestDoctor(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "pi.yaml")
	write := func(more string) {
		t.Helper()
		text := fmt.Sprintf("data_dir: %s\nweb: {url: off}\nbroker: {listeners: [{url: \"mqtt://127.0.0.1:0\"}]}\n%s", dir, more)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("journal: {max_size: 32MiB, keep_free: 0B}\n")
	r := holdfast(t, "", "doctor", "-c", file, "--json")
	var report struct {
		Worst    string
		Findings []struct{ Check, Level, Text, Remedy string }
	}
	if err := json.Unmarshal([]byte(r.out), &report); err != nil || len(report.Findings) < 10 || (r.code == 1) != (report.Worst == "fail") {
		t.Errorf("%v: %+v", err, r)
	}
	archive := filepath.Join(dir, "help.tar.gz")
	write("sensors: [{name: a, driver: bme280, bus: i2c-99}]\n")
	r = holdfast(t, "", "doctor", "-c", file, "--bundle", archive)
	if info, err := os.Stat(archive); r.code != 1 || !strings.Contains(r.out, "/dev/i2c-99 is not there") || err != nil || info.Size() == 0 || info.Mode().Perm() != 0o600 {
		t.Errorf("%v: %+v", err, r)
	}
	if r := holdfast(t, "", "doctor", "-c", file, "--bundle", archive); r.code != 1 || !strings.Contains(r.errs, "exists") {
		t.Errorf("the archive is overwritten: %+v", r)
	}
	write("jornal: {}\n")
	if r := holdfast(t, "", "doctor", "-c", file); r.code != 1 || !strings.Contains(r.out, `did you mean "journal"?`) {
		t.Errorf("%+v", r)
	}
}
