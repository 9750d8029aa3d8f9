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
	"net/http/cookiejar"
	"net/url"
	"os"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/bcrypt"

	"holdfast/broker/auth"
	"holdfast/broker/brokertest"
	"holdfast/broker/listen"
)

// hash is that of "right", as cheap as there is one.
var hash = sync.OnceValue(func() string {
	h, err := bcrypt.GenerateFromPassword([]byte("right"), bcrypt.MinCost)
	if err != nil {
		panic(err)
	}
	return string(h)
})

// users are anna, who operates, ben of the family, who looks, and carl, who may do neither.
func users(t *testing.T) Options {
	a, err := auth.New(auth.Options{
		Users:  []auth.User{{Name: "anna", Hash: hash()}, {Name: "ben", Hash: hash()}, {Name: "carl", Hash: hash()}},
		Groups: []auth.Group{{Name: "family", Users: []string{"ben"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return Options{Auth: a, View: []string{"family"}, Operate: []string{"anna"}, Device: "pi"}
}

// served is a server that runs, and a browser that looks at it.
type served struct {
	*Server
	t    *testing.T
	base string
	http *http.Client
}

func serve(t *testing.T, opts Options, add ...func(*Server)) *served {
	opts.Address = "127.0.0.1:0"
	s := New(opts)
	for _, f := range add {
		f(s)
	}
	ctx, cancel := context.WithCancel(context.Background())
	l, err := s.listen(ctx)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { defer close(ended); s.serve(ctx, l) }()
	jar, _ := cookiejar.New(nil)
	b := &served{s, t, "http://" + l.Addr().String(), &http.Client{Jar: jar, Transport: &http.Transport{}}}
	if opts.TLS != nil {
		b.base = "https" + strings.TrimPrefix(b.base, "http")
	}
	t.Cleanup(func() {
		b.http.CloseIdleConnections()
		cancel()
		<-ended
	})
	return b
}

// do sends a request with what change does to it, and returns the answer with its body read.
func (b *served) do(method, path, body string, change ...func(*http.Request)) (*http.Response, string) {
	b.t.Helper()
	r, err := http.NewRequest(method, b.base+path, strings.NewReader(body))
	if err != nil {
		b.t.Fatal(err)
	}
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/json")
	}
	for _, f := range change {
		f(r)
	}
	resp, err := b.http.Do(r)
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return resp, string(text)
}

// want sends a request and checks the answer's status and that its body holds text.
func (b *served) want(status int, text, method, path, body string, change ...func(*http.Request)) *http.Response {
	b.t.Helper()
	resp, got := b.do(method, path, body, change...)
	if resp.StatusCode != status || !strings.Contains(got, text) {
		b.t.Errorf("%s %s %s: got %d %s, want %d with %q", method, path, body, resp.StatusCode, got, status, text)
	}
	return resp
}

func header(name, value string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set(name, value) }
}

const (
	anna = `{"user":"anna","password":"right"}`
	ben  = `{"user":"ben","password":"right"}`
)

// secrets adds a page for each role.
func secrets(s *Server) {
	for role, path := range map[Role]string{Anybody: "/open", View: "/secret", Operate: "/control"} {
		s.Handle(path, role, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, "for "+visitorOf(r).user)
		}))
	}
}

func TestLoginAndRoles(t *testing.T) {
	s := serve(t, users(t), secrets)
	s.want(200, "for ", "GET", "/open", "")
	s.want(401, "log in first", "GET", "/secret", "")
	s.want(200, `"login":true,"role":"","user":""`, "GET", "/api/session", "")
	s.want(401, "wrong name or password", "POST", "/api/login", `{"user":"anna","password":"wrong"}`)
	s.want(401, "wrong name or password", "POST", "/api/login", `{"user":"nobody","password":"right"}`)
	s.want(403, "may not see", "POST", "/api/login", `{"user":"carl","password":"right"}`)
	s.want(400, "JSON", "POST", "/api/login", `{"user":`)
	s.want(400, "JSON", "POST", "/api/login", anna+"x")
	s.want(400, "unknown field", "POST", "/api/login", `{"name":"anna"}`)
	s.want(400, "JSON", "POST", "/api/login", `{"user":"`+strings.Repeat("a", maxBody)+`"}`)
	s.want(401, "", "GET", "/secret", "")

	resp := s.want(200, `"role":"view","user":"ben"`, "POST", "/api/login", ben)
	if c := resp.Header.Get("Set-Cookie"); !regexp.MustCompile(`^holdfast=[A-Z0-9]{26,}; Path=/; Max-Age=604800; HttpOnly; SameSite=Strict$`).MatchString(c) {
		t.Errorf("got cookie %q", c)
	}
	s.want(200, "for ben", "GET", "/secret", "")
	s.want(403, "web.operate", "POST", "/control", "")

	at, _ := url.Parse(s.base)
	old := s.http.Jar.Cookies(at)
	s.want(200, "", "POST", "/api/logout", "")
	s.want(401, "", "GET", "/secret", "")
	s.http.Jar.SetCookies(at, old)
	s.want(401, "", "GET", "/secret", "") // the session has ended, not only the cookie

	s.want(200, `"role":"operate"`, "POST", "/api/login", anna)
	s.want(200, "for anna", "POST", "/control", "")
	// A user who is gone is out at once.
	if err := s.opts.Auth.Configure(auth.Options{Users: []auth.User{{Name: "ben", Hash: hash()}}}); err != nil {
		t.Fatal(err)
	}
	s.want(401, "", "GET", "/secret", "")
}

