package web

import (
	"context"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/bcrypt"

	"holdfast/broker/auth"
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
	s.want(400, "no login is required", "POST", "/api/login", anna)
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

type writer func([]byte)

func (w writer) Write(p []byte) (int, error) { w(p); return len(p), nil }
