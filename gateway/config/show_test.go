package config

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"holdfast/sensors"
	"holdfast/sensors/chips"
	"holdfast/sensors/outputs"
)

func TestShow(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pi.yaml")
	text := `# password: hunter1
device: {id: pi} # hunter2
bridges:
  - name: cloud
    upstream: [mqtt://broker.example]
    username: site
    password: hunter3
    out: [{filter: "sensors/#"}]
  - name: lan
    upstream: [mqtt://10.0.0.1]
    client_id: two
    username: site
    password: ${file:secret}
    pasword: hunter4
    out: [{filter: "sensors/#", PASSWORD: {deep: hunter5}}]
broker:
  users:
    - {name: anna, password_hash: hunter6}
sensors:
  - {name: soil, driver: ads1115, bus: i2c-1, channel: A1}
  - name: air
    driver: bme280
    bus: i2c-1
    quantities:
      temperature: # hunter9
        as: warmth
        # hunter9
        limits: {min: 1}
`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(t.TempDir(), "other.yaml")
	if err := os.WriteFile(other, []byte("password: [hunter8"), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := Show([]string{file, other, filepath.Join(t.TempDir(), "none")}, options())
	if err == nil || !strings.Contains(err.Error(), "pasword: unknown key") {
		t.Errorf("the mistakes are not told: %v", err)
	}
	if strings.Contains(got, "hunter") || strings.Contains(err.Error(), "hunter") {
		t.Errorf("a secret is shown:\n%s\n%v", got, err)
	}
	for _, want := range []string{
		"# " + file, "id: pi", "username: site", redacted, "password: ${file:secret}",
		"name: anna", "channel: A1", "as: warmth", "min: 1", "mqtt://broker.example", "# " + other + "\n# is not shown: is not YAML", "none\n# is not shown: no such file",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not shown:\n%s", want, got)
		}
	}
}

// TestMerge: what is shown of several files together is the same configuration, and says where its values are from.
func TestMerge(t *testing.T) {
	examples, err := filepath.Glob("../../deploy/examples/*.yaml")
	if err != nil || len(examples) < 3 {
		t.Fatal(examples, err)
	}
	dir := t.TempDir()
	write := func(name, text string) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	sets := [][]string{
		{"testdata/good/device.yaml", "testdata/good/site.yaml"},
		{"testdata/good/site.yaml", "testdata/good/device.yaml"},
		{write("a.yaml", `device: {id: a}
broker: {listeners: [], groups: [{name: g, users: []}], acl: [{topic: x, access: read}]}
sensors:
  - name: air
    driver: bme280
    bus: simulated
    quantities: {temperature: {as: warmth, calibrate: {offset: 1}}, humidity: {round: 1}}
outputs: [{name: fan, driver: gpio-output, line: 2, safe: off}]
`), write("b.yaml", `broker: {acl: []}
sensors:
  - name: air
    quantities: {temperature: {calibrate: {scale: 2}}}
    filter: {median: 3}
web: {url: off}
`)},
	}
	for _, file := range examples {
		sets = append(sets, []string{file})
	}
	for _, files := range sets {
		opts := options()
		if slices.Contains(examples, files[0]) {
			opts.Drivers, opts.Outputs = chips.Drivers(), outputs.Drivers()
		}
		opts.Getenv = func(string) (string, bool) { return "1s", true }
		opts.ReadFile = func(name string, most int64) ([]byte, error) {
			if filepath.Ext(name) != ".yaml" { // the examples' secrets are nowhere
				return []byte("secret"), nil
			}
			return ReadFile(name, most)
		}
		want, err := Load(files, opts)
		if err != nil {
			t.Errorf("%v: %v", files, err)
			continue
		}
		text, err := Merge(files, opts)
		if err != nil {
			t.Errorf("%v: %v", files, err)
			continue
		}
		plain := opts.ReadFile
		opts.ReadFile = func(name string, most int64) ([]byte, error) {
			if name == files[0] {
				return []byte(text), nil
			}
			return plain(name, most)
		}
		got, err := Load(files[:1], opts)
		if err != nil {
			t.Errorf("%v: %v\n%s", files, err, text)
			continue
		}
		if !slices.EqualFunc(got.Sensors, want.Sensors, sensors.Config.Equal) {
			t.Errorf("%v: got sensors\n%+v, want\n%+v\n%s", files, got.Sensors, want.Sensors, text)
		}
		got.Sensors, want.Sensors = nil, nil
		got.warnings, want.warnings = nil, nil // which have other lines
		if !reflect.DeepEqual(got, want) && !strings.Contains(text, redacted) {
			t.Errorf("%v: got\n%+v, want\n%+v\n%s", files, got, want, text)
		}
		if from := strings.Contains(text, " # "+files[0]+":"); from != (len(files) > 1) {
			t.Errorf("%v: whether the places are told: %v\n%s", files, from, text)
		}
	}
	text, err := Merge([]string{write("c.yaml", `device: {id: a}
bridges: [{name: up, username: me, password: hunter2, upstream: ["mqtt://h"], out: [{filter: x}]}] # hunter3
`)}, options())
	if err != nil || strings.Contains(text, "hunter") || !strings.Contains(text, redacted) {
		t.Errorf("%v\n%s", err, text)
	}
	if text, err := Merge([]string{write("d.yaml", "device: {id: a}\nbrigdes: []\n")}, options()); text != "" || err == nil {
		t.Errorf("a wrong one: %q, %v", text, err)
	}
}
