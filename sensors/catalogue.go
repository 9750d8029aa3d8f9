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
		b.WriteString(d.Line(d.Chip + ": " + d.Doc))
	}
	return b.String()
}

// Line is the driver in one line for a terminal, with a text about it.
func (s *Spec) Line(text string) string {
	return fmt.Sprintf("%-12s %-10s %s\n", s.Name, s.kinds(), text)
}

func (s *Spec) kinds() string {
	var all []string
	for _, k := range s.Buses {
		all = append(all, string(k))
	}
	if len(all) == 0 {
		return "-"
	}
	return strings.Join(all, ", ")
}

// Where is how the driver's chip is reached, for a table: kinds of bus and addresses.
func (s *Spec) Where() string {
	if len(s.Addresses) == 0 {
		return s.kinds()
	}
	return s.kinds() + " " + s.addresses()
}

// Describe returns everything about a driver, for a terminal.
func (d Driver) Describe() string {
	return d.Spec.Describe(func(line func(name, text string)) {
		for i, q := range d.Quantities {
			name := ""
			if i == 0 {
				name = "measures"
			}
			line(name, q.String())
		}
		if d.QuantitiesOf != nil {
			line("", "depending on the options, or on what is there")
		}
	})
}

// Describe returns everything about a driver, for a terminal, with the lines that does writes before the options.
func (s *Spec) Describe(does func(line func(name, text string))) string {
	var b strings.Builder
	line := func(name, text string) {
		if text != "" {
			fmt.Fprintf(&b, "%-12s %s\n", name, text)
		}
	}
	line(s.Name, s.Doc)
	line("chip", s.Chip)
	line("data sheet", s.Datasheet)
	line("bus", s.kinds())
	line("addresses", s.addresses())
	line("wiring", s.Wiring)
	does(line)
	for i, o := range s.Options {
		name := ""
		if i == 0 {
			name = "options"
		}
		line(name, o.Name+": "+o.String())
	}
	line("deadline", s.Timeout.String())
	return b.String()
}

func (s *Spec) addresses() string {
	var all []string
	for _, a := range s.Addresses {
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
		cell := strings.NewReplacer("|", "\\|")
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", d.Name, cell.Replace(d.Chip), d.Where(),
			cell.Replace(strings.Join(quantities, "; ")), strings.Join(options, " "))
	}
	return b.String()
}
