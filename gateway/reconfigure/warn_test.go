package reconfigure

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/gateway/config"
)

// TestWarn: a start and a reload log what `holdfast check` warns of, in its words.
func TestWarn(t *testing.T) {
	file := filepath.Join(t.TempDir(), "a.yaml")
	text := "device: {id: a}\nbridges: [{name: up, upstream: [\"mqtt://broker.example\"], username: u, password: p, out: [{filter: \"sensor/#\"}]}]\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load([]string{file}, config.Options{})
	if err != nil || len(cfg.Warnings()) != 2 {
		t.Fatalf("got %v, %v, want two warnings", cfg, err)
	}
	var out bytes.Buffer
	Warn(cfg, slog.New(slog.NewTextHandler(&out, nil)))
	for _, w := range cfg.Warnings() {
		if want := strings.ReplaceAll(w.Error(), `"`, `\"`); !strings.Contains(out.String(), want) {
			t.Errorf("got %s, want %s", &out, want)
		}
	}
}
