package gateway

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// imports are the packages of gateway that each of its packages may import: a part knows no other part, and none knows
// the gateway that it runs in. A new package has a row here.
var imports = map[string]string{
	"gateway":              "access commands config control logs numbers part payload progress reconfigure status tap uplinks views web",
	"gateway/access":       "config part status uplinks", // to check the files of bridges too
	"gateway/commands":     "config numbers part payload tap",
	"gateway/config":       "",
	"gateway/control":      "",
	"gateway/demo":         "config fakeupstream reconfigure status tap",
	"gateway/doctor":       "access config control status uplinks",
	"gateway/fakeupstream": "",
	"gateway/firstconfig":  "config",
	"gateway/logs":         "",
	"gateway/numbers":      "verify",
	"gateway/part":         "config",
	"gateway/payload":      "",
	"gateway/progress":     "",
	"gateway/reconfigure":  "config part status",
	"gateway/status":       "",
	"gateway/tap":          "",
	"gateway/torture":      "fakeupstream verify",
	"gateway/uplinks":      "config control numbers part status verify",
	"gateway/verify":       "",
	"gateway/views":        "config part progress status tap web",
	"gateway/web":          "",
}

// TestHouse: broker and sensors know neither each other nor the gateway, the packages below the server know neither it
// nor each other, and the packages of the gateway know of each other what the table allows.
func TestHouse(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}}{{range .Imports}} {{.}}{{end}}`, "holdfast/...").Output()
	if err != nil {
		t.Fatal(err)
	}
	const module = "holdfast/"
	below := func(path, top string) bool { return path == top || strings.HasPrefix(path, top+"/") }
	seen := map[string]bool{}
	for line := range strings.Lines(string(out)) {
		list := strings.Fields(line)
		name := strings.TrimPrefix(list[0], module)
		seen[name] = true
		allowed, row := imports[name]
		if below(name, "gateway") && !row {
			t.Errorf("%s has no row in the table of imports", name)
		}
		for _, path := range list[1:] {
			path, ours := strings.CutPrefix(path, module)
			switch {
			case !ours:
			case below(name, "broker") && !below(path, "broker"), below(name, "sensors") && !below(path, "sensors"):
				t.Errorf("%s imports %s: broker and sensors stand alone, the gateway connects them", name, path)
			case below(name, "gateway") && below(path, "gateway") && !slices.Contains(strings.Fields(allowed), strings.TrimPrefix(path, "gateway/")):
				t.Errorf("%s imports %s: give it a function in its Options instead, or change the table", name, path)
			case strings.HasPrefix(name, "broker/server/") && below(path, "broker/server"):
				t.Errorf("%s imports %s: what stands below the server knows neither it nor each other", name, path)
			case below(path, "cmd"):
				t.Errorf("%s imports %s", name, path)
			}
		}
	}
	for name := range imports {
		if !seen[name] {
			t.Errorf("there is no package %s", name)
		}
	}
}
