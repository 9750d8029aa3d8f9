package config

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// TestReadme: the README's table of keys is the loader's, and its examples do what it says.
func TestReadme(t *testing.T) {
	data, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	const start, end = "<!-- keys -->\n", "<!-- end of keys -->\n"
	before, rest, found := strings.Cut(string(data), start)
	_, after, closed := strings.Cut(rest, end)
	if !found || !closed {
		t.Fatal("README.md has no place for the table of keys")
	}
	var b strings.Builder
	b.WriteString("| Key | Takes | Default | Meaning | Change |\n|---|---|---|---|---|\n")
	describe(&b, newLoader(options()).root, "", false)
	want := before + start + b.String() + end + after
	if *update {
		if err := os.WriteFile("README.md", []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if want != string(data) {
		t.Errorf("README.md and the keys differ: run with -update")
	}

	var examples []string
	for _, block := range strings.Split(want, "```yaml\n")[1:] {
		text, _, _ := strings.Cut(block, "```")
		examples = append(examples, text)
	}
	last := len(examples) - 1
	if last < 1 {
		t.Fatalf("%d examples, want right ones and a wrong one", len(examples))
	}
	for i, right := range examples[:last] {
		if _, err := load(t, right); err != nil {
			t.Errorf("example %d: %v", i+1, err)
		}
	}
	t.Chdir(t.TempDir())
	if err := os.WriteFile("device.yaml", []byte(examples[last]), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = Load([]string{"device.yaml"}, options())
	if err == nil || !strings.Contains(want, "```\n"+err.Error()+"\n```\n") {
		t.Errorf("the last example is said to fail otherwise than with\n%v", err)
	}
}

func describe(b *strings.Builder, t *table, prefix string, live bool) {
	for _, k := range t.keys {
		path, def := prefix+k.name, k.def
		if def != "" && def != required {
			def = "`" + def + "`"
		}
		change := "restart"
		if live || k.live {
			change = "reload"
		} else if k.table != nil {
			change = ""
		}
		fmt.Fprintf(b, "| `%s` | %s | %s | %s | %s |\n", path, k.want, def, k.doc, change)
		if k.table != nil {
			if strings.HasPrefix(k.want, "a list") {
				path += "[]"
			}
			if k.name == "quantities" {
				path += ".NAME"
			}
			describe(b, k.table, path+".", live || k.live)
		}
	}
}

func TestEveryKeyIsDescribed(t *testing.T) {
	var walk func(*table, string)
	walk = func(table *table, path string) {
		for _, k := range table.keys {
			if k.want == "" || k.doc == "" || (k.parse == nil) == (k.decode == nil) {
				t.Errorf("%s.%s is not complete: %+v", path, k.name, k)
			}
			if k.table != nil {
				walk(k.table, path+"."+k.name)
			}
		}
	}
	walk(newLoader(options()).root, "")
}
