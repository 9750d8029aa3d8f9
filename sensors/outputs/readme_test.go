package outputs_test

import (
	"flag"
	"os"
	"strings"
	"testing"

	"holdfast/sensors/outputs"
)

var update = flag.Bool("update", false, "rewrite the README's table of drivers")

// TestReadme: the README's tables of drivers and options are the program's.
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
	want := before + start + outputs.Markdown(outputs.Drivers()) + end + after
	if *update {
		if err := os.WriteFile("README.md", []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if want != string(data) {
		t.Error("README.md and the drivers differ: run with -update")
	}
}

// TestDescribe: everything about a driver that a person needs, each of its options included.
func TestDescribe(t *testing.T) {
	list := outputs.Catalogue(outputs.Drivers())
	for _, d := range outputs.Drivers() {
		text := d.Describe()
		for _, o := range d.Options {
			if !strings.Contains(text, o.Name+": "+o.String()) {
				t.Errorf("%s: option %s is missing:\n%s", d.Name, o.Name, text)
			}
		}
		if !strings.Contains(text, "values") || !strings.Contains(text, "deadline") || !strings.Contains(list, d.Name+" ") {
			t.Errorf("%s: got\n%s", d.Name, text)
		}
	}
}
