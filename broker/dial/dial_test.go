package dial_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/broker/brokertest"
	"holdfast/broker/dial"
	"holdfast/broker/listen"
)

// fromEnvironment is the proxy of this process, which reads its environment once.
var fromEnvironment = make(chan string, 1)

func TestMain(m *testing.M) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	go func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			line := make([]byte, 200)
			n, _ := nc.Read(line)
			fromEnvironment <- string(line[:n])
			nc.Close()
		}
	}()
	os.Setenv("HTTPS_PROXY", "http://anna:hunter2@"+l.Addr().String())
	os.Exit(m.Run())
}

// serve listens and says back what it hears.
func serve(t *testing.T, opts listen.Options) string {
	t.Helper()
	opts.Network, opts.Address = "tcp", "127.0.0.1:0"
	l, err := opts.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return echo(t, l)
}

func echo(t *testing.T, l net.Listener) string {
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer nc.Close()
				io.Copy(struct{ io.Writer }{nc}, struct{ io.Reader }{nc})
			}()
		}
	}()
	return l.Addr().String()
}

func serverTLS(t *testing.T, a *brokertest.Authority, change func(*listen.TLSOptions)) *listen.TLS {
	t.Helper()
	var o listen.TLSOptions
	o.Cert, o.Key = a.Issue("broker")
	if change != nil {
		change(&o)
	}
	x, err := listen.NewTLS(o)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// says dials and checks that what is written comes back.
func says(t *testing.T, d *dial.Dialer, address string) error {
	t.Helper()
	u, err := dial.ParseURL(address)
	if err != nil {
		t.Fatal(err)
	}
	nc, err := d.Dial(t.Context(), u)
	if err != nil {
		return err
	}
	defer nc.Close()
	if _, err := nc.Write([]byte("hello")); err != nil {
		return err
	}
	got := make([]byte, 5)
	if _, err := io.ReadFull(nc, got); err != nil {
		return err
	}
	if string(got) != "hello" {
		return fmt.Errorf("got %q", got)
	}
	return nil
}

func wants(t *testing.T, what string, err error, texts ...string) {
	t.Helper()
	if err == nil {
		t.Errorf("%s: no error, want %q", what, texts)
		return
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("%s: got %q, want %q in it", what, err, text)
		}
	}
	if strings.Contains(err.Error(), "hunter2") {
		t.Errorf("%s: a password is in %q", what, err)
	}
}

func TestEveryScheme(t *testing.T) {
	a := brokertest.NewAuthority(t)
	x := serverTLS(t, a, nil)
	ws := &listen.WebSocket{Hosts: []string{"broker.example"}}
	plain, secure := serve(t, listen.Options{}), serve(t, listen.Options{TLS: x})
	web, both := serve(t, listen.Options{WebSocket: ws}), serve(t, listen.Options{TLS: x, WebSocket: ws})
	mutual := serve(t, listen.Options{TLS: serverTLS(t, a, func(o *listen.TLSOptions) { o.ClientCA, o.Require = a.File, true })})
	cert, key := a.Issue("pump")
	d := dial.New(dial.Options{TLS: dial.TLS{CA: a.File, Cert: cert, Key: key, MinVersion: tls.VersionTLS13}, Timeout: time.Minute})
	if err := d.Check(); err != nil {
		t.Error(err)
	}
	for _, address := range []string{"mqtt://" + plain, "mqtts://" + secure, "ws://" + web + "/mqtt", "wss://" + both, "mqtts://" + mutual} {
		if err := says(t, d, address); err != nil {
			t.Errorf("%s: %v", address, err)
		}
		for _, tunnelled := range []bool{false, true} {
			host := strings.SplitN(strings.TrimPrefix(address[strings.Index(address, "://"):], "://"), "/", 2)[0]
			p := brokertest.NewProxy(t, host, "Basic YW5uYTpodW50ZXIy") // anna:hunter2
			opts := dial.Options{TLS: dial.TLS{CA: a.File, Cert: cert, Key: key, ServerName: "localhost"}, Timeout: time.Minute}
			opts.Proxy = dial.Proxy{Username: "anna", Password: "hunter2"}
			if tunnelled {
				p.TLS = &tls.Config{}
				crt, k := a.Issue("proxy")
				pair, err := tls.LoadX509KeyPair(crt, k)
				if err != nil {
					t.Fatal(err)
				}
				p.TLS.Certificates = []tls.Certificate{pair}
				p.StartTLS()
				opts.Proxy.CA = a.File
			} else {
				p.Start()
			}
			opts.Proxy.URL = p.URL
			remote := strings.Replace(address, host, "broker.example:4711", 1)
			if err := says(t, dial.New(opts), remote); err != nil {
				t.Errorf("%s through %s: %v", remote, p.URL, err)
			}
			if got := p.Asked(); len(got) != 1 || got[0] != "broker.example:4711" {
				t.Errorf("the proxy was asked for %q", got)
			}
		}
	}
	if got := d.Expiries(); len(got) != 2 || got[0].What != "client" || got[0].Name != "pump" || got[1].Name != "broker" || time.Until(got[1].NotAfter) > time.Hour {
		t.Errorf("expiries %+v", got)
	}
}

