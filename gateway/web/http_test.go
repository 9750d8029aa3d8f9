package web

import (
	"bufio"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"

	"holdfast/broker/brokertest"
	"holdfast/broker/listen"
)

func TestHeaders(t *testing.T) {
	s := serve(t, users(t), secrets)
	for _, path := range []string{"/", "/nothing", "/secret", "/api/session"} {
		resp, _ := s.do("GET", path, "")
		for name, want := range map[string]string{
			"Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
		} {
			if got := resp.Header.Get(name); got != want {
				t.Errorf("%s: %s: got %q, want %q", path, name, got, want)
			}
		}
		if resp.Header.Get("Cache-Control") == "" {
			t.Errorf("%s may be kept by any cache", path)
		}
	}
	if strings.Contains(policy, "unsafe") {
		t.Error("the policy allows what is inline")
	}
	if resp, _ := s.do("PUT", "/api/session", ""); resp.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("PUT: got %d", resp.StatusCode)
	}
}

// TestAssets: every file that the page names is there, compressed where it may be, and kept by browsers;
// nothing names another place, and all together are small.
func TestAssets(t *testing.T) {
	s := serve(t, Options{})
	page := s.want(200, "<!doctype html>", "GET", "/", "")
	if again, _ := s.do("GET", "/", "", header("If-None-Match", page.Header.Get("ETag"))); again.StatusCode != http.StatusNotModified {
		t.Errorf("the page again: got %d", again.StatusCode)
	}
	s.want(404, "", "GET", "/assets/"+s.assets.version+"/none.js", "")
	s.want(404, "", "GET", "/assets/0000/index.html", "")
	outside := regexp.MustCompile(`(src|href|import|url|fetch)\s*[=(]?\s*["'(]?\s*(https?:)?//`)
	total := 0
	for name, f := range s.assets.files {
		total += len(f.data)
		if f.kind == "" {
			t.Errorf("%s has no media type", name)
		}
		if !strings.HasPrefix(name, "uplot") && outside.Match(f.data) {
			t.Errorf("%s names another place: %s", name, outside.Find(f.data))
		}
		if name == "index.html" {
			for _, m := range regexp.MustCompile(`/assets/[^"]*`).FindAllString(string(f.data), -1) {
				s.want(200, "", "GET", m, "")
			}
			continue
		}
		path := "/assets/" + s.assets.version + "/" + name
		resp, text := s.do("GET", path, "", header("Accept-Encoding", "gzip"))
		z, err := gzip.NewReader(strings.NewReader(text))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if plain, err := io.ReadAll(z); err != nil || string(plain) != string(f.data) {
			t.Errorf("%s: compressed, it is another file: %v", name, err)
		}
		if c := resp.Header.Get("Cache-Control"); !strings.Contains(c, "immutable") {
			t.Errorf("%s: Cache-Control %q", name, c)
		}
	}
	if total > 300_000 {
		t.Errorf("the page weighs %d bytes, want at most 300,000", total)
	}
}

// TestLibraryIsAsPublished: the chart library is what scripts/uplot says it is.
func TestLibraryIsAsPublished(t *testing.T) {
	script, err := os.ReadFile("../../scripts/uplot")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for name, f := range newAssets().files {
		if !strings.HasPrefix(name, "uplot") {
			continue
		}
		n++
		if line := fmt.Sprintf("%x  %s", sha256.Sum256(f.data), name); !strings.Contains(string(script), line) {
			t.Errorf("scripts/uplot does not have %s", line)
		}
	}
	if n != 3 {
		t.Errorf("%d files, want 3", n)
	}
}

func TestTLS(t *testing.T) {
	pki := brokertest.NewAuthority(t)
	opts := users(t)
	var err error
	cert, key := pki.Issue("127.0.0.1")
	if opts.TLS, err = listen.NewTLS(listen.TLSOptions{Cert: cert, Key: key}); err != nil {
		t.Fatal(err)
	}
	s := serve(t, opts)
	s.http.Transport.(*http.Transport).TLSClientConfig = pki.Client("")
	resp := s.want(200, "anna", "POST", "/api/login", anna)
	if c := resp.Header.Get("Set-Cookie"); !strings.HasPrefix(c, "__Host-holdfast=") || !strings.Contains(c, "; Secure") {
		t.Errorf("got cookie %q", c)
	}
	s.want(200, `"user":"anna"`, "GET", "/api/session", "")
}

