package listen

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// TLSOptions name the files, all of them PEM.
type TLSOptions struct {
	Cert     string // the certificate, and what lies between it and its authority
	Key      string // its private key, not encrypted
	ClientCA string // who signs the certificates of clients; empty asks for none
	Require  bool   // whether a client without one is turned away; needs ClientCA
}

// TLS is the server side of TLS 1.2 and 1.3 with files that may be replaced. All methods are safe
// for concurrent use.
type TLS struct {
	opts    TLSOptions
	config  *tls.Config // what connections start with: it asks for current
	current atomic.Pointer[tls.Config]

	mu     sync.Mutex
	stamps []stamp
}

// NewTLS reads the files. Its errors name a file and what to do about it.
func NewTLS(opts TLSOptions) (*TLS, error) {
	t := &TLS{opts: opts}
	t.config = &tls.Config{
		MinVersion:         tls.VersionTLS12,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return t.current.Load(), nil },
	}
	return t, t.Reload()
}

// Reload reads the files again, for connections from now on. After an error everything stays as it
// was.
func (t *TLS) Reload() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stamps = t.stat() // before reading: what changes meanwhile is read again
	config, err := t.opts.load()
	if err != nil {
		return err
	}
	t.current.Store(config)
	return nil
}

// ReloadIfChanged reads the files again if one of them has been replaced or written to.
func (t *TLS) ReloadIfChanged() (changed bool, err error) {
	t.mu.Lock()
	same := true
	for i, s := range t.stat() {
		same = same && s == t.stamps[i]
	}
	t.mu.Unlock()
	if same {
		return false, nil
	}
	return true, t.Reload()
}

// Name is the certificate's file.
func (t *TLS) Name() string { return t.opts.Cert }

// Check says whether the certificate is good at a time. The names in it are not looked at.
func (t *TLS) Check(now time.Time) error {
	c := t.current.Load().Certificates[0].Leaf
	const day = "2006-01-02 15:04 MST"
	switch {
	case now.After(c.NotAfter):
		return fmt.Errorf("%s: the certificate expired on %s: renew it; it takes effect without a restart", t.opts.Cert, c.NotAfter.Format(day))
	case now.Before(c.NotBefore):
		return fmt.Errorf("%s: the certificate is good from %s on, and this machine's clock says %s: set the clock, or replace the certificate", t.opts.Cert, c.NotBefore.Format(day), now.UTC().Format(day))
	}
	return nil
}

// stamp tells one state of a file from another.
type stamp struct {
	at   time.Time
	size int64
}

func (t *TLS) stat() []stamp {
	var stamps []stamp
	for _, name := range []string{t.opts.Cert, t.opts.Key, t.opts.ClientCA} {
		var s stamp
		if info, err := os.Stat(name); err == nil {
			s = stamp{info.ModTime(), info.Size()}
		}
		stamps = append(stamps, s)
	}
	return stamps
}

func (o TLSOptions) load() (*tls.Config, error) {
	chain, err := readPEM("certificate", o.Cert, "CERTIFICATE")
	if err != nil {
		return nil, err
	}
	key, err := readPEM("key", o.Key, "PRIVATE KEY")
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(chain, key)
	switch {
	case err != nil && strings.Contains(err.Error(), "does not match"):
		return nil, fmt.Errorf("key %s does not belong to certificate %s: give the two that were made together, the server's own certificate first in its file", o.Key, o.Cert)
	case err != nil:
		return nil, fmt.Errorf("certificate %s with key %s: %w", o.Cert, o.Key, err)
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}}
	if o.ClientCA == "" {
		return config, nil
	}
	authority, err := readPEM("ca", o.ClientCA, "CERTIFICATE")
	if err != nil {
		return nil, err
	}
	config.ClientCAs = x509.NewCertPool()
	if !config.ClientCAs.AppendCertsFromPEM(authority) {
		return nil, fmt.Errorf("ca %s: no certificate in it can be read", o.ClientCA)
	}
	config.ClientAuth = tls.VerifyClientCertIfGiven
	if o.Require {
		config.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return config, nil
}

const maxPEM = 1 << 20 // bytes of a file; certificates and keys are a few thousand

// readPEM reads a file with a block whose type ends with want.
func readPEM(what, name, want string) ([]byte, error) {
	info, err := os.Stat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%s %s: no such file", what, name)
	case err != nil:
		return nil, fmt.Errorf("%s: %w", what, err)
	case !info.Mode().IsRegular() || info.Size() > maxPEM:
		return nil, fmt.Errorf("%s %s: want a PEM file of at most %d KiB", what, name, maxPEM>>10)
	}
	data, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrPermission) {
		return nil, fmt.Errorf("%s %s: this user may not read it: chgrp it to the gateway's group and chmod 640", what, name)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	var seen []string
	for rest := data; ; {
		var block *pem.Block
		block, rest = pem.Decode(rest)
		if block == nil {
			break
		}
		seen = append(seen, block.Type)
		if strings.HasPrefix(block.Type, "ENCRYPTED") || strings.Contains(block.Headers["Proc-Type"], "ENCRYPTED") {
			return nil, fmt.Errorf("%s %s is encrypted, and a gateway that starts by itself cannot ask for the passphrase: decrypt it (openssl pkey -in %[2]s -out NEW) and protect the file by its mode", what, name)
		}
		if strings.HasSuffix(block.Type, want) {
			return data, nil
		}
	}
	if len(seen) > 0 {
		return nil, fmt.Errorf("%s %s holds %s, want a PEM block %q", what, name, strings.Join(seen, ", "), want)
	}
	return nil, fmt.Errorf("%s %s is not PEM: want a block %q; openssl converts other forms (openssl x509 or pkey, -inform der)", what, name, want)
}
