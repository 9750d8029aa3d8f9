package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/sensors/chips"
)

// TestASensorThatReadsItself is refused, alone and in a circle; one that reads another sensor is not.
func TestASensorThatReadsItself(t *testing.T) {
	for sensors, want := range map[string]string{
		"{name: a, driver: mqtt, topic: sensors/pi/a/value}": "sensors[a].topic: a reads what a publishes: ",
		"{name: a, driver: mqtt, topic: status/pi/a}":        "sensors[a].topic: a reads what a publishes: ",
		"{name: a, driver: mqtt, topic: sensors/pi/b/value}, {name: b, driver: mqtt, topic: sensors/pi/c/x}, {name: c, driver: mqtt, topic: sensors/pi/a/value}": "sensors[a].topic: a reads what b publishes, b reads what c publishes, c reads what a publishes: ",
		"{name: a, driver: mqtt, topic: sensors/pi/b/value}, {name: b, driver: mqtt, topic: sensors/pi/c/x}, {name: c, driver: cpu}":                             "",
		"{name: a, driver: mqtt, topic: sensors/other/a/value}":                                                                                                  "",
		"{name: a, driver: mqtt, topic: sensors/pi/a}":                                                                                                           "",
		"{name: a, driver: mqtt, topic: sensors/pi/a/b/c}":                                                                                                       "",
	} {
		opts := options()
		opts.Drivers = chips.Drivers()
		file := filepath.Join(t.TempDir(), "h.yaml")
		if err := os.WriteFile(file, []byte("sensors: ["+sensors+"]"), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := Load([]string{file}, opts)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) || err == nil && len(c.Sensors) == 0 {
			t.Errorf("%s: got %v, want %s", sensors, err, want)
		}
	}
}
