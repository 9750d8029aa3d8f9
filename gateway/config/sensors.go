package config

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"holdfast/sensors"
	"holdfast/sensors/bus"
)

// finishSensors checks every sensor against its driver: the common keys that depend on it, and all
// others.
func (l *loader) finishSensors() {
	var names []string
	for _, d := range l.opts.Drivers {
		names = append(names, d.Name)
	}
	for _, e := range l.sensors {
		l.require(e.at, e.table)
		c := e.value.Config
		i := l.driver(e.table, "sensors", c.Driver, names)
		if i < 0 {
			continue
		}
		d := l.opts.Drivers[i]
		dev := device{table: e.table, at: e.at, bus: c.Bus, address: c.Address}
		l.place(dev, &d.Spec, d.Name)
		c.Options = make(map[string]any)
		mistakes := len(l.errs)
		l.options(dev, &d.Spec, c.Options)
		if d.Check != nil && len(l.errs) == mistakes {
			if err := d.Check(c); err != nil {
				l.errorf(e.at, "%v", err)
			}
		}
		if len(l.errs) == mistakes {
			l.claim(dev, &d.Spec, c.Options)
		}
		l.finishProcessing(e, d, &c)
		l.config.Sensors = append(l.config.Sensors, c)
		retain := l.retain
		if has(e.table, "retain") {
			retain = e.value.retain
		}
		if retain {
			if l.config.Retained == nil {
				l.config.Retained = map[string]bool{}
			}
			l.config.Retained[c.Name] = true
		}
	}
}

// device is a sensor or an output, as far as its driver decides about its keys.
type device struct {
	*table
	at      field
	bus     string
	address uint16
	driver  string // the chip's name, in chip
}

// driver returns which of the known drivers an entry of a section names, -1 if it names none.
func (l *loader) driver(t *table, section, name string, known []string) int {
	if name == "" {
		return -1
	}
	i := slices.Index(known, name)
	if i < 0 {
		at := t.given["driver"]
		l.errorf(at, "unknown driver %s%s", at.shown(), l.otherDriver(name, section, known))
	}
	return i
}

// place checks where the hardware is: its bus, its address there, and that no other kind of chip has that.
func (l *loader) place(e device, d *sensors.Spec, model string) {
	l.bus(e, d)
	l.address(e, d)
	l.chip(e, d, model)
}

// bus checks the name of the bus against the kinds that the driver can use.
func (l *loader) bus(e device, d *sensors.Spec) {
	at, given := e.given["bus"]
	name := e.bus
	var want []string
	must, fits := false, false
	for _, k := range d.Buses {
		n := bus.NamesOf(k)
		want = append(want, n.Want)
		must = must || n.Must
		fits = fits || n.Pattern.MatchString(name) || bus.IsSimulated(name) && (bus.KindOf(name) == k || bus.KindOf(name) == bus.None)
	}
	if len(want) == 0 {
		want = []string{"none"}
		fits = bus.IsSimulated(name) && bus.KindOf(name) == bus.None
	}
	switch {
	case !given && must:
		l.errorf(e.at.key("bus"), "missing, %s wants %s, or simulated", d.Name, strings.Join(want, ", or "))
	case name != "" && !fits:
		l.errorf(at, "got %s, %s wants %s, or simulated", at.shown(), d.Name, strings.Join(want, ", or "))
	}
}

func (l *loader) address(e device, d *sensors.Spec) {
	at, given := e.given["address"]
	switch {
	case !given || e.address == 0:
	case !d.Has(sensors.BusI2C):
		l.errorf(at, "%s is not an I2C chip and has no address: remove it", d.Name)
	case d.Kind(e.bus) != sensors.BusI2C:
		l.errorf(at, "on %s a chip has no address: remove it", e.bus)
	case len(d.Addresses) > 0 && !slices.Contains(d.Addresses, e.address):
		var known []string
		for _, a := range d.Addresses {
			known = append(known, fmt.Sprintf("%#02x", a))
		}
		l.errorf(at, "got %s, %s can have %s", at.shown(), d.Name, oneOf(known))
	}
}

// chip refuses a second kind of chip at an address: both would answer. Several sensors and outputs may use
// the same chip, and a channel of a multiplexer is a bus of its own.
func (l *loader) chip(e device, d *sensors.Spec, name string) {
	if e.address == 0 && len(d.Addresses) > 0 {
		e.address = d.Addresses[0]
	}
	if e.address == 0 || e.bus == "" || d.Kind(e.bus) != sensors.BusI2C {
		return
	}
	e.driver = name
	place := fmt.Sprintf("%s, address %#02x", e.bus, e.address)
	first, taken := l.chips[place]
	switch {
	case !taken && l.chips == nil:
		l.chips = map[string]device{place: e}
	case !taken:
		l.chips[place] = e
	case first.driver != name:
		at, given := e.given["address"]
		if !given {
			at = e.at.key("address")
		}
		l.errorf(at, "%s has another chip, %s, at the same place (%s): change the address of one of them", first.at.path, first.driver, place)
	}
}

// claimed is what a sensor or an output needs, and which one.
type claimed struct {
	sensors.Claim
	by field
}