func TestProxyRefusals(t *testing.T) {
	start := func(target, auth string) string {
		p := brokertest.NewProxy(t, target, auth)
		p.Start()
		return p.URL
	}
	echoing := "http://" + serve(t, listen.Options{})
	strict := start("", "Basic x")
	for _, tt := range []struct {
		what  string
		proxy dial.Proxy
		wants string
	}{
		{"no name", dial.Proxy{URL: strict}, "it wants a name and a password"},
		{"wrong name", dial.Proxy{URL: strict, Username: "anna", Password: "hunter2"}, "does not accept"},
		{"forbidden", dial.Proxy{URL: start("", "")}, "does not connect to broker.example:1883: 403 Forbidden: its rules"},
		{"nobody there", dial.Proxy{URL: "http://" + brokertest.FreeAddress(t)}, "connection refused"},
		{"no proxy", dial.Proxy{URL: echoing}, "proxy http://127.0.0.1"},
		{"another kind", dial.Proxy{URL: "socks5://127.0.0.1:1"}, "want http://HOST:PORT"},
		{"name in it", dial.Proxy{URL: "http://anna:hunter2@127.0.0.1:1"}, "username and password apart"},
	} {
		wants(t, tt.what, says(t, dial.New(dial.Options{Proxy: tt.proxy}), "mqtt://broker.example"), tt.wants)
	}
	// The environment's is used for hosts elsewhere.
	wants(t, "environment", says(t, dial.New(dial.Options{}), "mqtt://broker.example"), "proxy http://anna:xxxxx@127.0.0.1")
	if got := <-fromEnvironment; !strings.HasPrefix(got, "CONNECT broker.example:1883 HTTP/1.1\r\n") || !strings.Contains(got, "Basic YW5uYTpodW50ZXIy") {
		t.Errorf("the proxy of the environment got %q", got)
	}
}