// TestConnectionsAreBounded: one too many takes the place of the one that has waited the longest, so that a flood of
// connections, silent or with unfinished requests, keeps no visitor out.
func TestConnectionsAreBounded(t *testing.T) {
	var lines atomic.Int64
	s := serve(t, Options{Log: slog.New(slog.NewTextHandler(writer(func(p []byte) {
		if strings.Contains(string(p), "there are as many as may be") {
			lines.Add(1)
		}
	}), nil))})
	dial := func(first string) net.Conn {
		nc, err := net.Dial("tcp", strings.TrimPrefix(s.base, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { nc.Close() })
		io.WriteString(nc, first)
		return nc
	}
	alive := func(nc net.Conn) bool {
		io.WriteString(nc, "GET /api/session HTTP/1.1\r\nHost: localhost\r\n\r\n")
		line, _ := bufio.NewReader(nc).ReadString('\n')
		return strings.Contains(line, "200")
	}
	first := dial("")
	if !alive(first) {
		t.Fatal("the first connection is not served")
	}
	for range maxConnections - 1 {
		if !alive(dial("")) {
			t.Fatal("a connection is not served")
		}
	}
	if !alive(dial("")) {
		t.Fatal("one too many is not served")
	}
	if n, err := io.Copy(io.Discard, first); n > 1000 || err != nil {
		t.Errorf("the first got %d bytes and %v, want to be closed", n, err)
	}
	if got := s.Refused(); got != (Refused{All: 1}) || lines.Load() != 1 {
		t.Errorf("refused %+v, logged %d lines, want one of one", got, lines.Load())
	}
	for i := range 200 {
		dial([]string{"", "G", "GET /healthz HTTP/1.1\r\nHost: local"}[i%3])
	}
	if !alive(dial("")) {
		t.Error("after a flood a new connection is not served")
	}
	if got := s.Refused(); got != (Refused{All: 202}) {
		t.Errorf("refused %+v, want 202", got)
	}
}

// TestProbesHavePlaces: while as many requests as may be are in work, another one is refused and a probe is answered.
func TestProbesHavePlaces(t *testing.T) {
	release := make(chan struct{})
	working := make(chan struct{}, 2*maxConnections)
	s := serve(t, Options{}, func(s *Server) {
		s.Handle("GET /slow", Anybody, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
			working <- struct{}{}
			<-release
		}))
		s.Probe("/healthz", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok") }))
	})
	defer close(release)
	ask := func(path string) (net.Conn, *bufio.Reader) {
		nc, err := net.Dial("tcp", strings.TrimPrefix(s.base, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { nc.Close() })
		io.WriteString(nc, "GET "+path+" HTTP/1.1\r\nHost: localhost\r\n\r\n")
		return nc, bufio.NewReader(nc)
	}
	for range maxWorking {
		ask("/slow")
		<-working
	}
	for range 100 { // more than there are places
		_, r := ask("/slow")
		if line, _ := r.ReadString('\n'); !strings.Contains(line, "503") {
			t.Fatalf("one too many: got %q, want 503", line)
		}
		_, r = ask("/healthz")
		if line, _ := r.ReadString('\n'); !strings.Contains(line, "200") {
			t.Fatalf("the probe: got %q, want 200", line)
		}
	}
	if n := len(working); n != 0 {
		t.Errorf("%d requests more are in work", n)
	}
}

// TestTakenPort: it is said once, the gateway goes on, and the dashboard comes when the port is free.
func TestTakenPort(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	said := make(chan string, 10)
	s := New(Options{Address: taken.Addr().String(), Log: slog.New(slog.NewJSONHandler(writer(func(p []byte) {
		var line struct{ Msg, Error string }
		json.Unmarshal(p, &line)
		said <- line.Msg + ": " + line.Error
	}), nil))})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	if line := <-said; !strings.Contains(line, "trying again") || !strings.Contains(line, "web.url") {
		t.Errorf("said %q", line)
	}
	taken.Close()
	if line := <-said; line != "dashboard: " {
		t.Errorf("said %q", line)
	}
	cancel()
	if err := <-ended; err != nil || s.Addr() != nil {
		t.Errorf("got %v, %v", err, s.Addr())
	}
}
