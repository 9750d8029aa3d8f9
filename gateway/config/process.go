package config

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"

	"holdfast/sensors"
)

// sensorEntry is one sensor while files are read.
type sensorEntry struct {
	sensors.Config
	retain     bool
	all        processing             // given for the sensor as a whole
	quantities map[string]*processing // by the driver's names
}

// processing is what is given of a sensors.Processing, and where.
type processing struct {
	sensors.Processing
	limits sensors.Limits
	counts map[sensors.FilterKind]*int
	text   string // of the formula

	table                     *table
	calibrate, limit, smooths *table
	report                    *table
}

var filters = []struct {
	kind sensors.FilterKind
	doc  string
}{
	{sensors.FilterMedian, "The middle one of the last so many values: removes single wrong ones."},
	{sensors.FilterMean, "The mean of the last so many values: less noise."},
	{sensors.FilterExponential, "A running mean in which the newest of so many values has twice its share."},
}

// processingKeys are the keys of p. They are filled in place, as everything in this package.
func (l *loader) processingKeys(p *processing) []key {
	p.calibrate = newTable(
		key{"scale", "1", "Multiplies the value.", factor(&p.Calibrate.Scale)},
		key{"offset", "0", "Is added after that, in the quantity's unit.", float(&p.Calibrate.Offset, math.Inf(-1), math.Inf(1))},
		key{"points", "", "Instead: pairs of measured and true value, ascending; straight lines between them and beyond.",
			l.points(&p.Calibrate.Points)},
		key{"formula", "", "Instead: an expression of `x`, the measured value, and of the sensor's quantities by name, such as `x * 1.8 + 32`.",
			packed(&p.text, "a formula such as x * 1.8 + 32")},
	)
	p.limit = newTable(
		key{"min", "", "Smallest value that can be true. Default: the driver's, if nothing is calibrated.", float(&p.limits.Min, math.Inf(-1), math.Inf(1))},
		key{"max", "", "Largest one, likewise.", float(&p.limits.Max, math.Inf(-1), math.Inf(1))},
	)
	p.counts = make(map[sensors.FilterKind]*int)
	p.smooths = newTable()
	for _, f := range filters {
		p.counts[f.kind] = new(int)
		p.smooths.keys = append(p.smooths.keys, key{string(f.kind), "", f.doc, number(p.counts[f.kind], 2, 1000, "")})
	}
	p.report = newTable(
		key{"on_change", "", "Least difference from the last value that was published, in the quantity's unit. Default: any.", positive(&p.Report.OnChange)},
		key{"at_least_every", "0s", "Publish an unchanged value too, so that no longer time than this is between two; `0s`: only when it changes.", duration(&p.Report.AtLeastEvery, 0, "")},
	)
	return []key{
		{"calibrate", "", "Correct what was measured. At the sensor itself only if it measures one quantity.", l.section(p.calibrate)},
		{"limits", "", "Refuse values that cannot be true, after the calibration. Likewise.", l.section(p.limit)},
		{"filter", "", "Smooth. One of the following.", l.section(p.smooths)},
		{"round", "", "Round to a multiple of this, such as `0.1`.", positive(&p.Round)},
		{"report", "", "Publish only what matters; without it every reading is published.", l.section(p.report)},
	}
}

// quantities is a mapping of quantities to their processing. A later file changes and adds.
func (l *loader) quantityKeys(to *map[string]*processing) kind {
	const want = "a mapping of quantities to their keys"
	make1 := func() *processing {
		p := new(processing)
		p.table = newTable(append([]key{
			{"as", "", "Another name for the quantity, in topics.", level(&p.As)},
			{"unit", "", "Another unit, if it was calibrated to one.", packed(&p.Unit, "a unit such as %")},
		}, l.processingKeys(p)...)...)
		return p
	}
	entries := func() (all []entry) {
		for _, name := range slices.Sorted(maps.Keys(*to)) {
			all = append(all, entry{name, (*to)[name].table})
		}
		return all
	}
	return kind{want: want, table: make1().table, named: true, entries: entries, decode: func(f field) {
		t := newTable()
		t.rest = make(map[string]field)
		if !l.is(f, yaml.MappingNode, want) || !l.mapping(f, t) {
			return
		}
		if *to == nil {
			*to = make(map[string]*processing)
		}
		for _, name := range slices.Sorted(maps.Keys(t.rest)) {
			if (*to)[name] == nil {
				(*to)[name] = make1()
			}
			l.mapping(t.rest[name], (*to)[name].table)
		}
	}}
}