func TestProgramsMayUseBasicAuthenticationToLook(t *testing.T) {
	s := serve(t, users(t), secrets)
	as := func(user, password string) func(*http.Request) {
		return func(r *http.Request) { r.SetBasicAuth(user, password) }
	}
	s.want(200, "for ben", "GET", "/secret", "", as("ben", "right"))
	s.want(401, "wrong name", "GET", "/secret", "", as("ben", "wrong"))
	s.want(401, "log in", "GET", "/secret", "", as("carl", "right"))
	s.want(401, "log in", "POST", "/control", "", as("anna", "right"))
}

func TestFailedLoginsWait(t *testing.T) {
	s := serve(t, users(t))
	var work sync.WaitGroup
	var waited atomic.Int32
	for range 14 { // from this machine: they take turns, and who would wait too long is refused
		work.Go(func() {
			resp, err := http.Post(s.base+"/api/login", "application/json", strings.NewReader(`{"user":"anna","password":"wrong"}`))
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			switch resp.StatusCode {
			case http.StatusTooManyRequests:
				waited.Add(1)
				if resp.Header.Get("Retry-After") == "" {
					t.Error("it does not say how long")
				}
			case http.StatusUnauthorized:
			default:
				t.Errorf("got %s", resp.Status)
			}
		})
	}
	work.Wait()
	if waited.Load() == 0 {
		t.Error("all were checked at once")
	}
	s.want(200, "anna", "POST", "/api/login", anna)
}

func TestSessionsAreBoundedAndEnd(t *testing.T) {
	a := users(t).Auth
	g, err := a.Login(t.Context(), auth.Login{Username: "anna", Named: true, Password: []byte("right")})
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		var s sessions
		first := s.add(g, time.Now())
		for range maxSessions {
			time.Sleep(time.Second)
			if s.add(g, time.Now()); s.use(first, time.Now()) == nil {
				t.Fatal("a session in use was ended by others")
			}
		}
		if len(s.by) != maxSessions {
			t.Errorf("%d sessions, want %d", len(s.by), maxSessions)
		}
		time.Sleep(time.Second)
		second := s.add(g, time.Now())
		time.Sleep(sessionIdle)
		if s.use(second, time.Now()) == nil {
			t.Error("a session ended early")
		}
		if s.use(first, time.Now()) != nil {
			t.Error("an idle session goes on")
		}
		for range sessionLife / sessionIdle {
			s.use(second, time.Now())
			time.Sleep(sessionIdle)
		}
		if s.use(second, time.Now()) != nil {
			t.Error("a session has no end")
		}
	})
}

func TestOtherPagesCannotAct(t *testing.T) {
	s := serve(t, users(t), secrets)
	s.want(403, "another web page", "POST", "/api/login", anna, header("Sec-Fetch-Site", "cross-site"))
	s.want(403, "another web page", "POST", "/api/login", anna, header("Sec-Fetch-Site", "same-site"))
	s.want(403, "another web page", "POST", "/api/login", anna, header("Origin", "https://evil.example"))
	s.want(403, "another web page", "POST", "/api/login", anna, header("Origin", "null"))
	s.want(400, "Content-Type", "POST", "/api/login", anna, header("Content-Type", "text/plain"))
	s.want(200, "anna", "POST", "/api/login", anna, header("Origin", s.base))
	s.want(403, "another web page", "POST", "/control", "", header("Sec-Fetch-Site", "cross-site"))
	s.want(200, "for anna", "POST", "/control", "", header("Sec-Fetch-Site", "same-origin"))
}

// TestWithoutLogin: only who is on this device, and means it, comes in.
func TestWithoutLogin(t *testing.T) {
	s := serve(t, Options{Local: View}, secrets)
	s.want(200, `"login":false,"role":"view"`, "GET", "/api/session", "")
	s.want(200, "for ", "GET", "/secret", "")
	s.want(403, "web.operate", "POST", "/control", "")
	s.want(400, "nobody has to log in", "POST", "/api/login", anna)
	host := func(name string) func(*http.Request) { return func(r *http.Request) { r.Host = name } }
	for _, good := range []string{"localhost", "localhost:8000", "127.0.0.2", "[::1]:4653"} {
		s.want(200, "", "GET", "/secret", "", host(good))
	}
	for _, bad := range []string{"evil.example", "localhost.evil.example:4653", "192.168.1.2", "[::2]:80"} {
		s.want(403, "not one of this device", "GET", "/secret", "", host(bad))
	}
	s.want(403, "proxy", "GET", "/secret", "", header("X-Forwarded-For", "192.168.1.7"))
	s = serve(t, Options{Local: Operate}, secrets)
	s.want(200, "for ", "POST", "/control", "")
}

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
			t.Errorf("%s may be kept by anybody", path)
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

// TestConnectionsAreBounded: one too many is closed, and there is room again when another one ends.
func TestConnectionsAreBounded(t *testing.T) {
	s := serve(t, Options{})
	dial := func() net.Conn {
		nc, err := net.Dial("tcp", strings.TrimPrefix(s.base, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { nc.Close() })
		return nc
	}
	alive := func(nc net.Conn) bool {
		io.WriteString(nc, "GET /api/session HTTP/1.1\r\nHost: localhost\r\n\r\n")
		line, _ := bufio.NewReader(nc).ReadString('\n')
		return strings.Contains(line, "200")
	}
	first := dial()
	if !alive(first) {
		t.Fatal("the first connection is not served")
	}
	for range maxConnections - 1 {
		if !alive(dial()) {
			t.Fatal("a connection is not served")
		}
	}
	if alive(dial()) {
		t.Fatal("one too many is served")
	}
	first.(*net.TCPConn).CloseWrite()
	io.Copy(io.Discard, first) // until the server has closed it
	if !alive(dial()) {
		t.Error("there is no room for another one")
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

type writer func([]byte)

func (w writer) Write(p []byte) (int, error) { w(p); return len(p), nil }
