package gateway

import (
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
)

// TestNotify: the service manager hears in order that the gateway is ready, that it makes progress, that it is
// reloading and ready again, and that it stops.
func TestNotify(t *testing.T) {
	path := filepath.Join(t.TempDir(), "n")
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer manager.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	t.Setenv("WATCHDOG_USEC", "200000")
	t.Setenv("WATCHDOG_PID", "")
	hear := func(want ...string) {
		t.Helper()
		b := make([]byte, 4096)
		for len(want) > 0 {
			n, err := manager.Read(b)
			if err != nil {
				t.Fatal(err)
			}
			if strings.HasPrefix(string(b[:n]), want[0]) {
				want = want[1:]
			}
		}
	}
	s := newSite(t, "")
	hear("READY=1\nSTATUS=0 sensors", "WATCHDOG=1", "WATCHDOG=1")
	s.agent.Reload(s.agent.made.exchanger.Config())
	hear("RELOADING=1\nMONOTONIC_USEC=", "READY=1", "WATCHDOG=1")

	get := func(h http.Handler) (int, string) {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
		return w.Code, w.Body.String()
	}
	if code, text := get(s.agent.made.views.Healthz()); code != 200 || text != "loops: ok\n" {
		t.Errorf("healthz: %d %s", code, text)
	}
	if code, text := get(s.agent.made.views.Readyz()); code != 200 || text != "journal: ok\nlisteners: ok\n" {
		t.Errorf("readyz: %d %s", code, text)
	}
	if code, text := get(s.agent.made.views.Metrics()); code != 200 || !strings.Contains(text, `holdfast_info{device="site"`) {
		t.Errorf("metrics: %d %s", code, text)
	}
	s.stop()
	hear("STOPPING=1")
	if code, text := get(s.agent.made.views.Readyz()); code != 503 || !strings.Contains(text, "listeners: stopping") {
		t.Errorf("readyz at the end: %d %s", code, text)
	}
}
