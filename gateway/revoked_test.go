package gateway

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/broker/brokertest"
	"holdfast/broker/wire"
)

// TestCRL: a new list takes effect without a reload; one that is late or cannot be read locks no client out, and status and
// log report it.
func TestCRL(t *testing.T) {
	ca := brokertest.NewAuthority(t)
	cert, key := ca.Issue("server")
	s := planSite(t, "")
	var log bytes.Buffer
	s.opts.Log = slog.New(slog.NewTextHandler(&log, nil))
	file, address := filepath.Join(s.dir, "ca.crl"), brokertest.FreeAddress(t)
	put := func(data []byte) {
		t.Helper()
		if err := errors.Join(os.WriteFile(file+".new", data, 0o600), os.Rename(file+".new", file)); err != nil {
			t.Fatal(err)
		}
	}
	look := func() { // as every few seconds, but for certain
		s.agent.made.access.LoadChangedFiles()
	}
	past, later := time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	put(ca.Revoke(past))
	s.config = strings.Replace(s.config, `127.0.0.1:0"}`, `127.0.0.1:0"}, {url: "mqtts://`+address+`", cert: `+cert+`, key: `+key+`, ca: `+ca.File+`, crl: `+file+`, anonymous: true}`, 1)
	s.start()
	warning := func() string { return s.agent.Status().Listeners[1].Warning }
	if got := warning(); !strings.Contains(got, file) || !strings.Contains(strings.Join(s.agent.Status().Problems, "\n"), got) {
		t.Errorf("late: %q", got)
	}
	enter := func(config *tls.Config) (c *brokertest.Client, err error) {
		t.Helper()
		nc, err := tls.Dial("tcp", address, config)
		if err != nil {
			return nil, err
		}
		c = brokertest.NewClient(t, nc, wire.V5)
		if a := c.Connect(wire.Connect{CleanStart: true}); a.Code != wire.Success {
			t.Fatal(a.Code)
		}
		return c, nil
	}
	bad, good := ca.Client("bad"), ca.Client("good")
	leaf := func(c *tls.Config) *x509.Certificate { return c.Certificates[0].Leaf }
	first, err1 := enter(bad)
	stays, err2 := enter(good)
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	put(ca.Revoke(later, leaf(bad)))
	look()
	if code := first.Closed(); code != wire.NotAuthorized {
		t.Errorf("closed with %v", code)
	}
	if got := warning(); got != "" || s.agent.Status().Clients.Revoked != 1 {
		t.Errorf("warning %q, %d revoked", got, s.agent.Status().Clients.Revoked)
	}
	put([]byte("x"))
	look()
	put(ca.Revoke(past, leaf(bad)))
	look()
	look()
	if got := warning(); got == "" {
		t.Error("no warning of the late one")
	}
	put(ca.Revoke(later, leaf(good)))
	if _, err := s.reload("", s.config+"\n# changed\n"); err != nil {
		t.Fatal(err)
	}
	if code := stays.Closed(); code != wire.NotAuthorized {
		t.Errorf("closed with %v", code)
	}
	s.stop()
	text := log.String()
	for want, n := range map[string]int{`"revoked certificates"`: 2, "make it again": 1, "the client's certificate is revoked": 2} {
		if got := strings.Count(text, want); got != n {
			t.Errorf("%d lines with %s, want %d, in\n%s", got, want, n, text)
		}
	}
}
