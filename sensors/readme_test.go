package sensors_test

import (
	"flag"
	"os"
	"strings"
	"testing"

	"holdfast/sensors"
	"holdfast/sensors/chips"
)

var update = flag.Bool("update", false, "rewrite the README's table of drivers")

// TestReadme: the README's table of drivers is the program's.
func TestReadme(t *testing.T) {
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
	want := before + start + sensors.Markdown(chips.Drivers()) + end + after
	if *update {
		if err := os.WriteFile("README.md", []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if want != string(data) {
		t.Error("README.md and the drivers differ: run with -update")
	}
}
