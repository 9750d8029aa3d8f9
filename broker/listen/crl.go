package listen

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"time"
)

// RevokedError is the error for a client whose certificate, or an authority above it, is revoked.
type RevokedError struct {
	Serial  string // of the certificate that is revoked, in hexadecimal as openssl writes it
	Subject string // of the same, which may be an authority between the client and a root
	CRL     string // the file that lists it
}

func (e *RevokedError) Error() string {
	return fmt.Sprintf("the certificate %q with the serial number %s is revoked by %s", e.Subject, e.Serial, e.CRL)
}

// revocations are the CRLs of a file. They do not change. A nil value has revoked nothing.
type revocations struct {
	file    string
	serials map[revocation]struct{}
	// The CRL that has to be replaced first, by its issuer; zero for none that has a time.
	next   time.Time
	issuer string
}

// revocation identifies a certificate: a serial number is unique for one authority, which is its name and key.
type revocation struct{ issuer, serial string }

func revocationOf(issuer *x509.Certificate, serial *big.Int) revocation {
	return revocation{string(issuer.RawSubject) + string(issuer.RawSubjectPublicKeyInfo), serial.String()}
}

// Of RFC 5280: an entry that takes a revocation back, in a list of changes (5.3.1), and an entry of
// another authority than the one that signs (5.3.3).
const removeFromCRL = 8

var certificateIssuer = asn1.ObjectIdentifier{2, 5, 29, 29}

// readCRL reads the CRLs of a file, one in DER or any number in PEM. Each has to be signed by an authority in the file ca.
// A list past its next update is no error: see stale.
func readCRL(name, ca string) (*revocations, error) {
	data, err := readFile("crl", name, "PEM or DER")
	if err != nil {
		return nil, err
	}
	authorities, err := readCertificates(ca)
	if err != nil {
		return nil, err
	}
	lists, err := crlBlocks(name, data)
	if err != nil {
		return nil, err
	}
	r := &revocations{file: name, serials: map[revocation]struct{}{}}
	for _, der := range lists {
		list, err := x509.ParseRevocationList(der)
		if err == nil && len(list.Raw) != len(der) {
			err = errors.New("something follows the list")
		}
		if err != nil {
			return nil, fmt.Errorf("crl %s: %w: make it again (openssl ca -gencrl), or copy it again", name, err)
		}
		issuer, err := signer(list, authorities)
		if err != nil {
			return nil, fmt.Errorf("crl %s: the list of %q %w %s", name, list.Issuer, err, ca)
		}
		for _, entry := range list.RevokedCertificateEntries {
			for _, x := range entry.Extensions {
				if x.Id.Equal(certificateIssuer) {
					return nil, fmt.Errorf("crl %s: the list of %q revokes certificates of other authorities too (an indirect CRL), which is not supported: give each authority a list of its own", name, list.Issuer)
				}
			}
			if entry.ReasonCode != removeFromCRL {
				r.serials[revocationOf(issuer, entry.SerialNumber)] = struct{}{}
			}
		}
		if next := list.NextUpdate; !next.IsZero() && (r.next.IsZero() || next.Before(r.next)) {
			r.next, r.issuer = next, list.Issuer.String()
		}
	}
	return r, nil
}

// crlBlocks are the lists of a file, in DER.
func crlBlocks(name string, data []byte) (lists [][]byte, err error) {
	var others []string
	for rest := data; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type == "X509 CRL" {
			lists = append(lists, block.Bytes)
		} else {
			others = append(others, block.Type)
		}
	}
	switch {
	case len(lists) > 0:
		return lists, nil
	case len(others) > 0:
		return nil, fmt.Errorf("crl %s holds %s, want a PEM block \"X509 CRL\" (openssl ca -gencrl makes one, also while nothing is revoked)", name, strings.Join(others, ", "))
	}
	return [][]byte{data}, nil
}

// signer is the one of the authorities that has signed the list. An error goes on with the name of their file.
func signer(list *x509.RevocationList, authorities []*x509.Certificate) (*x509.Certificate, error) {
	var failed error
	for _, a := range authorities {
		if string(a.RawSubject) != string(list.RawIssuer) {
			continue
		}
		if a.KeyUsage != 0 && a.KeyUsage&x509.KeyUsageCRLSign == 0 {
			failed = errors.New("is of an authority that may not sign lists: make its certificate again with keyUsage=keyCertSign,cRLSign; it is in")
			continue
		}
		if err := list.CheckSignatureFrom(a); err != nil {
			failed = fmt.Errorf("is not signed by (%w) that authority in", err)
			continue
		}
		return a, nil
	}
	if failed == nil {
		failed = errors.New("is of an authority that is not in")
	}
	return nil, failed
}

// check returns a *RevokedError if every chain from the client's certificate to a root has a revoked one. A
// client without a certificate has no chain and passes.
func (r *revocations) check(of tls.ConnectionState) error {
	if r == nil {
		return nil
	}
	var failed error
	for _, chain := range of.VerifiedChains {
		found := r.inChain(chain)
		if found == nil {
			return nil
		}
		failed = &RevokedError{Serial: fmt.Sprintf("%X", found.SerialNumber), Subject: found.Subject.String(), CRL: r.file}
	}
	return failed
}

// inChain returns the first certificate of a chain that its issuer has revoked.
func (r *revocations) inChain(chain []*x509.Certificate) *x509.Certificate {
	for i := range len(chain) - 1 {
		if _, revoked := r.serials[revocationOf(chain[i+1], chain[i].SerialNumber)]; revoked {
			return chain[i]
		}
	}
	return nil
}

// stale returns an error when the authority should have published another list.
func (r *revocations) stale(now time.Time) error {
	if r == nil || r.next.IsZero() || !now.After(r.next) {
		return nil
	}
	return fmt.Errorf("crl %s: the list of %q should have been replaced by %s, and later revocations are not known: put a new one there, which takes effect without a restart, or set the clock if that is wrong; what it lists is refused all the same",
		r.file, r.issuer, r.next.UTC().Format("2006-01-02 15:04 MST"))
}
