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

	"golang.org/x/sys/unix"
)

// Stamp distinguishes the states of a file, also after a replacement with the same time and
// size. A missing file has the zero Stamp.
type Stamp struct {
	device, inode uint64
	changed       unix.Timespec
	size          int64
}

// Stamps returns the states of files.
func Stamps(names ...string) []Stamp {
	stamps := make([]Stamp, len(names))
	for i, name := range names {
		var st unix.Stat_t
		if unix.Stat(name, &st) == nil {
			stamps[i] = Stamp{uint64(st.Dev), st.Ino, st.Ctim, st.Size}
		}
	}
	return stamps
}

// ReadPair reads a certificate with its intermediate authorities, and its private key, which
// may be PKCS #1, PKCS #8 or SEC 1 (EC). Its errors name a file and the remedy.
func ReadPair(cert, key string) (tls.Certificate, error) {
	chain, err := readPEM("certificate", cert, "CERTIFICATE")
	if err != nil {
		return tls.Certificate{}, err
	}
	private, err := readPEM("key", key, "PRIVATE KEY")
	if err != nil {
		return tls.Certificate{}, err
	}
	pair, err := tls.X509KeyPair(chain, private)
	switch {
	case err != nil && strings.Contains(err.Error(), "does not match"):
		return pair, fmt.Errorf("key %s does not belong to certificate %s: give the two that were made together, the certificate's own block first in its file", key, cert)
	case err != nil:
		return pair, fmt.Errorf("certificate %s with key %s: %w", cert, key, err)
	}
	return pair, nil
}

// ReadAuthorities adds the certificates of a file to pool, or to a new one.
func ReadAuthorities(name string, pool *x509.CertPool) (*x509.CertPool, error) {
	data, err := readPEM("ca", name, "CERTIFICATE")
	if err != nil {
		return nil, err
	}
	if pool == nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(data) {
		return nil, fmt.Errorf("ca %s: no certificate in it can be read", name)
	}
	return pool, nil
}

// readCertificates reads the certificates of a file; blocks that cannot be read are left out, as ReadAuthorities does.
func readCertificates(name string) (all []*x509.Certificate, err error) {
	data, err := readPEM("ca", name, "CERTIFICATE")
	if err != nil {
		return nil, err
	}
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			return all, nil
		}
		if c, err := x509.ParseCertificate(block.Bytes); err == nil && block.Type == "CERTIFICATE" {
			all = append(all, c)
		}
	}
}

const maxPEM = 1 << 20 // bytes of a file; certificates and keys are a few thousand, a revoked certificate about 50

// readFile reads a file; form names its expected content for errors.
func readFile(what, name, form string) ([]byte, error) {
	info, err := os.Stat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%s %s: no such file", what, name)
	case err != nil:
		return nil, fmt.Errorf("%s: %w", what, err)
	case !info.Mode().IsRegular() || info.Size() > maxPEM:
		return nil, fmt.Errorf("%s %s: want a %s file of at most %d KiB", what, name, form, maxPEM>>10)
	}
	data, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrPermission) {
		return nil, fmt.Errorf("%s %s: this user may not read it: chgrp it to the gateway's group and chmod 640", what, name)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return data, nil
}

// readPEM reads a file with a block whose type ends with want.
func readPEM(what, name, want string) ([]byte, error) {
	data, err := readFile(what, name, "PEM")
	if err != nil {
		return nil, err
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
