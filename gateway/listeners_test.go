package gateway

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/broker/brokertest"
	"holdfast/gateway/status"
)

// TestAListenerThatCannotBeOpened: the gateway measures and serves its other listeners, says what is wrong, and
// opens the listener when nothing is in its way any more; also one that a reload has added.
func TestAListenerThatCannotBeOpened(t *testing.T) {
	take := func(t *testing.T, network, address string) func() {
		l, err := net.Listen(network, address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		return func() { l.Close() }
	}
	for _, tt := range []struct {
		name string
		// obstruct returns a listener that cannot be opened, why, and what mends that.
		obstruct func(t *testing.T, dir string) (yaml, why string, mend func())
		atReload bool // whether it may be added by a reload
	}{
		{"port", func(t *testing.T, _ string) (string, string, func()) {
			address := brokertest.FreeAddress(t)
			return fmt.Sprintf(`{url: "mqtt://%s"}`, address), "address already in use", take(t, "tcp", address)
		}, true},
		{"WebSocket port", func(t *testing.T, _ string) (string, string, func()) {
			address := brokertest.FreeAddress(t)
			return fmt.Sprintf(`{url: "ws://%s/mqtt"}`, address), "another broker may be running", take(t, "tcp", address)
		}, true},
		{"socket", func(t *testing.T, dir string) (string, string, func()) {
			path := filepath.Join(dir, "taken.sock")
			return fmt.Sprintf(`{url: "unix://%s"}`, path), "another broker may be running", take(t, "unix", path)
		}, true},
		{"directory of a socket", func(t *testing.T, dir string) (string, string, func()) {
			path := filepath.Join(dir, "later", "a.sock")
			return fmt.Sprintf(`{url: "unix://%s"}`, path), "make the directory", func() {
				if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
					t.Error(err)
				}
			}
		}, true},
		{"file in place of a socket", func(t *testing.T, dir string) (string, string, func()) {
			path := filepath.Join(dir, "file")
			if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
				t.Fatal(err)
			}
			return fmt.Sprintf(`{url: "unix://%s"}`, path), "is not a socket", func() {
				if b, err := os.ReadFile(path); err != nil || string(b) != "mine" {
					t.Errorf("the file is now %q, %v", b, err)
				}
				os.Remove(path)
			}
		}, true},
		{"certificate", func(t *testing.T, dir string) (string, string, func()) {
			cert, key := filepath.Join(dir, "c.crt"), filepath.Join(dir, "c.key")
			return fmt.Sprintf(`{url: "mqtts://%s", cert: %s, key: %s, anonymous: true}`, brokertest.FreeAddress(t), cert, key), "no such file", func() {
				madeCert, madeKey := brokertest.NewAuthority(t).Issue("server")
				if err := errors.Join(os.Rename(madeKey, key), os.Rename(madeCert, cert)); err != nil {
					t.Error(err)
				}
			}
		}, false}, // there the former configuration stays
	} {
		for _, atReload := range []bool{false, true} {
			if atReload && !tt.atReload {
				continue
			}
			t.Run(fmt.Sprint(tt.name, " at reload ", atReload), func(t *testing.T) {
				t.Parallel()
				s := planSite(t, "sensors:\n  - {name: air, driver: bme280, bus: simulated, every: 20ms}\n")
				yaml, why, mend := tt.obstruct(t, s.dir)
				plain := s.config
				with := strings.Replace(plain, `127.0.0.1:0"}`, `127.0.0.1:0"}, `+yaml, 1)
				if !atReload {
					s.config = with
				}
				s.start()
				if atReload {
					changes, err := s.reload("", with)
					if err != nil || !strings.Contains(strings.Join(changes, "\n"), "tried again") {
						t.Fatalf("reload: %q, %v", changes, err)
					}
				}
				s.hear("sensors/site/air/temperature", func(m message) bool { return m.Value != nil })
				state := func() status.Listener { return s.agent.Status().Listeners[1] }
				if got := state(); got.Open || !strings.Contains(got.Error, why) {
					t.Errorf("got %+v, want %q", got, why)
				}
				if text := strings.Join(s.agent.Status().Problems, "\n"); !strings.Contains(text, "is not open and is tried again: ") || !strings.Contains(text, why) {
					t.Errorf("problems:\n%s", text)
				}
				ready := func() (int, string) {
					w := httptest.NewRecorder()
					s.agent.made.views.Readyz().ServeHTTP(w, nil)
					return w.Code, w.Body.String()
				}
				if code, text := ready(); code != 503 || !strings.Contains(text, "is not open: ") {
					t.Errorf("ready: %d %s", code, text)
				}
				mend()
				if !s.atLast(func() bool { return state().Open }) {
					t.Fatalf("it stays closed: %+v", state())
				}
				if code, text := ready(); code != 200 {
					t.Errorf("ready: %d %s", code, text)
				}
				if n := len(s.agent.made.server.Addrs()); n != 2 {
					t.Errorf("%d addresses", n)
				}
			})
		}
	}
}

// TestAListenerThatIsNotWantedAnyMore is not opened later.
func TestAListenerThatIsNotWantedAnyMore(t *testing.T) {
	s := planSite(t, "")
	path := filepath.Join(s.dir, "later", "a.sock")
	plain := s.config
	s.config = strings.Replace(plain, `127.0.0.1:0"}`, `127.0.0.1:0"}, {url: "unix://`+path+`"}`, 1)
	s.start()
	if _, err := s.reload("", plain); err != nil {
		t.Fatal(err)
	}
	if got := s.agent.Status().Listeners; len(got) != 1 || !got[0].Open {
		t.Errorf("got %+v", got)
	}
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	s.stop() // waits for every goroutine
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket is there: %v", err)
	}
}

// TestTheDashboardsPortIsTaken: status says so, and the page is there when the port is free.
func TestTheDashboardsPortIsTaken(t *testing.T) {
	address := brokertest.FreeAddress(t)
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s := planSite(t, "")
	s.config = strings.Replace(s.config, "url: off", `url: "http://`+address+`"`, 1)
	s.start()
	state := func() (open bool, text string) {
		for _, l := range s.agent.Status().Listeners {
			if l.URL == "http://"+address {
				return l.Open, l.Error
			}
		}
		return false, ""
	}
	if !s.atLast(func() bool { _, text := state(); return strings.Contains(text, "another program has the port") }) {
		t.Error("status does not say so")
	}
	l.Close()
	if !s.atLast(func() bool { open, _ := state(); return open }) {
		t.Error("it stays closed")
	}
}

// atLast is eventually, with a limit that covers the time between two attempts at a listener.
func (s *site) atLast(ok func() bool) bool {
	s.t.Helper()
	for range 50 {
		if s.eventually(ok) {
			return true
		}
	}
	return false
}
