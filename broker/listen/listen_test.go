package listen_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"holdfast/broker/brokertest"
	"holdfast/broker/listen"
)

// echo serves connections that echo their input; the outcome of each is in results.
func echo(t *testing.T, opts listen.Options) (addr string, results chan error) {
	t.Helper()
	l, err := opts.Open(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	results = make(chan error, 100)
	go func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer nc.Close()
				nc.SetDeadline(time.Now().Add(20 * time.Second))
				if h, ok := nc.(listen.Handshaker); ok {
					if err := h.Handshake(); err != nil {
						results <- err
						return
					}
				}
				_, err := io.Copy(struct{ io.Writer }{nc}, struct{ io.Reader }{nc})
				results <- err
			}()
		}
	}()
	return l.Addr().String(), results
}

// says checks that what is written comes back.
func says(t *testing.T, nc net.Conn, text string) {
	t.Helper()
	nc.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := nc.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(text))
	if _, err := io.ReadFull(nc, got); err != nil || string(got) != text {
		t.Fatalf("got %q, %v, want %q", got, err, text)
	}
}

// TestFamilies: a listener takes the family of its address, and both without one.
func TestFamilies(t *testing.T) {
	if l, err := net.Listen("tcp6", "[::1]:0"); err != nil {
		t.Skip("this machine has no IPv6")
	} else {
		l.Close()
	}
	for address, want := range map[string][2]bool{ // IPv4, IPv6
		"0.0.0.0:0": {true, false}, "[::ffff:0.0.0.0]:0": {true, false}, "127.0.0.1:0": {true, false},
		"[::]:0": {true, true}, ":0": {true, true}, "[::1]:0": {false, true},
	} {
		l, err := listen.Options{Network: "tcp", Address: address}.Open(context.Background())
		if err != nil {
			t.Errorf("%s: %v", address, err)
			continue
		}
		_, port, _ := net.SplitHostPort(l.Addr().String())
		var got [2]bool
		for i, host := range []string{"127.0.0.1", "::1"} {
			nc, err := net.Dial("tcp", net.JoinHostPort(host, port))
			if got[i] = err == nil; got[i] {
				nc.Close()
			}
		}
		l.Close()
		if got != want {
			t.Errorf("%s: IPv4 and IPv6 get in: %v, want %v", address, got, want)
		}
	}
}

func TestUnix(t *testing.T) {
	path := filepath.Join(t.TempDir(), "mqtt.sock")
	opts := listen.Options{Network: "unix", Address: path, Mode: 0o620}
	open := func() net.Listener {
		t.Helper()
		l, err := opts.Open(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o620 {
			t.Errorf("got %v, %v", info.Mode(), err)
		}
		return l
	}
	l := open()
	if _, err := opts.Open(context.Background()); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("a second listener: %v", err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false) // as after a crash
	l.Close()
	open().Close()
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is left: %v", err)
	}
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := opts.Open(context.Background()); err == nil || !strings.Contains(err.Error(), "left alone") {
		t.Errorf("over a file: %v", err)
	}
	if data, err := os.ReadFile(path); err != nil || string(data) != "precious" {
		t.Errorf("the file is now %q, %v", data, err)
	}
	opts.Address = filepath.Join(path+"-none", "x")
	if _, err := opts.Open(context.Background()); err == nil || !strings.Contains(err.Error(), "make the directory") {
		t.Errorf("in no directory: %v", err)
	}
}

