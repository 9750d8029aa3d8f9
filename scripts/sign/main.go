// Command sign makes a signed release of what scripts/package has written into a directory: it puts the public key into
// install.sh, corrects the sum of that in SHA256SUMS, and writes SHA256SUMS.sig.
//
//	go run -C scripts ./sign -key "$PWD/KEYFILE" "$PWD/DIR"
//
// It needs nothing but the directory, so that the key may be on another machine than the one that builds.
package main

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

func main() {
	key := flag.String("key", "", "`KEYFILE` to sign with: ECDSA on P-256, PEM")
	flag.Parse()
	if *key == "" || flag.NArg() != 1 {
		fmt.Fprintln(os.Stderr, "usage: sign -key KEYFILE DIR")
		os.Exit(2)
	}
	if err := release(*key, flag.Arg(0)); err != nil {
		fmt.Fprintln(os.Stderr, "sign:", err)
		os.Exit(1)
	}
}

// release signs the one in a directory.
func release(key, dir string) error {
	s, err := readSigner(key)
	if err != nil {
		return err
	}
	name, sums := filepath.Join(dir, "install.sh"), filepath.Join(dir, "SHA256SUMS")
	script, err1 := os.ReadFile(name)
	list, err2 := os.ReadFile(sums)
	if err := errors.Join(err1, err2); err != nil {
		return fmt.Errorf("%w: make package first", err)
	}
	signed, err := s.embed(script)
	if err != nil {
		return err
	}
	line := func(content []byte) []byte { return fmt.Appendf(nil, "%x  install.sh\n", sha256.Sum256(content)) }
	if bytes.Count(list, line(script)) != 1 {
		return fmt.Errorf("%s does not have the sum of %s: make package again", sums, name)
	}
	list = bytes.Replace(list, line(script), line(signed), 1)
	if err := errors.Join(os.WriteFile(name, signed, 0o755), os.WriteFile(sums, list, 0o644)); err != nil {
		return err
	}
	return s.sign(sums)
}

// noKey is the line of install.sh that a signed release has its public key in.
const noKey = "\npublic_key=''\n"

// signer has the key of releases. It is ECDSA on P-256 with SHA-256: openssl of every Debian that is in use checks that with
// `openssl dgst`, which takes Ed25519 from 3.0 on with other options only. Signatures are deterministic (RFC 6979).
type signer struct{ key *ecdsa.PrivateKey }

// readSigner reads a private key, which is PEM in PKCS #8 or SEC 1.
func readSigner(name string) (*signer, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	const remedy = "openssl ecparam -name prime256v1 -genkey -noout -out KEYFILE makes one"
	for {
		var block *pem.Block
		block, data = pem.Decode(data)
		switch {
		case block == nil:
			return nil, fmt.Errorf("key %s: there is no private key in PEM in it: %s", name, remedy)
		case strings.Contains(block.Type, "ENCRYPTED") || strings.Contains(block.Headers["Proc-Type"], "ENCRYPTED"):
			return nil, fmt.Errorf("key %s: the key is encrypted: decrypt it with openssl pkey", name)
		case !strings.HasSuffix(block.Type, "PRIVATE KEY"):
			continue
		}
		key, err := x509.ParseECPrivateKey(block.Bytes)
		if err != nil {
			var any any
			if any, err = x509.ParsePKCS8PrivateKey(block.Bytes); err == nil {
				key, _ = any.(*ecdsa.PrivateKey)
			}
		}
		if err != nil || key == nil || key.Curve != elliptic.P256() {
			return nil, fmt.Errorf("key %s: want an ECDSA key on P-256: %s", name, remedy)
		}
		return &signer{key}, nil
	}
}

// embed puts the public key into install.sh.
func (s *signer) embed(script []byte) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(s.key.Public())
	if err != nil {
		return nil, err
	}
	if n := bytes.Count(script, []byte(noKey)); n != 1 {
		return nil, fmt.Errorf("install.sh: got %q %d times, want once: the public key goes there, and a release is signed once: make package again", strings.TrimSpace(noKey), n)
	}
	text := strings.TrimSpace(string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})))
	return bytes.Replace(script, []byte(noKey), []byte("\npublic_key='"+text+"'\n"), 1), nil
}

// sign writes the signature of a file, in DER, beside it.
func (s *signer) sign(name string) error {
	content, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	digest := sha256.Sum256(content)
	signature, err := s.key.Sign(nil, digest[:], crypto.SHA256) // without a source of chance: deterministic
	if err != nil {
		return err
	}
	if !ecdsa.VerifyASN1(&s.key.PublicKey, digest[:], signature) {
		return errors.New("the signature that was made is wrong")
	}
	return os.WriteFile(name+".sig", signature, 0o644)
}