// finishProcessing settles how the quantities of a sensor are processed.
func (l *loader) finishProcessing(e *element[sensorEntry], d sensors.Driver, c *sensors.Config) {
	measures := d.Measures(c.Options)
	e.value.all.table = e.table
	for name := range e.value.quantities {
		if len(measures) > 0 && !slices.ContainsFunc(measures, func(q sensors.Quantity) bool { return q.Name == name }) {
			var known []string
			for _, q := range measures {
				known = append(known, q.Name)
			}
			at := e.given["quantities"].key(name)
			l.errorf(at, "%s does not measure that here, %s", d.Name, nearest(name, known))
		}
	}
	for _, only := range []string{"calibrate", "limits"} {
		if at, given := e.given[only]; given && len(measures) != 1 {
			l.errorf(at, "%s measures more than one quantity: give it below quantities, for one of them", d.Name)
		}
	}
	only := sensors.Quantity{}
	if len(measures) == 1 {
		only = measures[0]
	}
	c.Processing = l.settle(&e.value.all, nil, only, measures)
	taken := map[string]string{}
	for _, q := range measures {
		l.quantity(e, c, q, measures, taken)
	}
	for name := range e.value.quantities { // those that only the opened device will know
		if len(measures) == 0 {
			l.quantity(e, c, sensors.Quantity{Name: name}, measures, taken)
		}
	}
}

// quantity settles one of them. Names that were given to quantities must not meet.
func (l *loader) quantity(e *element[sensorEntry], c *sensors.Config, q sensors.Quantity, measures []sensors.Quantity, taken map[string]string) {
	own := e.value.quantities[q.Name]
	name := q.Name
	if own != nil && own.As != "" {
		name = own.As
	}
	if other, twice := taken[name]; twice {
		l.errorf(e.given["quantities"], "%s and %s are both called %s", other, q.Name, name)
	}
	taken[name] = q.Name
	if own == nil {
		return // as for the sensor
	}
	if c.Quantities == nil {
		c.Quantities = make(map[string]sensors.Processing)
	}
	c.Quantities[q.Name] = l.settle(own, &e.value.all, q, measures)
}

// settle merges what is given for a quantity with what is given for the sensor, key by key, and makes
// the checks on both together. Either may be nil.
func (l *loader) settle(own, all *processing, q sensors.Quantity, measures []sensors.Quantity) sensors.Processing {
	from := func(name string) *processing {
		for _, p := range []*processing{own, all} {
			if p != nil && has(p.table, name) {
				return p
			}
		}
		return nil
	}
	var how sensors.Processing
	if own != nil {
		how.As, how.Unit = own.As, own.Unit
	}
	calibrated := false
	if p := from("calibrate"); p != nil {
		how.Calibrate = p.calibration(l, measures)
		calibrated = true
	}
	if p := from("limits"); p != nil {
		how.Limits = p.bounds(l, q, calibrated)
	}
	if p := from("filter"); p != nil {
		how.Filter = p.filter(l)
	}
	if p := from("round"); p != nil {
		how.Round = p.Round
	}
	if p := from("report"); p != nil {
		how.Report = p.Report
		how.Report.On = true
	}
	return how
}

func has(t *table, name string) bool {
	_, given := t.given[name]
	return given
}

