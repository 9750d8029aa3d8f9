package config

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"time"

	"holdfast/sensors"
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
		c := e.value
		if c.Driver == "" {
			continue
		}
		i := slices.Index(names, c.Driver)
		if i < 0 {
			at := e.given["driver"]
			l.errorf(at, "unknown driver %s, %s", at.shown(), nearest(c.Driver, names))
			continue
		}
		d := l.opts.Drivers[i]
		l.bus(e, d)
		l.address(e, d)
		c.Options = make(map[string]any)
		l.options(e, d, c.Options)
		l.config.Sensors = append(l.config.Sensors, c)
	}
}

// buses says how a bus of each kind is named, beside "simulated" and "simulated-N". Kinds without a
// pattern have one place only, and take no bus.
var buses = map[sensors.BusKind]struct {
	pattern *regexp.Regexp
	want    string
	must    bool
}{
	sensors.BusI2C: {regexp.MustCompile(`^i2c-\d{1,3}$`), "i2c-N such as i2c-1", true},
	sensors.BusSPI: {regexp.MustCompile(`^spi-\d{1,3}\.\d{1,3}$`), "spi-BUS.CHIP such as spi-0.0", true},
	sensors.BusW1:  {regexp.MustCompile(`^w1$`), "w1 or none", false},
}

var simulated = regexp.MustCompile(`^simulated(-\d{1,3})?$`)

func (l *loader) bus(e *element[sensors.Config], d sensors.Driver) {
	kind, known := buses[d.Bus]
	if !known {
		kind.want = "none"
	}
	at, given := e.given["bus"]
	name := e.value.Bus
	switch {
	case !given && kind.must:
		l.errorf(e.at.key("bus"), "missing, %s wants %s, or simulated", d.Name, kind.want)
	case name == "", simulated.MatchString(name), known && kind.pattern.MatchString(name):
	default:
		l.errorf(at, "got %s, %s wants %s, or simulated", at.shown(), d.Name, kind.want)
	}
}

func (l *loader) address(e *element[sensors.Config], d sensors.Driver) {
	at, given := e.given["address"]
	switch {
	case !given || e.value.Address == 0:
	case d.Bus != sensors.BusI2C:
		l.errorf(at, "%s is not an I2C chip and has no address: remove it", d.Name)
	case len(d.Addresses) > 0 && !slices.Contains(d.Addresses, e.value.Address):
		var known []string
		for _, a := range d.Addresses {
			known = append(known, fmt.Sprintf("%#02x", a))
		}
		l.errorf(at, "got %s, %s can have %s", at.shown(), d.Name, oneOf(known))
	}
}

// options decodes the keys that are the driver's own.
func (l *loader) options(e *element[sensors.Config], d sensors.Driver, to map[string]any) {
	known := e.names()
	for _, o := range d.Options {
		known = append(known, o.Name)
		if o.Default != nil {
			to[o.Name] = o.Default
		}
		f, given := e.rest[o.Name]
		switch {
		case given:
			l.decode(f, option(o, to))
		case o.Required:
			l.errorf(e.at.key(o.Name), "missing, %s wants %s", d.Name, option(o, to).want)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(e.rest)) {
		if !slices.ContainsFunc(d.Options, func(o sensors.Option) bool { return o.Name == name }) {
			l.errorf(e.rest[name], "unknown key for driver %s, %s", d.Name, nearest(name, known))
		}
	}
}

// option is the kind of value of one driver option.
func option(o sensors.Option, to map[string]any) kind {
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
			k = choice(v, o.Allowed...)
		}
		return k.storing(func() { to[o.Name] = *v })
	case sensors.OptionBool:
		v := new(bool)
		return boolean(v).storing(func() { to[o.Name] = *v })
	case sensors.OptionDuration:
		v := new(time.Duration)
		return duration(v, 0, "").storing(func() { to[o.Name] = *v })
	case sensors.OptionInt:
		v := new(int64)
		return number(v, whole(low, math.MinInt64), whole(high, math.MaxInt64), "").storing(func() { to[o.Name] = *v })
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
	if !math.IsInf(low, 0) {
		want = fmt.Sprintf("a number from %v to %v", low, high)
	}
	return kind{want: want, types: []string{"!!int", "!!float"}, parse: func(s string) error {
		f, err := strconv.ParseFloat(s, 64)
		if err != nil || math.IsNaN(f) || math.IsInf(f, 0) || f < low || f > high {
			return errors.New("want " + want)
		}
		*to = f
		return nil
	}}
}

// storing is k with a second step after a value that parses.
func (k kind) storing(store func()) kind {
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
