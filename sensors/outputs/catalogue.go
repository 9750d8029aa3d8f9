package outputs

import (
	"fmt"
	"strings"
)

// Catalogue lists drivers in one line each, for a terminal.
func Catalogue(drivers []Driver) string {
	var b strings.Builder
	for _, d := range drivers {
		b.WriteString(d.Line(d.Doc))
	}
	return b.String()
}

// Describe returns everything about a driver, for a terminal.
func (d Driver) Describe() string {
	return d.Spec.Describe(func(line func(name, text string)) { line("values", d.values()) })
}

// values are what a command or safe may be, with the options at their defaults.
func (d Driver) values() string {
	switch {
	case d.Range != nil:
		low, high, unit := d.Range(d.Defaults())
		return fmt.Sprintf("%g to %g%s; the upper end by the options", low, high, unit)
	case d.Levels:
		return "0 to 1, on, off"
	}
	return "on, off"
}

// Markdown is the table of drivers for README.md, and a table of all their options.
func Markdown(drivers []Driver) string {
	var b strings.Builder
	cell := strings.NewReplacer("|", "\\|")
	b.WriteString("| driver | moves | bus | values |\n|---|---|---|---|\n")
	for _, d := range drivers {
		where := d.Where()
		if n := len(d.Addresses); n > 16 {
			where = fmt.Sprintf("%s %#02x to %#02x", d.Buses[0], d.Addresses[0], d.Addresses[n-1])
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", d.Name, cell.Replace(d.Doc), where, d.values())
	}
	b.WriteString("\n| driver | option | |\n|---|---|---|\n")
	for _, d := range drivers {
		for _, o := range d.Options {
			fmt.Fprintf(&b, "| `%s` | `%s` | %s |\n", d.Name, o.Name, cell.Replace(o.String()))
		}
	}
	return b.String()
}
