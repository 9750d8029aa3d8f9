package scan

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"holdfast/sensors"
)

// YAML is a configuration for what was found: everything that is certain, and as comments what a person
// has to decide.
func (r *Result) YAML(drivers []sensors.Driver) string {
	var b strings.Builder
	for _, line := range strings.Split(strings.TrimSuffix(r.Table(), "\n"), "\n") {
		b.WriteString("# " + line + "\n")
	}
	b.WriteString("sensors:\n")
	taken := map[string]int{}
	entries, guesses := 0, false
	for _, f := range r.Found {
		for _, name := range f.Drivers {
			i := slices.IndexFunc(drivers, func(d sensors.Driver) bool { return d.Name == name })
			if i < 0 {
				continue
			}
			missing := required(drivers[i], f.Options)
			off := ""
			if !f.Sure || len(missing) > 0 { // opening a driver writes to the chip
				off, guesses = "# ", true
			} else {
				entries++
			}
			label := name
			if taken[label]++; taken[label] > 1 {
				label = fmt.Sprintf("%s-%d", label, taken[label])
			}
			line := func(format string, args ...any) {
				b.WriteString(strings.TrimRight(off+fmt.Sprintf(format, args...), " ") + "\n")
			}
			line("  - name: %s", label)
			line("    driver: %s", name)
			if f.Bus != "" {
				line("    bus: %s", f.Bus)
			}
			if f.Address != 0 {
				line("    address: %#02x", f.Address)
			}
			if every := drivers[i].Every; every > 0 {
				line("    every: %s", every)
			}
			for _, o := range slices.Sorted(maps.Keys(f.Options)) {
				line("    %s: %s", o, scalar(f.Options[o]))
			}
			for _, o := range missing {
				line("    %s:   # %s", o.Name, o.Doc)
			}
		}
	}
	if guesses {
		b.WriteString("# Entries that are commented out were recognised by their address only, or lack an option. Make sure before you use them.\n")
	}
	if entries == 0 {
		b.WriteString("  []\n")
	}
	return b.String()
}

// required are the options that a person has to give.
func required(d sensors.Driver, given map[string]any) (missing []sensors.Option) {
	for _, o := range d.Options {
		if _, ok := given[o.Name]; o.Required && !ok {
			missing = append(missing, o)
		}
	}
	return missing
}

// scalar is a value as YAML, on one line.
func scalar(v any) string {
	n := &yaml.Node{}
	if err := n.Encode(v); err != nil {
		return fmt.Sprintf("%q", fmt.Sprint(v))
	}
	n.Style = yaml.FlowStyle
	out, err := yaml.Marshal(n)
	if err != nil {
		return fmt.Sprintf("%q", fmt.Sprint(v))
	}
	return strings.TrimSpace(string(out))
}