// TestKeyFiles: every common form of a key is taken, and what cannot be used is refused with a remedy.
func TestKeyFiles(t *testing.T) {
	a := brokertest.NewAuthority(t)
	cert, pkcs8 := a.Issue("pump")
	dir := t.TempDir()
	write := func(name, kind string, der []byte) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	ec, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	sec1, err := x509.MarshalECPrivateKey(ec)
	if err != nil {
		t.Fatal(err)
	}
	old, _ := rsa.GenerateKey(rand.Reader, 2048)
	ecCert, rsaCert := a.IssueFor("ec", ec.Public()), a.IssueFor("rsa", old.Public())
	server := serve(t, listen.Options{TLS: serverTLS(t, a, func(o *listen.TLSOptions) { o.ClientCA, o.Require = a.File, true })})
	for what, pair := range map[string][2]string{
		"PKCS #8": {cert, pkcs8},
		"EC":      {ecCert, write("ec.key", "EC PRIVATE KEY", sec1)},
		"PKCS #1": {rsaCert, write("rsa.key", "RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(old))},
	} {
		d := dial.New(dial.Options{TLS: dial.TLS{CA: a.File, Cert: pair[0], Key: pair[1]}})
		if err := says(t, d, "mqtts://"+server); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	encrypted := write("encrypted.key", "ENCRYPTED PRIVATE KEY", sec1)
	for _, tt := range []struct {
		what string
		tls  dial.TLS
		want string
	}{
		{"encrypted", dial.TLS{Cert: cert, Key: encrypted}, "is encrypted, and a gateway that starts by itself cannot ask for the passphrase: decrypt it (openssl pkey"},
		{"another's", dial.TLS{Cert: cert, Key: write("o.key", "EC PRIVATE KEY", sec1)}, "does not belong"},
		{"none", dial.TLS{Cert: cert, Key: filepath.Join(dir, "none")}, "no such file"},
		{"no key", dial.TLS{Cert: cert}, "go together"},
		{"ca", dial.TLS{CA: pkcs8}, `holds PRIVATE KEY, want a PEM block "CERTIFICATE"`},
	} {
		d := dial.New(dial.Options{TLS: tt.tls})
		wants(t, tt.what, d.Check(), tt.want)
		wants(t, tt.what, says(t, d, "mqtts://"+server), tt.want)
	}
}

// TestTrust: each reason for not trusting each other has its remedy.
func TestTrust(t *testing.T) {
	a, other := brokertest.NewAuthority(t), brokertest.NewAuthority(t)
	good := serverTLS(t, a, nil)
	expired := serverTLS(t, a, func(o *listen.TLSOptions) {
		o.Cert, o.Key = a.Issue("old", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })
	})
	elsewhere := serverTLS(t, a, func(o *listen.TLSOptions) {
		o.Cert, o.Key = a.Issue("elsewhere", func(c *x509.Certificate) { c.IPAddresses, c.DNSNames = nil, []string{"broker.example"} })
	})
	required := serverTLS(t, a, func(o *listen.TLSOptions) { o.ClientCA, o.Require = a.File, true })
	otherCert, otherKey := other.Issue("pump")
	oldCert, oldKey := a.Issue("pump", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })
	clock := func(d time.Duration, synced bool) func() (time.Time, bool) {
		return func() (time.Time, bool) { return time.Now().Add(d), synced }
	}
	const years = 20 * 365 * 24 * time.Hour
	for _, tt := range []struct {
		what   string
		server *listen.TLS
		tls    dial.TLS
		clock  func() (time.Time, bool)
		wants  []string
	}{
		{"unknown authority", good, dial.TLS{CA: other.File}, nil, []string{"not signed by an authority that is trusted here", "as ca"}},
		{"another name", elsewhere, dial.TLS{CA: a.File}, nil, []string{"not for 127.0.0.1", "server_name"}},
		{"its name given", elsewhere, dial.TLS{CA: a.File, ServerName: "broker.example"}, nil, nil},
		{"anybody", good, dial.TLS{Insecure: true}, nil, nil},
		{"expired", expired, dial.TLS{CA: a.File}, nil, []string{"the certificate of old expired on", "whoever runs the broker has to renew it"}},
		{"clock before", good, dial.TLS{CA: a.File}, clock(-years, false), []string{"is valid from", "which nothing has set since it started", "set the clock", "NTP"}},
		{"clock before, set", good, dial.TLS{CA: a.File}, clock(-years, true), []string{"is valid from", "if that is wrong"}},
		{"clock after", good, dial.TLS{CA: a.File}, clock(years, false), []string{"expired on", "by this machine's clock", "set the clock", "first, then"}},
		{"no certificate", required, dial.TLS{CA: a.File}, nil, []string{"wants a client certificate: give cert and key"}},
		{"another authority's", required, dial.TLS{CA: a.File, Cert: otherCert, Key: otherKey}, nil, []string{"the broker"}},
		{"old one", required, dial.TLS{CA: a.File, Cert: oldCert, Key: oldKey}, nil, []string{"client certificate of pump expired on", "renew it"}},
	} {
		d := dial.New(dial.Options{TLS: tt.tls, Clock: tt.clock, Timeout: time.Minute})
		err := says(t, d, "mqtts://"+serve(t, listen.Options{TLS: tt.server}))
		if tt.wants == nil {
			if err != nil {
				t.Errorf("%s: %v", tt.what, err)
			}
			continue
		}
		wants(t, tt.what, err, tt.wants...)
	}
	web := brokertest.NewProxy(t, "", "")
	web.Start()
	wants(t, "no TLS", says(t, dial.New(dial.Options{}), strings.Replace(web.URL, "http", "mqtts", 1)), "does this port speak TLS")
	wants(t, "old client certificate", dial.New(dial.Options{TLS: dial.TLS{Cert: oldCert, Key: oldKey}}).Check(), "expired on", "renew it")
}

// TestALPN: the broker sees the offered protocols, and an error names them if it knows none.
func TestALPN(t *testing.T) {
	a := brokertest.NewAuthority(t)
	cert, key := a.Issue("broker")
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pair}, NextProtos: []string{"x-amzn-mqtt-ca"}})
	if err != nil {
		t.Fatal(err)
	}
	u := &url.URL{Scheme: "mqtts", Host: echo(t, l)}
	var state dial.State
	ctx := dial.WithTrace(t.Context(), &dial.Trace{Secured: func(s dial.State) { state = s }})
	nc, err := dial.New(dial.Options{TLS: dial.TLS{CA: a.File, ALPN: []string{"mqtt", "x-amzn-mqtt-ca"}}}).Dial(ctx, u)
	if err != nil {
		t.Fatal(err)
	}
	nc.Close()
	if state.Protocol != "x-amzn-mqtt-ca" || state.Version != "TLS 1.3" || len(state.Chain) != 2 {
		t.Errorf("got %+v", state)
	}
	_, err = dial.New(dial.Options{TLS: dial.TLS{CA: a.File, ALPN: []string{"mqtt"}}}).Dial(t.Context(), u)
	wants(t, "no common protocol", err, "knows none of the protocols in alpn (mqtt)")
}

