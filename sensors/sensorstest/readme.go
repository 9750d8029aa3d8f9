package sensorstest

import (
	"os"
	"strings"
	"testing"
)

// README checks that the README.md of the package under test has the table of its drivers, between the comments
// "drivers" and "end of drivers". With update it writes the table there.
func README(t *testing.T, table string, update bool) {
	t.Helper()
	data, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	const start, end = "<!-- drivers -->\n", "<!-- end of drivers -->\n"
	before, rest, found := strings.Cut(string(data), start)
	_, after, closed := strings.Cut(rest, end)
	if !found || !closed {
		t.Fatal("README.md has no place for the table of drivers")
	}
	want := before + start + table + end + after
	if update {
		if err := os.WriteFile("README.md", []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if want != string(data) {
		t.Error("README.md and the drivers differ: run with -update")
	}
}