func (p *processing) calibration(l *loader, measures []sensors.Quantity) sensors.Calibration {
	c := p.Calibrate
	given := slices.Sorted(maps.Keys(p.calibrate.given))
	at := p.table.given["calibrate"]
	linear := has(p.calibrate, "scale") || has(p.calibrate, "offset")
	ways := 0
	for _, way := range []bool{linear, has(p.calibrate, "points"), has(p.calibrate, "formula")} {
		if way {
			ways++
		}
	}
	switch {
	case ways == 0:
		l.once(at, "is empty: want scale, offset, points or formula")
	case ways > 1:
		l.once(at, "got %s together: scale and offset, or points, or a formula", strings.Join(given, ", "))
	}
	if at, ok := p.calibrate.given["formula"]; ok && p.text != "" {
		f, err := sensors.NewFormula(p.text, measures)
		if err != nil {
			l.once(at, "%v", err)
		}
		c.Formula = f
	}
	return c
}

func (p *processing) bounds(l *loader, q sensors.Quantity, calibrated bool) *sensors.Limits {
	low, high := math.Inf(-1), math.Inf(1)
	if !calibrated && (q.Min != 0 || q.Max != 0) {
		low, high = q.Min, q.Max
	}
	if has(p.limit, "min") {
		low = p.limits.Min
	}
	if has(p.limit, "max") {
		high = p.limits.Max
	}
	if low >= high {
		l.once(p.table.given["limits"], "nothing is from %g to %g: min has to be less than max", low, high)
	}
	return &sensors.Limits{Min: low, Max: high}
}

func (p *processing) filter(l *loader) (f sensors.Filter) {
	for _, known := range filters {
		if has(p.smooths, string(known.kind)) {
			if f.Kind != "" {
				l.once(p.table.given["filter"], "got two filters, want one of median, mean and exponential")
			}
			f = sensors.Filter{Kind: known.kind, N: *p.counts[known.kind]}
		}
	}
	if f.Kind == "" {
		l.once(p.table.given["filter"], "is empty: want median, mean or exponential, such as median: 5")
	}
	return f
}

// once reports a mistake that is met for each quantity it applies to.
func (l *loader) once(f field, format string, args ...any) {
	e := Error{File: f.file, Line: f.line, Key: f.path, Text: fmt.Sprintf(format, args...)}
	if !slices.Contains(l.errs, e) {
		l.errs = append(l.errs, e)
	}
}

// points is a list of pairs of numbers, ascending by the first.
func (l *loader) points(to *[][2]float64) kind {
	const want = "a list of pairs such as [[0.5, 0], [2.5, 100]]"
	return kind{want: want, schema: pointsSchema, decode: func(f field) {
		if !l.is(f, yaml.SequenceNode, want) {
			return
		}
		var points [][2]float64
		for i := range f.node.Content {
			pair := f.item(i)
			if !l.is(pair, yaml.SequenceNode, "a pair of numbers") {
				return
			}
			if n := len(pair.node.Content); n != 2 {
				l.errorf(pair, "got %d numbers, want a pair: measured and true", n)
				return
			}
			var p [2]float64
			for j := range p {
				l.decode(pair.item(j), float(&p[j], math.Inf(-1), math.Inf(1)))
			}
			if i > 0 && p[0] <= points[i-1][0] {
				l.errorf(pair, "got %v after %v, want the first numbers of the pairs ascending", p[0], points[i-1][0])
				return
			}
			points = append(points, p)
		}
		if len(points) < 2 || len(points) > 100 {
			l.errorf(f, "got %d pairs, want 2 to 100", len(points))
		}
		*to = points
	}}
}

// factor is a number other than 0.
func factor(to *float64) kind {
	k := float(to, math.Inf(-1), math.Inf(1))
	parse := k.parse
	k.parse = func(s string) error {
		if err := parse(s); err != nil {
			return err
		}
		if *to == 0 {
			return errors.New("want a number other than 0")
		}
		return nil
	}
	return k
}

// positive is a number greater than 0.
func positive(to *float64) kind {
	const want = "a number greater than 0"
	return kind{want: want, types: []string{"!!int", "!!float"}, number: true, schema: schema{"exclusiveMinimum": 0}, parse: func(s string) error {
		f, err := strconv.ParseFloat(s, 64)
		if err != nil || math.IsInf(f, 0) || !(f > 0) {
			return errors.New("want " + want)
		}
		*to = f
		return nil
	}}
}
