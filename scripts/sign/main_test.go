package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/broker/brokertest"
)

// newKey writes a key as openssl ecparam does, with a block of parameters before it.
func newKey(t *testing.T) string {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalECPrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	text := append(pem.EncodeToMemory(&pem.Block{Type: "EC PARAMETERS", Bytes: []byte{6, 0}}), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})...)
	return put(t, filepath.Join(t.TempDir(), "release.key"), text)
}

func put(t *testing.T, name string, data []byte) string {
	t.Helper()
	if err := os.WriteFile(name, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return name
}

const archive = "holdfast_1.0.0_arm64.tar.gz"

// makeRelease is a directory as -out has it, with an archive that cannot be unpacked.
func makeRelease(t *testing.T, key string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	script, err := os.ReadFile("../install.sh")
	if err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(dir, archive), []byte("an archive"))
	put(t, filepath.Join(dir, "install.sh"), script)
	sum(t, dir)
	if key == "" {
		return dir
	}
	if err := release(key, dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

// sum writes SHA256SUMS as scripts/package does.
func sum(t *testing.T, dir string) {
	t.Helper()
	var b bytes.Buffer
	for _, name := range []string{archive, "install.sh"} {
		content, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%x  %s\n", sha256.Sum256(content), name)
	}
	put(t, filepath.Join(dir, "SHA256SUMS"), b.Bytes())
}

// tools is a directory for PATH with what install.sh needs until it unpacks, and stand-ins for a Pi without the package,
// where the test seems to be root. tar leaves a mark.
func tools(t *testing.T, fetcher string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for _, name := range []string{"sh", "awk", "sed", "sha256sum", "cut", "mktemp", "mkdir", "rm", "dirname", "basename", "tail", "grep", "openssl", fetcher} {
		path := brokertest.Program(t, name)
		if err := os.Symlink(path, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{"id": "echo 0", "uname": "echo aarch64", "dpkg": "exit 1", "tar": `: >"$MARK"; exit 1`} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestInstallVerifies: install.sh unpacks what the key of the release has signed, and nothing else, from a directory as from
// a server.
func TestInstallVerifies(t *testing.T) {
	file := func(dir, name string) string { return filepath.Join(dir, name) }
	sign := func(t *testing.T, dir, key string) {
		s, err := readSigner(key)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.sign(file(dir, "SHA256SUMS")); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		name   string
		signed bool
		spoil  func(t *testing.T, dir string)
		args   []string
		local  string // what a directory is answered with; empty where it is unpacked
		far    string // what a server's is
	}{
		{"good", true, nil, nil, "", ""},
		{"another archive", true, func(t *testing.T, dir string) { put(t, file(dir, archive), []byte("another")) }, nil, "is damaged or not what was released", "is damaged or not what was released"},
		{"another archive with sums of its own", true, func(t *testing.T, dir string) {
			put(t, file(dir, archive), []byte("another"))
			sum(t, dir)
		}, nil, "does not fit the key", "does not fit the key"},
		{"another archive, signed by another", true, func(t *testing.T, dir string) {
			put(t, file(dir, archive), []byte("another"))
			sum(t, dir)
			sign(t, dir, newKey(t))
		}, nil, "does not fit the key", "does not fit the key"},
		{"a line more in the sums", true, func(t *testing.T, dir string) {
			text, _ := os.ReadFile(file(dir, "SHA256SUMS"))
			put(t, file(dir, "SHA256SUMS"), append(text, '\n'))
		}, nil, "does not fit the key", "does not fit the key"},
		{"no signature", true, func(t *testing.T, dir string) { os.Remove(file(dir, "SHA256SUMS.sig")) }, nil, "SHA256SUMS.sig is missing", "has no SHA256SUMS.sig"},
		{"empty signature", true, func(t *testing.T, dir string) { put(t, file(dir, "SHA256SUMS.sig"), nil) }, nil, "does not fit the key", "does not fit the key"},
		{"no sums", true, func(t *testing.T, dir string) { os.Remove(file(dir, "SHA256SUMS")) }, nil, "SHA256SUMS is missing", "has no SHA256SUMS"},
		{"no sums, unsigned is well", true, func(t *testing.T, dir string) { os.Remove(file(dir, "SHA256SUMS")) }, []string{"--unsigned"}, "", "has no SHA256SUMS"},
		{"a release without a key", false, nil, nil, "", "this release is not signed"},
		{"a release without a key, unsigned is well", false, nil, []string{"--unsigned"}, "", ""},
		{"a release without a key, another archive", false, func(t *testing.T, dir string) { put(t, file(dir, archive), []byte("another")) }, []string{"--unsigned"}, "is damaged", "is damaged"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			key := ""
			if tt.signed {
				key = newKey(t)
			}
			dir := makeRelease(t, key)
			script, err := os.ReadFile(file(dir, "install.sh"))
			if err != nil {
				t.Fatal(err)
			}
			run := put(t, filepath.Join(t.TempDir(), "install.sh"), script)
			if tt.spoil != nil {
				tt.spoil(t, dir)
			}
			for _, from := range []string{dir, "file://" + dir, file(dir, archive)} {
				verify(t, "curl", run, from, "", tt.args, tt.local)
			}
			server := httptest.NewTLSServer(http.FileServer(http.Dir(dir)))
			defer server.Close()
			ca := put(t, filepath.Join(t.TempDir(), "ca.crt"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
			for _, fetcher := range []string{"curl", "wget"} {
				t.Run(fetcher, func(t *testing.T) { verify(t, fetcher, run, server.URL, ca, tt.args, tt.far) })
			}
		})
	}

	// Nothing is fetched by another way than https, also where https leads there.
	dir := makeRelease(t, newKey(t))
	script, err := os.ReadFile(file(dir, "install.sh"))
	if err != nil {
		t.Fatal(err)
	}
	run := put(t, filepath.Join(t.TempDir(), "install.sh"), script)
	asked := make(chan string, 100)
	plain := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r.URL.Path
		http.FileServer(http.Dir(dir)).ServeHTTP(w, r)
	}))
	defer plain.Close()
	leads := httptest.NewTLSServer(http.RedirectHandler(plain.URL+"/SHA256SUMS", http.StatusFound))
	defer leads.Close()
	ca := put(t, filepath.Join(t.TempDir(), "ca.crt"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leads.Certificate().Raw}))
	for _, fetcher := range []string{"curl", "wget"} {
		t.Run(fetcher, func(t *testing.T) {
			for _, args := range [][]string{nil, {"--unsigned"}} {
				for from, want := range map[string]string{
					plain.URL: "only https://", strings.Replace(plain.URL, "http", "ftp", 1): "only https://", leads.URL: "has no SHA256SUMS",
					"file://host" + dir: "only https://",
				} {
					verify(t, fetcher, run, from, ca, args, want)
				}
			}
		})
	}
	if len(asked) > 0 {
		t.Errorf("%s is fetched by http", <-asked)
	}
}

// verify runs install.sh, which has to unpack, or to end with refusal before it does.
func verify(t *testing.T, fetcher, script, from, ca string, args []string, refusal string) {
	t.Helper()
	mark := filepath.Join(t.TempDir(), "unpacked")
	cmd := exec.Command("/bin/sh", append(append([]string{script}, args...), from)...)
	cmd.Env = []string{"PATH=" + tools(t, fetcher), "MARK=" + mark, "CURL_CA_BUNDLE=" + ca, "TMPDIR=" + t.TempDir()}
	if ca != "" {
		cmd.Env = append(cmd.Env, "WGETRC="+put(t, filepath.Join(t.TempDir(), "wgetrc"), []byte("ca_certificate = "+ca+"\n")))
	}
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Run(); err == nil {
		t.Fatalf("%s: it says that it is installed: %s", from, &said)
	}
	_, err := os.Stat(mark)
	want, unpacked := refusal, err == nil
	if refusal == "" {
		want = "cannot be unpacked"
	}
	if unpacked != (refusal == "") || !strings.Contains(said.String(), want) {
		t.Errorf("%s: unpacked is %v, got %q, want %q", from, unpacked, &said, want)
	}
}

// TestRelease: the same files give the same signature, sums that sha256sum takes, and a release that is signed is not signed again.
func TestRelease(t *testing.T) {
	read := func(dir string) (all [3]string) {
		for i, name := range []string{"install.sh", "SHA256SUMS", "SHA256SUMS.sig"} {
			data, _ := os.ReadFile(filepath.Join(dir, name))
			all[i] = string(data)
		}
		return all
	}
	key := newKey(t)
	dir := makeRelease(t, key)
	one, two := read(dir), read(makeRelease(t, key))
	if one != two || one[2] == "" {
		t.Errorf("%q and %q", one, two)
	}
	check := exec.Command("sha256sum", "--quiet", "--strict", "-c", "SHA256SUMS")
	check.Dir = dir
	if out, err := check.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	if err := release(key, dir); err == nil || !strings.Contains(err.Error(), "make package again") || read(dir) != one {
		t.Errorf("signed twice: %v", err)
	}
	put(t, filepath.Join(dir, "install.sh"), []byte(noKey))
	if err := release(key, dir); err == nil || !strings.Contains(err.Error(), "does not have the sum") {
		t.Errorf("another install.sh: %v", err)
	}
}

// TestSignerRefuses keys that install.sh could not check with, telling which to make.
func TestSignerRefuses(t *testing.T) {
	k, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p384, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	for i, tt := range []struct {
		block *pem.Block
		want  string
	}{
		{&pem.Block{Type: "PRIVATE KEY", Bytes: p384}, "want an ECDSA key on P-256: openssl ecparam"},
		{&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("x")}, "want an ECDSA key on P-256"},
		{&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: p384}, "is encrypted"},
		{&pem.Block{Type: "PUBLIC KEY", Bytes: p384}, "there is no private key"},
	} {
		name := put(t, filepath.Join(t.TempDir(), fmt.Sprint(i)), pem.EncodeToMemory(tt.block))
		if _, err := readSigner(name); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%d: got %v, want %q", i, err, tt.want)
		}
	}
}
