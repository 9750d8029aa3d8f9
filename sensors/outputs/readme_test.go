package outputs_test

import (
	"flag"
	"strings"
	"testing"

	"holdfast/sensors/outputs"
	"holdfast/sensors/sensorstest"
)

var update = flag.Bool("update", false, "rewrite the README's table of drivers")

// TestReadme: the README's tables of drivers and options are the program's.
func TestReadme(t *testing.T) {
	sensorstest.README(t, outputs.Markdown(outputs.Drivers()), *update)
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
