package listen_test

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/broker/brokertest"
	"holdfast/broker/listen"
)

func asPEM(lists ...[]byte) (text []byte) {
	for _, der := range lists {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})...)
	}
	return text
}

func leafOf(c *tls.Config) *x509.Certificate { return c.Certificates[0].Leaf }

// put replaces a file as a careful program does.
func put(t *testing.T, name string, data []byte) {
	t.Helper()
	if err := errors.Join(os.WriteFile(name+".new", data, 0o600), os.Rename(name+".new", name)); err != nil {
		t.Fatal(err)
	}
}

// TestRevoked: what a CRL lists is refused and nothing else, over TLS and over WebSocket, in every form of the
// file, after each of its replacements, and where a session is resumed.
func TestRevoked(t *testing.T) {
	ca, second := brokertest.NewAuthority(t), brokertest.NewAuthority(t)
	both := filepath.Join(t.TempDir(), "both.crt")
	var text []byte
	for _, name := range []string{ca.File, second.File} {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		text = append(text, data...)
	}
	put(t, both, text)
	good, bad, other := ca.Client("good"), ca.Client("bad"), second.Client("other")
	other.RootCAs = good.RootCAs
	clients := []*tls.Config{good, bad, other, ca.Client("")}
	names := []string{"good", "bad", "other", ""}
	later, past := time.Now().Add(time.Hour), time.Now().Add(-time.Hour)
	file := filepath.Join(t.TempDir(), "revoked.crl")
	put(t, file, asPEM(ca.Revoke(later)))
	cert, key := ca.Issue("server")
	x, err := listen.NewTLS(listen.TLSOptions{Cert: cert, Key: key, ClientCA: both, CRL: file})
	if err != nil {
		t.Fatal(err)
	}
	plain, plainResults := echo(t, listen.Options{Network: "tcp", Address: "127.0.0.1:0", TLS: x})
	web, webResults := echo(t, listen.Options{Network: "tcp", Address: "127.0.0.1:0", TLS: x, WebSocket: &listen.WebSocket{}})
	talk := func(addr string, ws bool, config *tls.Config) error {
		nc, err := net.Dial("tcp", addr)
		if err != nil {
			return err
		}
		defer nc.Close()
		nc.SetDeadline(time.Now().Add(20 * time.Second))
		nc = tls.Client(nc, config)
		if ws {
			if nc, _, err = listen.DialWebSocket(context.Background(), nc, "wss://"+addr); err != nil {
				return err
			}
		}
		if _, err := nc.Write([]byte("x")); err != nil {
			return err
		}
		_, err = nc.Read(make([]byte, 1))
		return err
	}
	for _, step := range []struct {
		what    string
		data    []byte
		refused []string
		stale   bool
	}{
		{"nothing", asPEM(ca.Revoke(later)), nil, false},
		{"PEM", asPEM(ca.Revoke(later, leafOf(bad))), []string{"bad"}, false},
		{"DER", ca.Revoke(later, leafOf(bad)), []string{"bad"}, false},
		{"two", asPEM(second.Revoke(later, leafOf(other)), ca.Revoke(later, leafOf(bad))), []string{"bad", "other"}, false},
		{"a serial number of the other authority", asPEM(second.Revoke(later, leafOf(bad))), nil, false},
		{"expired", asPEM(ca.Revoke(past, leafOf(bad))), []string{"bad"}, true},
		{"one of two expired", asPEM(ca.Revoke(past, leafOf(bad)), second.Revoke(later)), []string{"bad"}, true},
		{"two of one authority", asPEM(ca.Revoke(later, leafOf(bad)), ca.Revoke(later, leafOf(good))), []string{"bad", "good"}, false},
		{"nothing again", asPEM(ca.Revoke(later)), nil, false},
	} {
		put(t, file, step.data)
		if changed, err := x.ReloadIfChanged(); !changed || err != nil {
			t.Fatalf("%s: %v, %v", step.what, changed, err)
		}
		if err := x.CheckCRL(time.Now()); (err != nil) != step.stale || err != nil && !strings.Contains(err.Error(), file) {
			t.Errorf("%s: stale is %v", step.what, err)
		}
		for i, c := range clients {
			for addr, results := range map[string]chan error{plain: plainResults, web: webResults} {
				err := talk(addr, addr == web, c)
				seen := <-results
				var revoked *listen.RevokedError
				refused := errors.As(seen, &revoked)
				if want := slices.Contains(step.refused, names[i]); refused != want || (err != nil) != want {
					t.Errorf("%s, %q: the client got %v, the server %v", step.what, names[i], err, seen)
				}
				if refused && (revoked.Serial != fmt.Sprintf("%X", leafOf(c).SerialNumber) || revoked.Subject != "CN="+names[i] || revoked.CRL != file) {
					t.Errorf("%s: got %+v", step.what, revoked)
				}
			}
		}
	}

	// What cannot be read leaves the list that was there.
	put(t, file, asPEM(ca.Revoke(later, leafOf(bad))))
	if _, err := x.ReloadIfChanged(); err != nil {
		t.Fatal(err)
	}
	tickets := bad.Clone()
	tickets.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	for _, spoil := range []func() error{
		func() error { return os.Remove(file) },
		func() error { return os.WriteFile(file, []byte("x"), 0o600) },
		func() error { return os.WriteFile(file, asPEM(brokertest.NewAuthority(t).Revoke(later)), 0o600) },
	} {
		if err := spoil(); err != nil {
			t.Fatal(err)
		}
		if changed, err := x.ReloadIfChanged(); !changed || err == nil || !strings.HasPrefix(err.Error(), "crl "+file) {
			t.Errorf("got %v, %v", changed, err)
		}
		if err := talk(plain, false, bad); err == nil {
			t.Error("revoked and let in")
		}
		<-plainResults
	}

	// A session from before the revocation does not get in either.
	put(t, file, asPEM(ca.Revoke(later)))
	if _, err := x.ReloadIfChanged(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := talk(plain, false, tickets); err != nil {
			t.Fatal(err)
		}
		<-plainResults
	}
	put(t, file, asPEM(ca.Revoke(later, leafOf(bad))))
	if _, err := x.ReloadIfChanged(); err != nil {
		t.Fatal(err)
	}
	if err := talk(plain, false, tickets); err == nil {
		t.Error("a resumed session is let in")
	}
	if err, revoked := <-plainResults, (*listen.RevokedError)(nil); !errors.As(err, &revoked) {
		t.Errorf("got %v", err)
	}
}

