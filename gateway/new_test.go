package gateway

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/gateway/config"
)

// TestNewFailsWithAnError: what cannot be built is said, and what was built before it is closed.
func TestNewFailsWithAnError(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	a, err := New(&config.Config{DataDir: file}, Options{})
	if a != nil || err == nil || !strings.Contains(err.Error(), "data_dir: ") {
		t.Errorf("got %v, %v", a, err)
	}
}