func TestCertificateFiles(t *testing.T) {
	a := brokertest.NewAuthority(t)
	cert, key := a.Issue("server")
	_, other := a.Issue("other")
	dir := t.TempDir()
	file := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	old := file("old.key", pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Headers: map[string]string{"Proc-Type": "4,ENCRYPTED"}}))
	encrypted := file("encrypted.key", pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: []byte("x")}))
	text := file("text", []byte("hello"))
	broken := file("broken", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")}))
	for _, tt := range []struct {
		opts listen.TLSOptions
		want string
	}{
		{listen.TLSOptions{Cert: dir + "/none", Key: key}, "certificate " + dir + "/none: no such file"},
		{listen.TLSOptions{Cert: cert, Key: dir}, "key " + dir + ": want a PEM file of at most 1024 KiB"},
		{listen.TLSOptions{Cert: key, Key: key}, "certificate " + key + ` holds PRIVATE KEY, want a PEM block "CERTIFICATE"`},
		{listen.TLSOptions{Cert: cert, Key: cert}, "key " + cert + ` holds CERTIFICATE, want a PEM block "PRIVATE KEY"`},
		{listen.TLSOptions{Cert: cert, Key: other}, "key " + other + " does not belong to certificate " + cert + ":"},
		{listen.TLSOptions{Cert: cert, Key: old}, "key " + old + " is encrypted"},
		{listen.TLSOptions{Cert: cert, Key: encrypted}, "openssl pkey -in " + encrypted},
		{listen.TLSOptions{Cert: text, Key: key}, "certificate " + text + " is not PEM"},
		{listen.TLSOptions{Cert: broken, Key: key}, "certificate " + broken + " with key " + key + ": "},
		{listen.TLSOptions{Cert: cert, Key: key, ClientCA: broken}, "ca " + broken + ": no certificate"},
	} {
		if _, err := listen.NewTLS(tt.opts); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("got  %v\nwant %s", err, tt.want)
		}
	}
	x, err := listen.NewTLS(listen.TLSOptions{Cert: cert, Key: key})
	if err != nil {
		t.Fatal(err)
	}
	for at, want := range map[time.Time]string{
		time.Now():                      "",
		time.Now().Add(2 * time.Hour):   cert + ": the certificate expired on ",
		time.Unix(0, 0):                 "set the clock, or replace the certificate",
		time.Now().Add(-24 * time.Hour): "this machine's clock says",
	} {
		if err := x.Check(at); (want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("at %v: got %v, want %q", at, err, want)
		}
	}
}

func TestTLS(t *testing.T) {
	a := brokertest.NewAuthority(t)
	cert, key := a.Issue("server")
	x, err := listen.NewTLS(listen.TLSOptions{Cert: cert, Key: key, ClientCA: a.File, Require: true})
	if err != nil {
		t.Fatal(err)
	}
	addr, results := echo(t, listen.Options{Network: "tcp", Address: "127.0.0.1:0", TLS: x})
	dial := func(config *tls.Config) (*tls.Conn, error) {
		c, err := tls.Dial("tcp", addr, config)
		if err == nil {
			t.Cleanup(func() { c.Close() })
			c.SetDeadline(time.Now().Add(20 * time.Second))
			if _, err = c.Write([]byte("x")); err == nil { // TLS 1.3 clients get the alert only after their handshake
				_, err = c.Read(make([]byte, 1))
			}
		}
		return c, err
	}
	first, err := dial(a.Client("device-1"))
	if err != nil {
		t.Fatal(err)
	}
	stranger := a.Client("")
	foreign := brokertest.NewAuthority(t).Client("device-1")
	foreign.RootCAs = stranger.RootCAs
	old := a.Client("device-1")
	old.MaxVersion = tls.VersionTLS11
	for name, config := range map[string]*tls.Config{"no certificate": stranger, "another authority": foreign, "TLS 1.1": old} {
		if _, err := dial(config); err == nil {
			t.Errorf("%s is let in", name)
		}
		if err := <-results; err == nil {
			t.Errorf("%s: the server sees nothing wrong", name)
		}
	}

	// Half of a replacement is refused, the whole of it takes effect, and the first connection lives on.
	if changed, err := x.ReloadIfChanged(); changed || err != nil {
		t.Errorf("nothing changed: %v, %v", changed, err)
	}
	newCert, newKey := a.Issue("renewed")
	replace := func(from, to string) {
		data, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(os.WriteFile(to+".new", data, 0o600), os.Rename(to+".new", to)); err != nil {
			t.Fatal(err)
		}
	}
	replace(newCert, cert)
	if changed, err := x.ReloadIfChanged(); !changed || err == nil || !strings.Contains(err.Error(), "does not belong") {
		t.Errorf("half: %v, %v", changed, err)
	}
	name := func() string {
		c, err := dial(a.Client("device-1"))
		if err != nil {
			t.Fatal(err)
		}
		return c.ConnectionState().PeerCertificates[0].Subject.CommonName
	}
	if got := name(); got != "server" {
		t.Errorf("after half: %s", got)
	}
	replace(newKey, key)
	if changed, err := x.ReloadIfChanged(); !changed || err != nil {
		t.Errorf("whole: %v, %v", changed, err)
	}
	if got := name(); got != "renewed" {
		t.Errorf("after all: %s", got)
	}
	says(t, first, "still here")
}

