package listen_test

import (
	"errors"
	"net/http"
	"os"
	"strings"
	"testing"

	"holdfast/broker/brokertest"
	"holdfast/broker/listen"
)

// TestHosts: the name in a request decides, together with the page that it comes from.
func TestHosts(t *testing.T) {
	own, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	short, _, _ := strings.Cut(own, ".")
	a := brokertest.NewAuthority(t)
	cert, key := a.Issue("server")
	x, err := listen.NewTLS(listen.TLSOptions{Cert: cert, Key: key})
	if err != nil {
		t.Fatal(err)
	}
	names := listen.Hosts{Names: []string{"Gate.Example", "b.example."}, Origins: []string{"https://dash.example"}}
	for _, tt := range []struct {
		hosts        listen.Hosts
		host, origin string
		want         error
	}{
		{names, "127.0.0.1:1884", "", nil},
		{names, "192.168.1.7", "http://192.168.1.7:8080", nil},
		{names, "[fe80::1%25eth0]:80", "", nil},
		{names, "[::1]:1884", "http://[::1]", nil},
		{names, "localhost:1", "http://LOCALHOST.", nil},
		{names, "LocalHost", "https://dash.example", nil},
		{names, own, "", nil},
		{names, strings.ToUpper(short) + ".local:80", "http://" + short + ".local", nil},
		{names, "gate.example.:80", "http://gate.example", nil},
		{names, "b.example", "", nil},
		{names, "localhost", "https://evil.example", listen.ErrOrigin},
		{names, "localhost", "null", listen.ErrOrigin},
		{names, "localhost", "http://127.0.0.1", listen.ErrOrigin},
		{names, "127.0.0.1", "http://127.0.0.1.evil.example", listen.ErrOrigin},
		{names, "127.0.0.1", "file://", listen.ErrOrigin},
		{names, "127.0.0.1", "%", listen.ErrOrigin},
		{names, "evil.example", "http://evil.example", listen.ErrHost},
		{names, "evil.example:1884", "", listen.ErrHost},
		{names, "evil.example", "https://dash.example", listen.ErrHost},
		{names, "localhost.evil.example", "", listen.ErrHost},
		{names, "127.0.0.1.evil.example", "", listen.ErrHost},
		{names, short + ".evil.example", "", listen.ErrHost},
		{names, "x.gate.example", "", listen.ErrHost},
		{names, "2130706433", "", listen.ErrHost},
		{names, "0x7f.1", "", listen.ErrHost},
		{names, "localhost@evil.example", "", listen.ErrHost},
		{names, "", "", listen.ErrHost},
		{listen.Hosts{Names: []string{"*"}}, "evil.example", "http://evil.example", nil},
		{listen.Hosts{Origins: []string{"*"}}, "localhost", "http://evil.example", nil},
		{listen.Hosts{Origins: []string{"*"}}, "evil.example", "http://evil.example", listen.ErrHost},
		{listen.Hosts{Loopback: true, Names: []string{"*"}}, "localhost:4653", "", nil},
		{listen.Hosts{Loopback: true}, "[::ffff:127.0.0.1]", "", nil},
		{listen.Hosts{Loopback: true}, "192.168.1.7", "", listen.ErrHost},
		{listen.Hosts{Loopback: true, Names: []string{"*"}}, "evil.example", "", listen.ErrHost},
		{listen.Hosts{TLS: x}, "evil.example", "", listen.ErrHost},
	} {
		r := &http.Request{Host: tt.host, Header: http.Header{}}
		if tt.origin != "" {
			r.Header.Set("Origin", tt.origin)
		}
		if err := tt.hosts.Check(r); !errors.Is(err, tt.want) || (err == nil) != (tt.want == nil) {
			t.Errorf("host %q, origin %q: got %v, want %v", tt.host, tt.origin, err, tt.want)
		}
	}
}
