package config

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// TestNewClientID: a device whose id is its host name begins with that and a suffix of its machine; one with a name of its own,
// a bridge with an identifier and one of a service that knows its devices do not.
func TestNewClientID(t *testing.T) {
	for _, tt := range []struct {
		what, machine, yaml, id, fresh string
	}{
		{"host name", "0123456789abcdef0123456789abcdef", "", "pi", "pi-c4c3bb23"},
		{"another machine", "1123456789abcdef0123456789abcdef", "", "pi", "pi-83e15cab"},
		{"no machine-id", "", "", "pi", "pi"},
		{"machine-id before the first boot", "uninitialized", "", "pi", "pi"},
		{"device id", "0123456789abcdef0123456789abcdef", "device: {id: north}\n", "north", ""},
		{"client id", "0123456789abcdef0123456789abcdef", "client_id", "own", ""},
	} {
		text := tt.yaml
		if tt.yaml == "client_id" {
			text = "bridges: [{name: cloud, client_id: own, upstream: [\"mqtt://broker.example\"], out: [{filter: \"#\"}]}]\n"
		} else {
			text += "bridges: [{name: cloud, upstream: [\"mqtt://broker.example\"], out: [{filter: \"#\"}]}]\n"
		}
		file := filepath.Join(t.TempDir(), "c.yaml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		opts := options()
		opts.MachineID = func() (string, error) {
			if tt.machine == "" {
				return "", errors.New("no such file")
			}
			return tt.machine, nil
		}
		c, err := Load([]string{file}, opts)
		if err != nil {
			t.Fatalf("%s: %v", tt.what, err)
		}
		if b := c.Bridges[0]; b.ClientID != tt.id || b.NewClientID != tt.fresh {
			t.Errorf("%s: %q and %q, want %q and %q", tt.what, b.ClientID, b.NewClientID, tt.id, tt.fresh)
		}
	}
}
