package listen

import (
	"crypto/tls"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// TLSOptions name the files, all of them PEM but for CRL, which may be DER.
type TLSOptions struct {
	Cert     string // the certificate and its intermediate authorities
	Key      string // its private key, not encrypted
	ClientCA string // the authorities of clients' certificates; empty asks for none
	Require  bool   // refuse clients without a certificate; needs ClientCA
	CRL      string // revocation lists of ClientCA; needs ClientCA, empty for none
}

// TLS is the server side of TLS 1.2 and 1.3 with files that may be replaced. All methods are safe
// for concurrent use.
type TLS struct {
	opts    TLSOptions
	config  *tls.Config // what connections start with: it asks for current
	current atomic.Pointer[loaded]

	mu     sync.Mutex
	stamps []Stamp
}

// loaded holds the content of the files as loaded at one time. It does not change.
type loaded struct {
	config  *tls.Config
	revoked *revocations // nil without TLSOptions.CRL
}

// NewTLS reads the files. Its errors name a file and the remedy; the value returned with an error has no certificate
// and no handshake succeeds, until Reload or ReloadIfChanged loads one.
func NewTLS(opts TLSOptions) (*TLS, error) {
	t := &TLS{opts: opts}
	t.config = &tls.Config{
		MinVersion:         tls.VersionTLS12,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return t.now().config, nil },
	}
	return t, t.Reload()
}

// Reload reads the files again, for new connections. After an error the previous content stays in
// use.
func (t *TLS) Reload() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stamps = t.opts.stamps() // before reading: what changes meanwhile is read again
	next, err := t.opts.load()
	if err != nil {
		return err
	}
	t.current.Store(next)
	return nil
}

// now returns the content loaded last; the zero value before the first.
func (t *TLS) now() loaded {
	if l := t.current.Load(); l != nil {
		return *l
	}
	return loaded{}
}

// ReloadIfChanged reads the files again if one of them has been replaced or written to.
func (t *TLS) ReloadIfChanged() (changed bool, err error) {
	t.mu.Lock()
	same := slices.Equal(t.opts.stamps(), t.stamps)
	t.mu.Unlock()
	if same {
		return false, nil
	}
	return true, t.Reload()
}

// Loaded reports whether a certificate is loaded.
func (t *TLS) Loaded() bool { return t.current.Load() != nil }

// Name returns the file name of the certificate.
func (t *TLS) Name() string { return t.opts.Cert }

// Check returns an error if the loaded certificate is not valid at a time. It does not check names.
func (t *TLS) Check(now time.Time) error {
	config := t.now().config
	if config == nil {
		return nil
	}
	c := config.Certificates[0].Leaf
	const day = "2006-01-02 15:04 MST"
	switch {
	case now.After(c.NotAfter):
		return fmt.Errorf("%s: the certificate expired on %s: renew it; it takes effect without a restart", t.opts.Cert, c.NotAfter.Format(day))
	case now.Before(c.NotBefore):
		return fmt.Errorf("%s: the certificate is good from %s on, and this machine's clock says %s: set the clock, or replace the certificate", t.opts.Cert, c.NotBefore.Format(day), now.UTC().Format(day))
	}
	return nil
}

// Revoked returns a *RevokedError if the certificate of an accepted client has been revoked since.
func (t *TLS) Revoked(of tls.ConnectionState) error { return t.now().revoked.check(of) }

// CheckCRL returns an error if the loaded CRL should have been replaced by a time. The CRL stays in use: certificates
// that it lists are refused, all others are accepted.
func (t *TLS) CheckCRL(now time.Time) error { return t.now().revoked.stale(now) }

func (o TLSOptions) stamps() []Stamp {
	names := []string{o.Cert, o.Key, o.ClientCA}
	if o.CRL != "" {
		names = append(names, o.CRL)
	}
	return Stamps(names...)
}

func (o TLSOptions) load() (*loaded, error) {
	pair, err := ReadPair(o.Cert, o.Key)
	if err != nil {
		return nil, err
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}}
	l := &loaded{config: config}
	if o.ClientCA == "" {
		return l, nil
	}
	if config.ClientCAs, err = ReadAuthorities(o.ClientCA, nil); err != nil {
		return nil, err
	}
	config.ClientAuth = tls.VerifyClientCertIfGiven
	if o.Require {
		config.ClientAuth = tls.RequireAndVerifyClientCert
	}
	if o.CRL != "" {
		if l.revoked, err = readCRL(o.CRL, o.ClientCA); err != nil {
			return nil, err
		}
		config.VerifyConnection = l.revoked.check // also where a session is resumed
	}
	return l, nil
}
