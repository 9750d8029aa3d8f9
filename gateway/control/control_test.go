package control

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// lines is a log that tells of each line.
type lines chan string

func (l lines) Write(p []byte) (int, error) {
	l <- string(bytes.TrimSpace(p))
	return len(p), nil
}

func (l lines) wait(text string) {
	for line := range l {
		if strings.Contains(line, text) {
			return
		}
	}
}

// serve runs a server on path until stop.
func serve(t *testing.T, path string) (log lines, stop func()) {
	t.Helper()
	log = make(lines, 100)
	s := New(path, slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	s.Handle("GET /hello", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `"hi"`) }))
	s.Handle("GET /never", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	s.Handle("POST /echo", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		_ = json.NewEncoder(w).Encode(string(body))
	}))
	s.Handle("POST /wrong", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "not like this", http.StatusBadRequest) }))
	ctx, cancel := context.WithCancel(context.Background())
	var ended sync.WaitGroup
	ended.Go(func() { _ = s.Run(ctx) })
	stop = sync.OnceFunc(func() { cancel(); ended.Wait() })
	t.Cleanup(stop)
	return log, stop
}

func TestControl(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c")
	c := Find(path, "/nowhere")
	ctx := t.Context()
	if err := c.Get(ctx, "/hello", nil); err == nil || !strings.Contains(err.Error(), "holdfast does not run: nothing answers at "+path) {
		t.Errorf("without a gateway: %v", err)
	}
	// What a killed gateway leaves is taken over.
	left, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	left.(*net.UnixListener).SetUnlinkOnClose(false)
	left.Close()
	if err := c.Get(ctx, "/hello", nil); err == nil || !strings.Contains(err.Error(), "does not run") {
		t.Errorf("with what is left of one: %v", err)
	}
	log, stop := serve(t, path)
	log.wait("control socket open")
	var text string
	if err := c.Get(ctx, "/hello", &text); err != nil || text != "hi" {
		t.Errorf("got %q, %v", text, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != os.ModeSocket|0o660 {
		t.Errorf("mode: got %v, %v", info.Mode(), err)
	}
	if _, err := c.Do(ctx, "POST", "/wrong", strings.NewReader("x")); err == nil || err.Error() != "not like this" {
		t.Errorf("a refusal: %v", err)
	}
	if err := c.Post(ctx, "/echo", []string{"a"}, &text); err != nil || text != "[\"a\"]\n" {
		t.Errorf("a request with a body: %q, %v", text, err)
	}
	if err := c.Post(ctx, "/new", nil, nil); err == nil || !strings.Contains(err.Error(), "does not know POST /new") {
		t.Errorf("a request that an older gateway does not know: %v", err)
	}
	var number int
	if err := c.Get(ctx, "/hello", &number); err == nil || !strings.Contains(err.Error(), "another version") {
		t.Errorf("an answer of another kind: %v", err)
	}

	// One that runs is left alone, and followed once it has ended.
	second, _ := serve(t, path)
	second.wait("another holdfast runs")
	if err := c.Get(ctx, "/hello", &text); err != nil {
		t.Errorf("after a second one: %v", err)
	}
	go func() { _, _ = c.Do(ctx, "GET", "/never", nil) }() // holds up nothing
	stop()
	second.wait("control socket open")
	if err := c.Get(ctx, "/hello", &text); err != nil {
		t.Errorf("from the second one: %v", err)
	}
}

func TestFind(t *testing.T) {
	for _, tt := range []struct{ configured, dataDir, want string }{
		{"/a/b", "/var/lib/holdfast", "/a/b"},
		{"", "/var/lib/holdfast", "/run/holdfast/control.sock /var/lib/holdfast/control.sock"},
		{"", "/var/lib/holdfast/north", "/run/holdfast/north/control.sock /var/lib/holdfast/north/control.sock"},
		{"", "data", "data/control.sock"},
	} {
		if got := strings.Join(Find(tt.configured, tt.dataDir).Paths, " "); got != tt.want {
			t.Errorf("%q, %q: got %s, want %s", tt.configured, tt.dataDir, got, tt.want)
		}
	}
	t.Setenv("RUNTIME_DIRECTORY", "")
	if got := Path("", "/d"); got != "/d/control.sock" {
		t.Errorf("got %s", got)
	}
	t.Setenv("RUNTIME_DIRECTORY", "/run/holdfast:/run/other")
	if got := Path("", "/d"); got != "/run/holdfast/control.sock" {
		t.Errorf("got %s", got)
	}
	if got := strings.Join(Find("", "/d").Paths, " "); got != "/run/holdfast/control.sock /d/control.sock" { // in ExecReload= of the unit
		t.Errorf("got %s", got)
	}
	if got := Path("/c", "/d"); got != "/c" {
		t.Errorf("got %s", got)
	}
}
