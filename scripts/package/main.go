// Command package makes what holdfast is installed from out of the static programs that scripts/cross
// has built: for each a Debian package, an archive for systems without apt and a list of the modules in
// it (CycloneDX), and SHA256SUMS over all of them.
//
// The same commit gives the same bytes: times are those of the commit (SOURCE_DATE_EPOCH), and nothing
// of the machine gets in. With -sign it has scripts/sign sign the sums.
package main

import (
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// target is a processor that there is a program for.
type target struct {
	name string // in file names; Debian knows armv6 and armv7 by one
	deb  string // Debian's architecture
}

var targets = []target{{"arm64", "arm64"}, {"armv7", "armhf"}, {"armv6", "armhf"}}

// release is what all packages of one run have in common.
type release struct {
	root    string // of the sources
	stage   string // directory for what is made on the way
	out     string
	version string
	time    time.Time
}

func main() {
	out := flag.String("out", "dist", "`DIR` with the programs, which gets the packages as well, relative to the sources")
	version := flag.String("version", "", "`VERSION` of the packages; by default from git: that of the tag, or of the last one with the commit's time added")
	only := flag.String("only", "", "`NAME` of a single target: arm64, armv7 or armv6")
	key := flag.String("sign", "", "`KEYFILE` to sign SHA256SUMS with: ECDSA on P-256, PEM; relative to the working directory")
	flag.Parse()
	if err := packageAll(*out, *version, *only, *key); err != nil {
		fmt.Fprintln(os.Stderr, "package:", err)
		os.Exit(1)
	}
}

func packageAll(out, version, only, key string) error {
	root, err := git(".", "rev-parse", "--show-toplevel")
	if err != nil {
		return err
	}
	r := &release{root: root, out: filepath.Join(root, out), version: version}
	if filepath.IsAbs(out) {
		r.out = out
	}
	if r.time, err = commitTime(root); err != nil {
		return err
	}
	if r.version == "" {
		if r.version, err = describe(root, r.time); err != nil {
			return err
		}
	}
	if r.stage, err = os.MkdirTemp("", "holdfast-package-"); err != nil {
		return err
	}
	defer os.RemoveAll(r.stage)

	var made []string
	for _, t := range targets {
		if only != "" && only != t.name {
			continue
		}
		files, err := r.files(t)
		if err != nil {
			return err
		}
		for _, make := range []func(target, []file) (string, error){r.deb, r.archive, r.modules} {
			name, err := make(t, files)
			if err != nil {
				return fmt.Errorf("%s: %w", t.name, err)
			}
			made = append(made, name)
		}
	}
	if len(made) == 0 {
		return fmt.Errorf("-only %s: no such target: arm64, armv7 or armv6", only)
	}
	script := filepath.Join(r.out, "install.sh")
	if err := copyFile(filepath.Join(r.root, "scripts/install.sh"), script, 0o755); err != nil {
		return err
	}
	if err := errors.Join(os.RemoveAll(filepath.Join(r.out, "SHA256SUMS.sig")), sums(r.out, append(made, filepath.Base(script)))); err != nil {
		return err
	}
	if key == "" {
		fmt.Fprintln(os.Stderr, "package: SHA256SUMS is not signed, and install.sh of this build fetches nothing without --unsigned: make package SIGN=KEYFILE signs")
		return nil
	}
	return r.sign(key)
}

// sign makes a signed release of what was written.
func (r *release) sign(key string) error {
	key, err := filepath.Abs(key)
	if err != nil {
		return err
	}
	cmd := exec.Command("go", "run", "-C", "scripts", "./sign", "-key", key, r.out)
	cmd.Dir, cmd.Stderr = r.root, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w", cmd, err)
	}
	return nil
}

// sums writes SHA256SUMS, which `sha256sum -c` reads.
func sums(dir string, names []string) error {
	slices.Sort(names)
	var b strings.Builder
	for _, name := range names {
		content, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, "%x  %s\n", sha256.Sum256(content), name)
	}
	fmt.Print(b.String())
	return os.WriteFile(filepath.Join(dir, "SHA256SUMS"), []byte(b.String()), 0o644)
}

// commitTime is the time that everything in the packages has.
func commitTime(root string) (time.Time, error) {
	text := os.Getenv("SOURCE_DATE_EPOCH")
	if text == "" {
		var err error
		if text, err = git(root, "log", "-1", "--format=%ct"); err != nil {
			return time.Time{}, err
		}
	}
	seconds, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("SOURCE_DATE_EPOCH: got %q, want seconds since 1970", text)
	}
	return time.Unix(seconds, 0).UTC(), nil
}

// describe is the version of a tag such as v1.2.3 at the commit. Between tags the time of the commit is
// added, so that a later one is newer to dpkg.
func describe(root string, at time.Time) (string, error) {
	if tag, err := git(root, "describe", "--tags", "--exact-match", "--match", "v[0-9]*"); err == nil {
		return strings.TrimPrefix(tag, "v"), nil
	}
	last, err := git(root, "describe", "--tags", "--abbrev=0", "--match", "v[0-9]*")
	if err != nil { // none yet
		last = "v0.0.0"
	}
	hash, err := git(root, "rev-parse", "--short=7", "HEAD")
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s+git%s.%s", strings.TrimPrefix(last, "v"), at.Format("200601021504"), hash), nil
}

func git(dir string, args ...string) (string, error) {
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("git %s: %w", strings.Join(args, " "), err)
	}
	return strings.TrimSpace(string(out)), nil
}
