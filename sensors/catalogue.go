package sensors

import (
	"fmt"
	"strings"
	"time"
)

// Catalogue lists drivers in one line each, for a terminal.
func Catalogue(drivers []Driver) string {
	var b strings.Builder
	for _, d := range drivers {
		fmt.Fprintf(&b, "%-12s %-10s %s: %s\n", d.Name, kinds(d), d.Chip, d.Doc)
	}
	return b.String()
}

func kinds(d Driver) string {
	var all []string
	for _, k := range d.Buses {
		all = append(all, string(k))
	}
	if len(all) == 0 {
		return "-"
	}
	return strings.Join(all, ", ")
}

// Describe returns everything about a driver, for a terminal.
func (d Driver) Describe() string {
	var b strings.Builder
	line := func(name, text string) {
		if text != "" {
			fmt.Fprintf(&b, "%-12s %s\n", name, text)
		}
	}
	line(d.Name, d.Doc)
	line("chip", d.Chip)
	line("data sheet", d.Datasheet)
	line("bus", kinds(d))
	line("addresses", addresses(d))
	line("wiring", d.Wiring)
	for i, q := range d.Quantities {
		name := ""
		if i == 0 {
			name = "measures"
		}
		fmt.Fprintf(&b, "%-12s %s\n", name, q)
	}
	if d.QuantitiesOf != nil {
		line("", "depending on the options, or on what is there")
	}
	for i, o := range d.Options {
		name := ""
		if i == 0 {
			name = "options"
		}
		fmt.Fprintf(&b, "%-12s %s: %s\n", name, o.Name, o)
	}
	line("deadline", d.Timeout.String())
	return b.String()
}

func addresses(d Driver) string {
	var all []string
	for _, a := range d.Addresses {
		all = append(all, fmt.Sprintf("%#02x", a))
	}
	return strings.Join(all, ", ")
}

// String is the quantity with its unit and range: "temperature, °C, -40 to 85".
func (q Quantity) String() string {
	s := q.Name
	if q.Unit != "" && q.Unit != "1" {
		s += ", " + q.Unit
	}
	if q.Min != 0 || q.Max != 0 {
		s += fmt.Sprintf(", %.6g to %.6g", q.Min, q.Max)
	}
	return s
}

// String is what the option takes and means.
func (o Option) String() string {
	s := string(o.Kind)
	switch {
	case len(o.Allowed) > 0:
		s = strings.Join(o.Allowed, " | ")
	case o.Min != 0 || o.Max != 0:
		s += fmt.Sprintf(" from %.6g to %.6g", o.Min, o.Max)
	}
	switch v := o.Default.(type) {
	case nil:
		if o.Required {
			s += ", required"
		}
	case time.Duration:
		s += ", default " + v.String()
	default:
		s += fmt.Sprintf(", default %v", v)
	}
	return s + ". " + o.Doc
}

// Markdown is the table of drivers for README.md.
func Markdown(drivers []Driver) string {
	var b strings.Builder
	b.WriteString("| driver | chip | bus | measures | options |\n|---|---|---|---|---|\n")
	for _, d := range drivers {
		var quantities, options []string
		for _, q := range d.Quantities {
			quantities = append(quantities, q.String())
		}
		for _, o := range d.Options {
			options = append(options, "`"+o.Name+"`")
		}
		where := kinds(d)
		if len(d.Addresses) > 0 {
			where += " " + addresses(d)
		}
		cell := strings.NewReplacer("|", "\\|")
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", d.Name, cell.Replace(d.Chip), where,
			cell.Replace(strings.Join(quantities, "; ")), strings.Join(options, " "))
	}
	return b.String()
}
