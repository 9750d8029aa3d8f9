package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
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