func TestWebSocket(t *testing.T) {
	a := brokertest.NewAuthority(t)
	x, err := listen.NewTLS(func() (o listen.TLSOptions) { o.Cert, o.Key = a.Issue("server"); return }())
	if err != nil {
		t.Fatal(err)
	}
	for _, scheme := range []string{"ws", "wss"} {
		t.Run(scheme, func(t *testing.T) {
			opts := listen.Options{Network: "tcp", Address: "127.0.0.1:0", WebSocket: &listen.WebSocket{Path: "/mqtt"}}
			if scheme == "wss" {
				opts.TLS = x
			}
			addr, results := echo(t, opts)
			nc, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			if scheme == "wss" {
				nc = tls.Client(nc, a.Client(""))
			}
			c, _, err := listen.DialWebSocket(context.Background(), nc, scheme+"://"+addr+"/mqtt")
			if err != nil {
				t.Fatal(err)
			}
			says(t, c, "hello")
			says(t, c, strings.Repeat("0123456789", 100_000))
			c.Close()
			if err := <-results; err != nil {
				t.Errorf("an orderly end: %v", err)
			}
		})
	}
}

// TestWebSocketFrames: messages and packets need not be aligned, pings are answered, text is refused.
func TestWebSocketFrames(t *testing.T) {
	addr, results := echo(t, listen.Options{Network: "tcp", Address: "127.0.0.1:0", WebSocket: &listen.WebSocket{}})
	d := websocket.Dialer{Subprotocols: []string{"other", "mqtt"}}
	ws, _, err := d.Dial("ws://"+addr+"/any/path", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer ws.Close()
	ponged := make(chan string, 1)
	ws.SetPongHandler(func(s string) error { ponged <- s; return nil })
	for _, part := range []string{"ab", "", "c", "defg"} {
		if err := ws.WriteMessage(websocket.BinaryMessage, []byte(part)); err != nil {
			t.Fatal(err)
		}
	}
	if err := ws.WriteControl(websocket.PingMessage, []byte("hi"), time.Now().Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	if err := ws.WriteMessage(websocket.TextMessage, []byte("text")); err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	for {
		_, data, err := ws.ReadMessage()
		if err != nil {
			break
		}
		got.Write(data)
	}
	if got.String() != "abcdefg" {
		t.Errorf("got %q", &got)
	}
	if s := <-ponged; s != "hi" {
		t.Errorf("pong %q", s)
	}
	if err := <-results; err == nil || !strings.Contains(err.Error(), "text") {
		t.Errorf("got %v", err)
	}
}

func TestWebSocketRefusals(t *testing.T) {
	addr, results := echo(t, listen.Options{Network: "tcp", Address: "127.0.0.1:0",
		WebSocket: &listen.WebSocket{Path: "/mqtt", Origins: []string{"https://dash.example"}}})
	for _, tt := range []struct {
		path, protocol, origin string
		status                 int
	}{
		{"/mqtt", "mqtt", "", 101},
		{"/mqtt", "mqtt", "https://dash.example", 101},
		{"/mqtt", "mqtt", "http://127.0.0.1:3000", 101},
		{"/mqtt", "mqtt", "https://evil.example", 403},
		{"/mqtt", "mqtt", "null", 403},
		{"/mqtt", "mqttv3.1", "", 400},
		{"/mqtt", "", "", 400},
		{"/", "mqtt", "", 404},
	} {
		header := http.Header{}
		if tt.origin != "" {
			header.Set("Origin", tt.origin)
		}
		d := websocket.Dialer{}
		if tt.protocol != "" {
			d.Subprotocols = []string{tt.protocol}
		}
		ws, response, err := d.Dial("ws://"+addr+tt.path, header)
		if response == nil || response.StatusCode != tt.status {
			t.Errorf("%+v: got %v, %v", tt, response, err)
			continue
		}
		if ws != nil {
			ws.Close()
		}
		if err := <-results; err == nil && tt.status != 101 {
			t.Errorf("%+v: the server says %v", tt, err)
		}
	}
	for name, request := range map[string]string{
		"plain HTTP":  "GET /mqtt HTTP/1.1\r\nHost: h\r\n\r\n",
		"not HTTP":    "\x10\x0c\x00\x04MQTT\x04\x02\x00\x00\x00\x00\r\n\r\n",
		"endless":     "GET /mqtt HTTP/1.1\r\nX: " + strings.Repeat("x", 20_000),
		"many fields": "GET /mqtt HTTP/1.1\r\n" + strings.Repeat("X: y\r\n", 4000) + "\r\n",
	} {
		nc, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(nc, request)
		if err := <-results; err == nil {
			t.Errorf("%s: upgraded", name)
		}
		nc.Close()
	}
}
