package dial

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"syscall"
	"time"

	"holdfast/broker/listen"
)

// TLS configures this side of a TLS connection, 1.2 or 1.3. Files are PEM.
type TLS struct {
	CA         string   // authorities to trust; empty means those of the system
	Cert, Key  string   // this side's certificate, and its key: PKCS #1, PKCS #8 or EC, not encrypted; empty for none
	ServerName string   // name that the certificate must be valid for, sent as SNI; empty means the URL's host
	ALPN       []string // protocols to offer; empty offers none
	MinVersion uint16   // tls.VersionTLS12 or tls.VersionTLS13; 0 means 1.2
	Insecure   bool     // do not verify the broker's certificate
}

// State describes a TLS connection for logs and people.
type State struct {
	Version  string // "TLS 1.3"
	Protocol string // chosen by ALPN; empty for none
	Chain    []*x509.Certificate
}

// Expiry is when a certificate, or the first of its chain, stops being valid.
type Expiry struct {
	What     string // "client" for this side's, "server" for that of the broker connected to last
	Name     string // whose certificate it is
	NotAfter time.Time
}

// ExpiryWarning is how long before a certificate's expiry the dialer begins to log a warning, once a day.
const ExpiryWarning = 30 * 24 * time.Hour

// trust holds the content of the files.
type trust struct {
	config *tls.Config
	stamps []listen.Stamp
}

// Check reads the files. It returns what is wrong with them, or that the certificate is not valid now.
func (d *Dialer) Check() error {
	t, err := d.load()
	if err == nil && len(t.config.Certificates) > 0 {
		err = d.outOfDate("the certificate "+d.opts.TLS.Cert, t.config.Certificates[0].Leaf, "renew it; it is taken into use without a restart")
	}
	if err == nil && d.opts.Proxy.CA != "" {
		_, err = listen.ReadAuthorities(d.opts.Proxy.CA, nil)
	}
	return err
}

// Expiries returns the certificates that were used last, this side's first.
func (d *Dialer) Expiries() []Expiry {
	d.mu.Lock()
	defer d.mu.Unlock()
	var all []Expiry
	for _, what := range []string{"client", "server"} {
		if e, ok := d.expiries[what]; ok {
			all = append(all, e)
		}
	}
	return all
}

func (d *Dialer) now() time.Time {
	now, _ := d.opts.Clock()
	return now
}

// load reads files that have changed. If they cannot be used, their previous content stays in use.
func (d *Dialer) load() (*trust, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	o := d.opts.TLS
	stamps := listen.Stamps(o.CA, o.Cert, o.Key) // before reading: what changes meanwhile is read again
	if d.trust != nil && slices.Equal(stamps, d.trust.stamps) {
		return d.trust, nil
	}
	t := &trust{stamps: stamps, config: &tls.Config{
		MinVersion: max(o.MinVersion, tls.VersionTLS12), NextProtos: o.ALPN, InsecureSkipVerify: o.Insecure, Time: d.now,
	}}
	err := o.read(t.config)
	switch {
	case err == nil:
		d.trust = t
	case d.trust == nil:
		return nil, err
	default:
		d.opts.Log.Error("certificates not taken into use, those from before stay", "error", err)
		d.trust.stamps = stamps // logged once
	}
	return d.trust, nil
}

func (o *TLS) read(config *tls.Config) (err error) {
	if o.CA != "" {
		if config.RootCAs, err = listen.ReadAuthorities(o.CA, nil); err != nil {
			return err
		}
	}
	if (o.Cert == "") != (o.Key == "") {
		return errors.New("cert and key go together: a certificate is of no use without its key")
	}
	if o.Cert == "" {
		return nil
	}
	pair, err := listen.ReadPair(o.Cert, o.Key)
	config.Certificates = []tls.Certificate{pair}
	return err
}

// secured is a connection whose errors explain themselves: with TLS 1.3 a server refuses a
// certificate after the handshake.
type secured struct {
	*tls.Conn
	d     *Dialer
	host  string
	own   *x509.Certificate
	state State
}

func (s *secured) Read(p []byte) (int, error) {
	n, err := s.Conn.Read(p)
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "remote error" {
		err = s.d.explain(err, s.host, s.own)
	}
	return n, err
}

func (d *Dialer) secure(ctx context.Context, nc net.Conn, host string) (*secured, error) {
	t, err := d.load()
	if err != nil {
		return nil, err
	}
	config := t.config.Clone()
	if config.ServerName = d.opts.TLS.ServerName; config.ServerName == "" {
		config.ServerName = host
	}
	s := &secured{Conn: tls.Client(nc, config), d: d, host: config.ServerName}
	if len(config.Certificates) > 0 {
		s.own = config.Certificates[0].Leaf
	}
	if err := s.HandshakeContext(ctx); err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, d.explain(err, s.host, s.own)
	}
	c := s.ConnectionState()
	s.state = State{Version: tls.VersionName(c.Version), Protocol: c.NegotiatedProtocol, Chain: c.PeerCertificates}
	if len(c.VerifiedChains) > 0 {
		s.state.Chain = c.VerifiedChains[0]
	}
	if s.own != nil {
		d.remember("client", s.own, s.own.NotAfter)
	}
	d.remember("server", s.state.Chain[0], s.state.NotAfter())
	return s, nil
}

