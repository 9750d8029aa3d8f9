package config

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"holdfast/sensors/outputs"
)

// output is an output as it is given: which values there are depends on the driver.
type output struct {
	outputs.Config
	safe   string
	follow string
}

func (l *loader) outputKeys(o *output) *table {
	c := &o.Config
	t := newTable(
		key{"name", required, "Name in topics; no sensor may have the same.", level(&c.Name)},
		key{"driver", required, "Kind of output, from the table of drivers; it decides about further keys.", packed(&c.Driver, "a driver's name")},
		key{"bus", "", "Where the chip is: `i2c-1`, `spi-0.0`, or `simulated`. Required for chips on I2C and SPI.", packed(&c.Bus, "a bus such as i2c-1")},
		key{"address", "", "I2C address, such as `0x40`. Default: the driver's first.", hexadecimal(number(&c.Address, 0x08, 0x77, ": an I2C address such as 0x40"))},
		key{"timeout", "", "Deadline of one access. Default: the driver's.", duration(&c.Timeout, time.Millisecond, "")},
		key{"safe", required, "Value at start, at stop, after an error, and when a lease ends or a link is lost.", safe(&o.safe)},
		key{"follow", "", "A reading whose value the output has: `SENSOR.QUANTITY` of this device, or the topic of one that a bridge brings in or a client publishes, such as `sensors/pi-2/button/state`. Commands still count, until the next reading.",
			packed(&o.follow, "SENSOR.QUANTITY, or a topic")},
		key{"lease", "0s", "How long a command, or a reading that the output follows, is valid unless it is repeated; `0s` for ever. Default with `follow`: three times the sensor's `every` and at least `10s`; `30s` for a topic.", duration(&c.Lease, 0, "")},
		key{"min_on", "0s", "How long the output stays on before a command moves it.", duration(&c.MinOn, 0, "")},
		key{"min_off", "0s", "How long the output stays off before a command moves it; also after a start.", duration(&c.MinOff, 0, "")},
		key{"max_on", "0s", "How long the output may be on; `0s` for ever.", duration(&c.MaxOn, 0, "")},
		key{"interlock", "", "Outputs that must not be on while this one is, nor this one while they are.",
			replaced(l, "a list of outputs", &c.Interlock, level)},
		key{"link", "", "A bridge whose loss brings the safe value.", level(&c.Link)},
		key{"link_timeout", "30s", "How long the bridge may be without its upstream before that.", duration(&c.LinkTimeout, 0, "")},
		key{"command_expiry", "30s", "How old a command may be.", duration(&c.CommandExpiry, time.Second, "")},
		key{"require_time", "false", "Refuse commands that do not say how old they are.", boolean(&c.RequireTime)},
	)
	t.rest = make(map[string]field)
	return t
}

// safe is a value whose meaning the driver knows.
func safe(to *string) kind {
	const want = "on, off or a number"
	return kind{want: want, types: []string{"!!str", "!!bool", "!!int", "!!float"}, number: true, parse: func(s string) error {
		if s == "" || len(s) > 64 {
			return errors.New("want " + want)
		}
		*to = s
		return nil
	}}
}

// finishOutputs checks every output against its driver, and all of them against each other.
func (l *loader) finishOutputs() {
	var names []string
	for _, d := range l.opts.Outputs {
		names = append(names, d.Name)
	}
	for _, e := range l.outputs {
		l.require(e.at, e.table)
		c := e.value.Config
		for _, s := range l.sensors {
			if s.value.Name == c.Name && c.Name != "" {
				l.errorf(e.given["name"], "%s has the same name, and both have a status: give them different ones", s.at.path)
			}
		}
		i := l.driver(e.table, "outputs", c.Driver, names)
		if i < 0 {
			continue
		}
		d := l.opts.Outputs[i]
		before := len(l.errs)
		dev := device{table: e.table, at: e.at, bus: c.Bus, address: c.Address}
		l.place(dev, &d.Spec, cmp.Or(d.Model, d.Name))
		c.Options = make(map[string]any)
		l.options(dev, &d.Spec, c.Options)
		if len(l.errs) == before && d.Validate != nil {
			if err := d.Validate(c.Options); err != nil {
				l.errorf(e.at, "%v", err)
			}
		}
		if len(l.errs) == before {
			l.safe(e, &d, &c)
			l.claim(dev, &d.Spec, c.Options)
			l.follow(e, &c)
		}
		l.config.Outputs = append(l.config.Outputs, c)
	}
	l.interlocks()
}

// safe reads the safe value, and checks what depends on it.
func (l *loader) safe(e *element[output], d *outputs.Driver, c *outputs.Config) {
	at, given := e.given["safe"]
	if !given || e.value.safe == "" {
		return // reported
	}
	var err error
	if c.Safe, err = d.Parse(c.Options, e.value.safe); err != nil {
		l.errorf(at, "got %s, %s wants %s", at.shown(), d.Name, d.Wants(c.Options))
	}
	for _, name := range []string{"min_on", "min_off", "max_on", "interlock"} {
		if at, given := e.given[name]; given && d.Position {
			l.errorf(at, "%s has no on and off: remove it", d.Name)
		}
	}
	if c.MaxOn > 0 && c.Safe != 0 {
		l.errorf(e.given["max_on"], "ends with the safe value, which is on: set safe to off, or remove max_on")
	}
	if c.Link != "" && !slices.ContainsFunc(l.bridges, func(b *element[Bridge]) bool { return b.value.Name == c.Link }) {
		var known []string
		for _, b := range l.bridges {
			known = append(known, b.value.Name)
		}
		l.errorf(e.given["link"], "there is no bridge %s, %s", plain(c.Link), nearest(c.Link, known))
	}
}

// interlocks checks that the outputs that exclude each other exist, and may all be off.
func (l *loader) interlocks() {
	find := func(name string) *element[output] {
		i := slices.IndexFunc(l.outputs, func(e *element[output]) bool { return e.value.Name == name })
		if i < 0 {
			return nil
		}
		return l.outputs[i]
	}
	off := func(name string) bool {
		i := slices.IndexFunc(l.config.Outputs, func(c outputs.Config) bool { return c.Name == name })
		return i < 0 || l.config.Outputs[i].Safe == 0
	}
	for _, e := range l.outputs {
		at := e.given["interlock"]
		for _, name := range e.value.Interlock {
			why := ""
			switch other := find(name); {
			case other == nil && name != "":
				why = fmt.Sprintf("there is no output %s", plain(name))
			case other == e:
				why = "an output cannot exclude itself"
			case !off(name) || !off(e.value.Name):
				why = fmt.Sprintf("%s and %s can be on together as long as one of their safe values is on: set both to off", plain(e.value.Name), plain(name))
			}
			if why != "" {
				l.errorf(at, "%s", why)
			}
		}
	}
}
