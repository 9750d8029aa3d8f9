package brokertest

import (
	_ "embed"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

//go:embed mqttjs/client.cjs
var mqttjs []byte

// MQTTJS configures the MQTT.js client: see mqttjs/client.cjs.
type MQTTJS struct {
	URL      string   `json:"url"`
	Version  int      `json:"version"` // 4 or 5
	ID       string   `json:"id,omitempty"`
	Username string   `json:"username,omitempty"`
	Password string   `json:"password,omitempty"`
	CA       string   `json:"ca,omitempty"` // PEM file
	Cert     string   `json:"cert,omitempty"`
	Key      string   `json:"key,omitempty"`
	Filters  []string `json:"filters,omitempty"`
	Publish  [][3]any `json:"publish,omitempty"` // topic, payload, QoS
}

// Command returns the process to start. It fails the test if MQTT.js is not installed, and skips it in short mode: see Program.
func (m MQTTJS) Command(t testing.TB) *exec.Cmd {
	t.Helper()
	node := Program(t, "node")
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	modules := filepath.Join(cache, "holdfast", "mqttjs", "node_modules")
	if _, err := os.Stat(filepath.Join(modules, "mqtt")); err != nil {
		t.Fatalf("MQTT.js is not installed: run `scripts/setup-test` (%v)", err)
	}
	script := filepath.Join(t.TempDir(), "client.cjs")
	if err := os.WriteFile(script, mqttjs, 0o600); err != nil {
		t.Fatal(err)
	}
	options, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(node, script, string(options))
	cmd.Env = append(os.Environ(), "NODE_PATH="+modules)
	return cmd
}