// NotAfter returns when the first certificate of the chain expires.
func (s State) NotAfter() time.Time {
	first := s.Chain[0].NotAfter
	for _, c := range s.Chain {
		if c.NotAfter.Before(first) {
			first = c.NotAfter
		}
	}
	return first
}

// remember stores when a certificate expires, and logs a warning in time.
func (d *Dialer) remember(what string, c *x509.Certificate, notAfter time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	e := Expiry{What: what, Name: CertificateName(c), NotAfter: notAfter}
	d.expiries[what] = e
	now := d.now()
	if left := notAfter.Sub(now); left < ExpiryWarning && now.Sub(d.reminders[what]).Abs() >= 24*time.Hour {
		d.reminders[what] = now
		d.opts.Log.Warn("a certificate expires soon: renew it", "whose", what, "name", e.Name, "expires", stamp(notAfter), "in", left.Round(time.Hour))
	}
}

// CertificateName returns the common name of a certificate, or else its first DNS name, or else its subject.
func CertificateName(c *x509.Certificate) string {
	switch {
	case c.Subject.CommonName != "":
		return c.Subject.CommonName
	case len(c.DNSNames) > 0:
		return c.DNSNames[0]
	}
	return c.Subject.String()
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 MST") }

// outOfDate returns an error if a certificate is not valid now; it names the cause, certificate or
// clock.
func (d *Dialer) outOfDate(what string, c *x509.Certificate, remedy string) error {
	now, synced := d.opts.Clock()
	const set = "set the clock (timedatectl shows its state; it needs NTP, or a battery)"
	switch {
	case now.Before(c.NotBefore) && !synced:
		return fmt.Errorf("%s is valid from %s on, and this machine's clock, which nothing has set since it started, says %s: %s",
			what, stamp(c.NotBefore), stamp(now), set)
	case now.Before(c.NotBefore):
		return fmt.Errorf("%s is valid from %s on, and this machine's clock says %s: if that is wrong, %s",
			what, stamp(c.NotBefore), stamp(now), set)
	case now.After(c.NotAfter) && !synced:
		return fmt.Errorf("%s expired on %s by this machine's clock, which says %s and which nothing has set since it started: %s first, then %s",
			what, stamp(c.NotAfter), stamp(now), set, remedy)
	case now.After(c.NotAfter):
		return fmt.Errorf("%s expired on %s, and it is %s: %s", what, stamp(c.NotAfter), stamp(now), remedy)
	}
	return nil
}

// explain returns an error of TLS with its cause and remedy. own is this side's
// certificate, or nil.
func (d *Dialer) explain(err error, host string, own *x509.Certificate) error {
	var header tls.RecordHeaderError
	var unknown x509.UnknownAuthorityError
	var other x509.HostnameError
	var invalid x509.CertificateInvalidError
	var op *net.OpError
	switch {
	case errors.As(err, &header):
		return fmt.Errorf("%w: does this port speak TLS?", err)
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET):
		return errors.New("closed by the broker during the TLS handshake: does this port speak TLS?")
	case errors.As(err, &unknown):
		return fmt.Errorf("the certificate of %s is not signed by an authority that is trusted here: give the PEM file of its authority as ca, or install the package ca-certificates: %w", host, err)
	case errors.As(err, &other):
		return fmt.Errorf("the certificate is not for %s: connect to a name that is in it, or give that as server_name: %w", host, err)
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired && invalid.Cert != nil:
		if why := d.outOfDate("the certificate of "+CertificateName(invalid.Cert), invalid.Cert, "whoever runs the broker has to renew it"); why != nil {
			return fmt.Errorf("%w (%w)", why, err)
		}
	case errors.As(err, &op) && op.Op == "remote error":
		return d.alert(err, op.Err.Error(), own)
	}
	return err
}

// alert explains an alert of the broker (RFC 8446 section 6.2).
func (d *Dialer) alert(err error, text string, own *x509.Certificate) error {
	has := func(s string) bool { return strings.Contains(text, s) }
	switch {
	case own == nil && (has("certificate required") || has("bad certificate") || has("handshake failure")):
		return fmt.Errorf("the broker wants a client certificate: give cert and key: %w", err)
	case has("protocol version"):
		return fmt.Errorf("the broker does not speak a version of TLS from min_version on: %w", err)
	case has("no application protocol"):
		return fmt.Errorf("the broker knows none of the protocols in alpn (%s): %w", strings.Join(d.opts.TLS.ALPN, ", "), err)
	case own == nil:
		return err
	case has("certificate") || has("handshake failure"):
		if why := d.outOfDate("the client certificate of "+CertificateName(own), own, "renew it; it is taken into use without a restart"); why != nil {
			return fmt.Errorf("%w (%w)", why, err)
		}
		return fmt.Errorf("the broker does not accept the client certificate of %s: it has to trust its authority, and to know it; if it says expired, one of the two clocks is wrong: %w", CertificateName(own), err)
	}
	return err
}
