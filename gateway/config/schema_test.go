package config

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"gopkg.in/yaml.v3"

	"holdfast/sensors/chips"
	"holdfast/sensors/outputs"
)

// compileSchema is what an editor makes of the schema of some tables.
func compileSchema(t *testing.T, opts Options) *jsonschema.Schema {
	t.Helper()
	text, err := Schema(opts.Drivers, opts.Outputs)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("holdfast.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("holdfast.json") // also against the meta-schema
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// instance is YAML as an editor sees it: numbers, texts and so on, and no times.
func instance(n *yaml.Node) any {
	switch n.Kind {
	case yaml.DocumentNode:
		return instance(n.Content[0])
	case yaml.MappingNode:
		m := map[string]any{}
		for i := 0; i+1 < len(n.Content); i += 2 {
			m[n.Content[i].Value] = instance(n.Content[i+1])
		}
		return m
	case yaml.SequenceNode:
		list := []any{}
		for _, c := range n.Content {
			list = append(list, instance(c))
		}
		return list
	}
	var v any
	if n.ShortTag() == "!!timestamp" || n.Decode(&v) != nil {
		return n.Value
	}
	return v
}

func parseYAML(text []byte) (any, error) {
	var n yaml.Node
	if err := yaml.Unmarshal(text, &n); err != nil || n.Kind == 0 {
		return nil, err
	}
	return instance(&n), nil
}

// TestSchemaTakesWhatLoadTakes: every file that is right, whole or a part.
func TestSchemaTakesWhatLoadTakes(t *testing.T) {
	ours, shipped := options(), Options{Drivers: chips.Drivers(), Outputs: outputs.Drivers()}
	for _, group := range []struct {
		files string
		opts  Options
	}{{"testdata/good/*.yaml", ours}, {"../../deploy/examples/*.yaml", shipped}} {
		s := compileSchema(t, group.opts)
		files, err := filepath.Glob(group.files)
		if err != nil || len(files) == 0 {
			t.Fatal(group.files, err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if v, err := parseYAML(text); err != nil {
				t.Error(file, err)
			} else if err := s.Validate(v); err != nil {
				t.Errorf("%s: %v", file, err)
			}
		}
	}
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	s := compileSchema(t, ours)
	blocks := strings.Split(string(readme), "```yaml\n")[1:]
	for i, block := range blocks {
		text, _, _ := strings.Cut(block, "```")
		v, err := parseYAML([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if bad, wrong := s.Validate(v) != nil, i == len(blocks)-1; bad != wrong {
			t.Errorf("example %d of README.md: wrong %v, refused %v: %v", i+1, wrong, bad, s.Validate(v))
		}
	}
}

// TestSchemaFindsMistakes: those that an editor can mark during typing.
func TestSchemaFindsMistakes(t *testing.T) {
	s := compileSchema(t, options())
	files, err := filepath.Glob("testdata/wrong/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	found, looked := 0, 0
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		v, err := parseYAML(text)
		if err != nil {
			continue // not YAML at all
		}
		looked++
		if s.Validate(v) != nil {
			found++
		} else {
			t.Log("left to check:", filepath.Base(file))
		}
	}
	t.Logf("%d of %d", found, looked)
	if found < 25 {
		t.Errorf("%d of %d wrong files are refused, want at least 25", found, looked)
	}

	shipped := compileSchema(t, Options{Drivers: chips.Drivers(), Outputs: outputs.Drivers()})
	for _, tt := range []struct {
		text  string
		right bool
	}{
		{"sensors: [{name: a, driver: bme280, bus: i2c-1, address: 0x76}]", true},
		{"sensors: [{name: a, driver: bme280, bus: i2c-1, address: 0x48}]", false},
		{"sensors: [{name: a, driver: bme280, bus: w1}]", false},
		{"sensors: [{name: a, driver: bme820, bus: i2c-1}]", false},
		{"sensors: [{name: a, driver: bme280, bus: i2c-1, line: 17}]", false},
		{"sensors: [{name: a, driver: gpio-input, line: 17}]", true},
		{"sensors: [{name: a, driver: \"${env:DRIVER}\", line: 17}]", true},
		{"sensors: [{name: a, driver: cpu, every: 10}]", false},
		{"sensors: [{name: a, driver: cpu, every: 10s}]", true},
		{"sensors: [{driver: cpu}]", false},
		{"outputs: [{name: a, driver: gpio-output, line: 17, safe: off}]", true},
		{"outputs: [{name: a, driver: gpio-output, line: 17, safe: off, frequency: 50}]", false},
		{"bridges: [{name: a, window: \"${env:WINDOW}\"}]", true},
		{"bridges: [{name: a, window: 0}]", false},
		{"bridges: [{name: a, out: [{qos: 1}]}]", false},
		{"journal: {max_size: 2000}", false},
	} {
		v, err := parseYAML([]byte(tt.text))
		if err != nil {
			t.Fatal(err)
		}
		if err := shipped.Validate(v); (err == nil) != tt.right {
			t.Errorf("%s: %v", tt.text, err)
		}
	}
}
