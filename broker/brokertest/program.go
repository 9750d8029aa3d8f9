package brokertest

import (
	"os/exec"
	"testing"
)

// Program returns the path of a program that scripts/setup-test installs. In short mode, which is what `make check` runs,
// it skips the test, also where the program is there: what is tested then is the same on every machine. Else it fails
// the test if the program is missing.
func Program(t testing.TB, name string) string {
	t.Helper()
	if testing.Short() {
		t.Skipf("needs %s: `scripts/setup-test` installs it, and `make test` runs this test", name)
	}
	for _, at := range []string{name, "/usr/sbin/" + name} { // Debian's directory of daemons is not in every user's PATH
		if path, err := exec.LookPath(at); err == nil {
			return path
		}
	}
	t.Fatalf("%s is not installed: run `scripts/setup-test`", name)
	return ""
}

// Long skips a test in short mode. It takes longer than a person waits before a commit.
func Long(t testing.TB) {
	t.Helper()
	if testing.Short() {
		t.Skip("takes long: `make test` runs this test")
	}
}
