package config

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

func TestReferences(t *testing.T) {
	for text, want := range map[string]string{
		"a-${device.id}":         "a-pi",
		"${env:ID}/${device.id}": "from-env/pi",
		"${env:DOLLAR}":          "${env:EVERY}$$", // not looked at again
		"$${device.id}":          "${device.id}",
		"$$$${env:ID}":           "$${env:ID}",
		"$$${env:ID}":            "$from-env",
		"$SYS/$":                 "$SYS/$",
		"${file:id}":             "from\nfile",
		"x${file:./id}y":         "xfrom\nfiley",
		`"${device.id}"`:         "pi",
		"{a}}":                   "{a}}",
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "id"), []byte("from\nfile\r\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		name := filepath.Join(dir, "c.yaml")
		if text == "{a}}" {
			text = "'{a}}'"
		}
		if err := os.WriteFile(name, []byte("data_dir: "+text), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := Load([]string{name}, options())
		if err != nil || c.DataDir != want {
			t.Errorf("%s: got %+v, %v, want %q", text, c, err, want)
		}
	}
}

// TestDeviceID: a later file names the device, and what an earlier one says refers to that name.
func TestDeviceID(t *testing.T) {
	c, err := load(t, "data_dir: /srv/${device.id}\ndevice: {id: first}", "device:\n  id: ${env:ID}")
	if err != nil || c.Device.ID != "from-env" || c.DataDir != "/srv/from-env" {
		t.Errorf("got %+v, %v", c, err)
	}
}

func TestReferencesAreBounded(t *testing.T) {
	opts := options()
	opts.Getenv = func(string) (string, bool) { return strings.Repeat("x", 60_000), true }
	name := filepath.Join(t.TempDir(), "c.yaml")
	text := "data_dir: ${env:A}\nbroker: {listeners: [" + strings.Repeat("{url: \"${env:A}\"},", 1000) + "]}"
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Load([]string{name}, opts)
	if err == nil || !strings.Contains(err.Error(), "more than 1024 KiB in all") || strings.Contains(err.Error(), "xxxx") {
		t.Errorf("got %.500v", err)
	}
}

func TestSecret(t *testing.T) {
	s := struct {
		Password Secret
		Empty    Secret
	}{Password: "hunter2"}
	asJSON, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	asYAML, err := yaml.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("bridge", "password", s.Password, "all", s)
	for _, printed := range []string{
		fmt.Sprint(s), fmt.Sprintf("%+v %#v %s %q %x", s, s, s, s, s), string(asJSON), string(asYAML), log.String(),
	} {
		if strings.Contains(printed, "hunter2") || strings.Contains(printed, fmt.Sprintf("%x", "hunter2")) {
			t.Errorf("the password is in %s", printed)
		}
	}
	if string(asYAML) != "password: '********'\nempty: \"\"\n" || string(s.Password) != "hunter2" {
		t.Errorf("got %s and %s", asYAML, string(s.Password))
	}
}