// claim refuses what another sensor or output has: a line, a pin, a channel, a thermometer, or a setting that they would have
// to share.
func (l *loader) claim(e device, d *sensors.Spec, options map[string]any) {
	claims, err := d.ClaimsAt(e.bus, e.address, options)
	if err != nil {
		l.errorf(e.at, "%v", err)
		return
	}
	var new []claimed
	for _, c := range claims {
		at := e.at
		if f, given := e.rest[c.Option]; given {
			at = f
		} else if f, given := e.given[c.Option]; given {
			at = f
		}
		for _, first := range l.claims {
			if why := c.Against(first.Claim, first.by.path); why != "" {
				l.errorf(at, "%s", why)
				break
			}
		}
		new = append(new, claimed{c, e.at})
	}
	l.claims = append(l.claims, new...)
}

// options decodes the keys that are the driver's own.
func (l *loader) options(e device, d *sensors.Spec, to map[string]any) {
	known := e.names()
	maps.Copy(to, d.Defaults())
	for _, o := range d.Options {
		known = append(known, o.Name)
		f, given := e.rest[o.Name]
		switch {
		case given:
			l.decode(f, l.option(o, to))
		case o.Required:
			l.errorf(e.at.key(o.Name), "missing, %s wants %s", d.Name, l.option(o, to).want)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(e.rest)) {
		if !slices.ContainsFunc(d.Options, func(o sensors.Option) bool { return o.Name == name }) {
			l.errorf(e.rest[name], "unknown key for driver %s, %s%s", d.Name, nearest(name, known), l.elsewhere(name, e.table))
		}
	}
}

// option is the kind of value of one driver option.
func (l *loader) option(o sensors.Option, to map[string]any) kind {
	low, high := o.Min, o.Max
	if low == 0 && high == 0 {
		low, high = math.Inf(-1), math.Inf(1)
	}
	var k kind
	switch o.Kind {
	case sensors.OptionString:
		v := new(string)
		k = packed(v, "text")
		if len(o.Allowed) > 0 {
			k = choiceOf(v, o.Allowed...)
		}
		return k.storing(func() { to[o.Name] = *v })
	case sensors.OptionStrings:
		v := new([]string)
		k = replaced(l, "a list of texts", v, func(s *string) kind {
			if len(o.Allowed) > 0 {
				return choiceOf(s, o.Allowed...)
			}
			return packed(s, "text")
		})
		return k.storing(func() { to[o.Name] = *v })
	case sensors.OptionInts:
		v := new([]int64)
		k = replaced(l, "a list of numbers", v, func(n *int64) kind {
			return number(n, whole(low, math.MinInt64), whole(high, math.MaxInt64), "")
		})
		return k.storing(func() { to[o.Name] = *v })
	case sensors.OptionMap:
		v := new(map[string]string)
		return l.texts(v).storing(func() { to[o.Name] = *v })
	case sensors.OptionBool:
		v := new(bool)
		return boolean(v).storing(func() { to[o.Name] = *v })
	case sensors.OptionDuration:
		v := new(time.Duration)
		return duration(v, 0, "").storing(func() { to[o.Name] = *v })
	case sensors.OptionInt:
		v := new(int64)
		k = quotable(number(v, whole(low, math.MinInt64), whole(high, math.MaxInt64), ""))
		k.hex = o.Hex
		return k.storing(func() { to[o.Name] = *v })
	case sensors.OptionFloat:
		v := new(float64)
		return float(v, low, high).storing(func() { to[o.Name] = *v })
	}
	panic(fmt.Sprintf("config: option %s is of unknown kind %q", o.Name, o.Kind))
}

// whole is f as an integer, or other if it is infinite.
func whole(f float64, other int64) int64 {
	if math.IsInf(f, 0) {
		return other
	}
	return int64(f)
}

func float(to *float64, low, high float64) kind {
	want := "a number"
	bounds := schema{}
	if !math.IsInf(low, 0) {
		want = fmt.Sprintf("a number from %v to %v", low, high)
		bounds["minimum"], bounds["maximum"] = low, high
	}
	return kind{want: want, types: []string{"!!int", "!!float"}, number: true, schema: bounds, parse: func(s string) error {
		f, err := strconv.ParseFloat(s, 64)
		if err != nil || math.IsNaN(f) || math.IsInf(f, 0) || f < low || f > high {
			return errors.New("want " + want)
		}
		*to = f
		return nil
	}}
}

// texts is a mapping of names to texts.
func (l *loader) texts(to *map[string]string) kind {
	const want = "a mapping of names to texts"
	return kind{want: want, schema: textsSchema, decode: func(f field) {
		t := newTable()
		t.rest = make(map[string]field)
		if !l.is(f, yaml.MappingNode, want) || !l.mapping(f, t) {
			return
		}
		*to = make(map[string]string)
		for _, name := range slices.Sorted(maps.Keys(t.rest)) {
			var v string
			l.decode(t.rest[name], packed(&v, "text"))
			(*to)[name] = v
		}
	}}
}

// storing is k with a second step after a value that parses. Lists and mappings report their mistakes
// themselves, so that what is stored does not matter then.
func (k kind) storing(store func()) kind {
	if decode := k.decode; decode != nil {
		k.decode = func(f field) {
			decode(f)
			store()
		}
		return k
	}
	parse := k.parse
	k.parse = func(s string) error {
		err := parse(s)
		if err == nil {
			store()
		}
		return err
	}
	return k
}