// TestReplacedCertificate: a new certificate is used from the next connection on; a broken one is not.
func TestReplacedCertificate(t *testing.T) {
	a := brokertest.NewAuthority(t)
	seen := make(chan string, 10)
	serverCert, serverKey := a.Issue("broker")
	pair, err := tls.LoadX509KeyPair(serverCert, serverKey)
	if err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAnyClientCert,
		VerifyPeerCertificate: func(raw [][]byte, _ [][]*x509.Certificate) error {
			c, err := x509.ParseCertificate(raw[0])
			seen <- c.Subject.CommonName
			return err
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	address := "mqtts://" + echo(t, l)
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "crt"), filepath.Join(dir, "key")
	put := func(name string) {
		c, k := a.Issue(name)
		for from, to := range map[string]string{c: cert, k: key} {
			if err := os.Rename(from, to); err != nil {
				t.Fatal(err)
			}
		}
	}
	put("first")
	var log bytes.Buffer
	d := dial.New(dial.Options{TLS: dial.TLS{CA: a.File, Cert: cert, Key: key}, Log: slog.New(slog.NewTextHandler(&log, nil))})
	for _, step := range []struct {
		want   string
		before func()
	}{
		{"first", func() {}},
		{"second", func() { put("second") }},
		{"second", func() {
			if err := os.WriteFile(key, []byte("half a fi"), 0o600); err != nil {
				t.Fatal(err)
			}
		}},
		{"second", func() {}},
		{"third", func() { put("third") }},
	} {
		step.before()
		if err := says(t, d, address); err != nil {
			t.Fatal(err)
		}
		if got := <-seen; got != step.want {
			t.Errorf("got the certificate of %s, want %s", got, step.want)
		}
	}
	if n := strings.Count(log.String(), "those from before stay"); n != 1 {
		t.Errorf("told %d times that a file cannot be used:\n%s", n, &log)
	}
	// Both certificates expire within 30 days: each is logged once a day.
	if n := strings.Count(log.String(), "expires soon"); n != 2 {
		t.Errorf("told %d times of certificates that expire soon:\n%s", n, &log)
	}
}

// TestHangs: whatever hangs, a call ends with its context or in time.
func TestHangs(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // only the kernel accepts, and then nothing comes
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	silent := l.Addr().String()
	for _, address := range []string{"mqtts://" + silent, "ws://" + silent, "wss://" + silent} {
		u, err := dial.ParseURL(address)
		if err != nil {
			t.Fatal(err)
		}
		_, err = dial.New(dial.Options{Timeout: 20 * time.Millisecond}).Dial(t.Context(), u)
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: got %v", address, err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		go cancel()
		if _, err := dial.New(dial.Options{Timeout: time.Hour}).Dial(ctx, u); err == nil {
			t.Errorf("%s: connected", address)
		}
		_, err = dial.New(dial.Options{Timeout: 20 * time.Millisecond, Proxy: dial.Proxy{URL: "http://" + silent}}).Dial(t.Context(), u)
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s through a silent proxy: got %v", address, err)
		}
	}
}

func TestCredentials(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	put := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c := dial.Credentials{Username: "anna", TokenFile: file}
	_, _, err := c.Get()
	wants(t, "missing", err, "token_file", "no such file")
	for _, token := range []string{"first", "second"} {
		put(token + "\n")
		if user, password, err := c.Get(); user != "anna" || password != token || err != nil {
			t.Errorf("got %q %q %v, want %q", user, password, err, token)
		}
	}
	for text, want := range map[string]string{"": "is empty", "hunter2\xff": "is not text", strings.Repeat("hunter2", 10_000): "at most"} {
		put(text)
		_, _, err := c.Get()
		wants(t, want, err, want)
	}
	// Computed with openssl: printf 'hub.example%%2Fdevices%%2Fpi\n1700086400' | openssl dgst -sha256 -hmac 'a device key' -binary | base64
	put("YSBkZXZpY2Uga2V5\n")
	c = dial.Credentials{SASKeyFile: file, SASResource: "hub.example/devices/pi", Clock: func() (time.Time, bool) { return time.Unix(1_700_000_000, 0), true }}
	const want = "SharedAccessSignature sr=hub.example%2Fdevices%2Fpi&sig=QQMwNKxASMswuesIfu%2B9JDjPP0niyyig1iKlvWVr23o%3D&se=1700086400"
	if _, password, err := c.Get(); password != want || err != nil {
		t.Errorf("got  %s %v\nwant %s", password, err, want)
	}
	put("hunter2!")
	_, _, err = c.Get()
	wants(t, "no base64", err, "sas_key", "base64")
}
