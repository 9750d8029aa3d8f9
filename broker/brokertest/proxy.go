package brokertest

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"
)

// Proxy is an HTTP proxy that connects to one target, whatever host it is asked for.
type Proxy struct {
	*httptest.Server
	target string

	mu    sync.Mutex
	asked []string
	auth  string // what Proxy-Authorization has to be; empty takes any
}

// NewProxy returns a proxy for the test. With auth, which is a whole header such as "Basic YTpi", it refuses
// clients that do not send it. The caller starts it, with Start or StartTLS.
func NewProxy(t testing.TB, target, auth string) *Proxy {
	t.Helper()
	p := &Proxy{target: target, auth: auth}
	p.Server = httptest.NewUnstartedServer(http.HandlerFunc(p.serve))
	t.Cleanup(func() {
		p.CloseClientConnections()
		p.Close()
	})
	return p
}

// Asked returns the hosts and ports that clients asked the proxy for.
func (p *Proxy) Asked() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.asked
}

func (p *Proxy) serve(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	p.asked = append(p.asked, r.Host)
	p.mu.Unlock()
	switch {
	case p.auth != "" && r.Header.Get("Proxy-Authorization") != p.auth:
		w.Header().Set("Proxy-Authenticate", "Basic")
		http.Error(w, "who are you?", http.StatusProxyAuthRequired)
		return
	case r.Method != http.MethodConnect || p.target == "":
		http.Error(w, "not here", http.StatusForbidden)
		return
	}
	far, err := net.Dial("tcp", p.target)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	near, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		far.Close()
		return
	}
	io.WriteString(near, "HTTP/1.1 200 Connection established\r\nDate: "+time.Now().UTC().Format(http.TimeFormat)+"\r\n\r\n")
	go func() {
		io.Copy(far, near)
		far.Close()
		near.Close()
	}()
	io.Copy(near, far)
	near.Close()
	far.Close()
}