// TestRevokedAuthority: what an authority below the root has signed goes with it.
func TestRevokedAuthority(t *testing.T) {
	ca := brokertest.NewAuthority(t)
	between, betweenKey := ca.Issue("between", func(c *x509.Certificate) {
		c.IsCA, c.BasicConstraintsValid, c.KeyUsage, c.ExtKeyUsage = true, true, x509.KeyUsageCertSign, nil
	})
	upper, err := tls.LoadX509KeyPair(between, betweenKey)
	if err != nil {
		t.Fatal(err)
	}
	config := ca.Client("device")
	template := *leafOf(config)
	der, err := x509.CreateCertificate(rand.Reader, &template, upper.Leaf, template.PublicKey, upper.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	config.Certificates[0].Certificate = [][]byte{der, upper.Certificate[0]}
	config.Certificates[0].Leaf = nil
	file := filepath.Join(t.TempDir(), "revoked.crl")
	for _, revoked := range []bool{false, true} {
		var list []*x509.Certificate
		if revoked {
			list = append(list, upper.Leaf)
		}
		put(t, file, ca.Revoke(time.Now().Add(time.Hour), list...))
		cert, key := ca.Issue("server")
		x, err := listen.NewTLS(listen.TLSOptions{Cert: cert, Key: key, ClientCA: ca.File, CRL: file})
		if err != nil {
			t.Fatal(err)
		}
		addr, results := echo(t, listen.Options{Network: "tcp", Address: "127.0.0.1:0", TLS: x})
		c, err := tls.Dial("tcp", addr, config)
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
		var found *listen.RevokedError
		if err := <-results; errors.As(err, &found) != revoked || revoked && found.Subject != "CN=between" || !revoked && err != nil {
			t.Errorf("revoked is %v: got %v", revoked, err)
		}
	}
}

// TestCRLFiles: every mistake in a file has an error that names it and what to do.
func TestCRLFiles(t *testing.T) {
	ca := brokertest.NewAuthority(t)
	cert, key := ca.Issue("server")
	dir := t.TempDir()
	later := time.Now().Add(time.Hour)
	data, err := os.ReadFile(ca.File)
	if err != nil {
		t.Fatal(err)
	}
	list := ca.Revoke(later, leafOf(ca.Client("device")))
	damaged := slices.Clone(list)
	damaged[len(damaged)-1] ^= 1
	signer, signerKey := ca.Issue("signer", func(c *x509.Certificate) {
		c.IsCA, c.BasicConstraintsValid, c.KeyUsage = true, true, x509.KeyUsageCRLSign
	})
	other, err := tls.LoadX509KeyPair(signer, signerKey)
	if err != nil {
		t.Fatal(err)
	}
	indirect, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
		Number: big.NewInt(1), ThisUpdate: time.Now(), NextUpdate: later,
		RevokedCertificateEntries: []x509.RevocationListEntry{{SerialNumber: big.NewInt(7), RevocationTime: time.Now(),
			ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 29}, Critical: true, Value: []byte{0x30, 0}}}}},
	}, other.Leaf, other.PrivateKey.(crypto.Signer))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		what string
		data []byte
		ca   string
		want string
	}{
		{"missing", nil, ca.File, "no such file"},
		{"empty", []byte{}, ca.File, "make it again"},
		{"certificates", data, ca.File, `holds CERTIFICATE, want a PEM block "X509 CRL"`},
		{"text", []byte("hello"), ca.File, "make it again"},
		{"half", list[:len(list)/2], ca.File, "make it again"},
		{"trailing", append(slices.Clone(list), 0), ca.File, "make it again"},
		{"damaged", damaged, ca.File, "is not signed by"},
		{"another of the same name", asPEM(brokertest.NewAuthority(t).Revoke(later)), ca.File, "is not signed by"},
		{"one of two", asPEM(list, damaged), ca.File, "is not signed by"},
		{"stranger", indirect, ca.File, "is of an authority that is not in " + ca.File},
		{"indirect", indirect, signer, "which is not supported"},
		{"large", make([]byte, 1<<20+1), ca.File, "at most 1024 KiB"},
	} {
		file := filepath.Join(dir, tt.what)
		if tt.data != nil {
			put(t, file, tt.data)
		}
		x, err := listen.NewTLS(listen.TLSOptions{Cert: cert, Key: key, ClientCA: tt.ca, CRL: file})
		if err == nil || !strings.HasPrefix(err.Error(), "crl "+file) || !strings.Contains(err.Error(), tt.want) || x.Loaded() {
			t.Errorf("%s: got %v, want %q", tt.what, err, tt.want)
		}
	}
}

// FuzzCRL: no file ends the program.
func FuzzCRL(f *testing.F) {
	ca := brokertest.NewAuthority(f)
	cert, key := ca.Issue("server")
	list := ca.Revoke(time.Now().Add(time.Hour))
	f.Add(list)
	f.Add(asPEM(list, list))
	file := filepath.Join(f.TempDir(), "revoked.crl")
	f.Fuzz(func(t *testing.T, data []byte) {
		put(t, file, data)
		x, err := listen.NewTLS(listen.TLSOptions{Cert: cert, Key: key, ClientCA: ca.File, CRL: file})
		if (err == nil) != x.Loaded() {
			t.Errorf("got %v", err)
		}
	})
}
