package config

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestLimitsAreDocumented holds the table of limits in broker/server's README to the keys and their defaults.
func TestLimitsAreDocumented(t *testing.T) {
	text, err := os.ReadFile("../../broker/server/README.md")
	if err != nil {
		t.Fatal(err)
	}
	defaults := map[string][]string{} // of the rows of each name, as a configuration would have them
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z_]+)`[^|]*\\| ([^|]*)\\| ([^|]*)\\|.*\\|$").FindAllStringSubmatch(string(text), -1) {
		value := regexp.MustCompile(`[0-9][0-9,]*( ?(KiB|MiB|s|d)\b)?`).FindString(row[2])
		defaults[row[1]] = append(defaults[row[1]], strings.NewReplacer(",", "", " ", "").Replace(value))
		if strings.TrimSpace(row[3]) == "" {
			t.Errorf("the table does not say what a client gets at %s", row[1])
		}
	}
	var limits *table
	for _, k := range newLoader(options()).broker.keys {
		if k.name == "limits" {
			limits = k.table
		}
	}
	for _, k := range limits.keys {
		rows := defaults[k.name]
		if len(rows) == 0 {
			t.Errorf("the table has no row for %s", k.name)
		}
		if k.name == "backlog" {
			rows = rows[:1] // the other one has it with a condition
		}
		for _, got := range rows {
			if got != k.def {
				t.Errorf("the table has %s for %s, the default is %s", got, k.name, k.def)
			}
		}
	}
}
