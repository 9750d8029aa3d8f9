package server_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/broker/brokertest"
	"holdfast/broker/listen"
	"holdfast/broker/server"
	"holdfast/broker/wire"
)

// TestRevokedWhileConnected: a revocation ends the connections of that certificate, over TLS and over WebSocket, and no
// others; further ones are refused. Both are counted, and logged with serial number and subject.
func TestRevokedWhileConnected(t *testing.T) {
	ca := brokertest.NewAuthority(t)
	cert, key := ca.Issue("server")
	file := filepath.Join(t.TempDir(), "revoked.crl")
	revoke := func(certs ...*x509.Certificate) {
		t.Helper()
		if err := errors.Join(os.WriteFile(file+".new", ca.Revoke(time.Now().Add(time.Hour), certs...), 0o600), os.Rename(file+".new", file)); err != nil {
			t.Fatal(err)
		}
	}
	revoke()
	x, err := listen.NewTLS(listen.TLSOptions{Cert: cert, Key: key, ClientCA: ca.File, CRL: file})
	if err != nil {
		t.Fatal(err)
	}
	log := &logged{}
	opts := server.Options{Log: slog.New(slog.NewTextHandler(log, nil))}
	for _, ws := range []*listen.WebSocket{nil, {}} {
		o := listen.Options{Network: "tcp", Address: "127.0.0.1:0", TLS: x, WebSocket: ws}
		opts.Listeners = append(opts.Listeners, server.Listener{Open: o.Open, Revoked: x.Revoked})
	}
	h := newHost(t, opts)
	dial := func(i int, config *tls.Config) (net.Conn, error) {
		t.Helper()
		addr := h.Addrs()[i].String()
		nc, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		nc.SetDeadline(time.Now().Add(20 * time.Second))
		nc = tls.Client(nc, config)
		if i == 1 {
			if nc, _, err = listen.DialWebSocket(context.Background(), nc, "wss://"+addr); err != nil {
				return nil, err
			}
		}
		return nc, nil
	}
	configs := map[string]*tls.Config{"good": ca.Client("good"), "bad": ca.Client("bad"), "": ca.Client("")}
	clients := map[string][]*brokertest.Client{}
	for i := range opts.Listeners {
		for name, config := range configs {
			nc, err := dial(i, config)
			if err != nil {
				t.Fatal(err)
			}
			c := brokertest.NewClient(t, nc, wire.V5)
			if ack := c.Connect(wire.Connect{ClientID: fmt.Sprint("c-", name, i), CleanStart: true}); ack.Code != wire.Success {
				t.Fatal(ack.Code)
			}
			clients[name] = append(clients[name], c)
		}
	}
	bad := configs["bad"].Certificates[0].Leaf
	revoke(bad)
	if changed, err := x.ReloadIfChanged(); !changed || err != nil {
		t.Fatal(changed, err)
	}
	h.Reauthorize()
	for i, c := range clients["bad"] {
		if code := c.Closed(); code != wire.NotAuthorized {
			t.Errorf("%d: closed with %v", i, code)
		}
	}
	for _, name := range []string{"good", ""} {
		for i, c := range clients[name] {
			c.Send(&wire.Publish{Topic: "t", QoS: 1, ID: 1})
			if a := brokertest.Receive[*wire.Ack](c); a.ID != 1 {
				t.Errorf("%q %d: got %+v", name, i, a)
			}
		}
	}
	for i := range opts.Listeners {
		nc, err := dial(i, configs["bad"])
		if err == nil {
			_, err = nc.Read(make([]byte, 1))
			nc.Close()
		}
		if err == nil {
			t.Errorf("%d: let in", i)
		}
	}
	for deadline := time.Now().Add(20 * time.Second); h.Stats().Revoked != 4; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d are counted, want 4", h.Stats().Revoked)
		}
	}
	want := fmt.Sprintf(`serial=%X subject="CN=bad" crl=%s`, bad.SerialNumber, file)
	if got := strings.Count(log.String(), want); got != 4 {
		t.Errorf("%d lines with %s in\n%s", got, want, log)
	}
}
