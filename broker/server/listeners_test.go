package server_test

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/broker/brokertest"
	"holdfast/broker/listen"
	"holdfast/broker/server"
	"holdfast/broker/wire"
)

// TestListeners: one server, five kinds of listeners, one conversation over each pair.
func TestListeners(t *testing.T) {
	a := brokertest.NewAuthority(t)
	cert, key := a.Issue("server")
	x, err := listen.NewTLS(listen.TLSOptions{Cert: cert, Key: key, ClientCA: a.File})
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(t.TempDir(), "s")
	var opts server.Options
	for _, o := range []listen.Options{
		{Network: "tcp", Address: "127.0.0.1:0"},
		{Network: "tcp", Address: "127.0.0.1:0", TLS: x},
		{Network: "tcp", Address: "127.0.0.1:0", WebSocket: &listen.WebSocket{}},
		{Network: "tcp", Address: "127.0.0.1:0", WebSocket: &listen.WebSocket{}, TLS: x},
		{Network: "unix", Address: socket},
	} {
		opts.Listeners = append(opts.Listeners, server.Listener{Open: o.Open})
	}
	h := newHost(t, opts)
	dial := func(i int) net.Conn {
		t.Helper()
		addr := h.Addrs()[i]
		nc, err := net.Dial(addr.Network(), addr.String())
		if err != nil {
			t.Fatal(err)
		}
		if i == 1 || i == 3 {
			nc = tls.Client(nc, a.Client(""))
		}
		if i == 2 || i == 3 {
			url := []string{2: "ws://", 3: "wss://"}[i] + addr.String() + "/mqtt"
			if nc, _, err = listen.DialWebSocket(context.Background(), nc, url); err != nil {
				t.Fatal(err)
			}
		}
		return nc
	}
	var clients []*brokertest.Client
	for i := range opts.Listeners {
		c := brokertest.NewClient(t, dial(i), versions[i%2])
		if ack := c.Connect(wire.Connect{CleanStart: true}); ack.Code != wire.Success {
			t.Fatal(ack.Code)
		}
		subscribe(t, c, "all", 1)
		clients = append(clients, c)
	}
	big := strings.Repeat("x", 300_000)
	for i := range clients {
		c := brokertest.NewClient(t, dial(i), versions[i%2])
		c.Connect(wire.Connect{CleanStart: true})
		publish(t, c, wire.Publish{Topic: "all", QoS: 1, Payload: []byte(big)})
		c.Send(&wire.Disconnect{})
		for j, to := range clients {
			if got := receive(t, to); string(got.Payload) != big {
				t.Errorf("from %d to %d: %d bytes", i, j, len(got.Payload))
			}
		}
	}
}

// TestHandshakeTimeout: a client that does not go on with TLS or with WebSocket has as long as one that
// does not go on with MQTT.
func TestHandshakeTimeout(t *testing.T) {
	a := brokertest.NewAuthority(t)
	cert, key := a.Issue("server")
	x, err := listen.NewTLS(listen.TLSOptions{Cert: cert, Key: key})
	if err != nil {
		t.Fatal(err)
	}
	for name, o := range map[string]listen.Options{
		"TLS": {TLS: x}, "WebSocket": {WebSocket: &listen.WebSocket{}}, "both": {TLS: x, WebSocket: &listen.WebSocket{}},
	} {
		t.Run(name, func(t *testing.T) {
			timed(t, func(t *testing.T, s *server.Server, _ func(wire.Version) *brokertest.Client) {
				near, far := net.Pipe()
				s.Serve(o.Wrap(far))
				begun := time.Now()
				if n, err := near.Read(make([]byte, 1)); err != io.EOF {
					t.Errorf("got %d, %v", n, err)
				}
				if took := time.Since(begun); took != 10*time.Second {
					t.Errorf("ended after %v", took)
				}
			})
		})
	}
}
