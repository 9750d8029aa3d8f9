package sensors

import (
	"context"
	"io/fs"
	"maps"
	"reflect"
	"slices"
	"time"

	"periph.io/x/conn/v3"

	"holdfast/sensors/bus"
)

// Quantity names one thing that a driver measures, its unit, and what values of it can be true.
type Quantity struct {
	Name, Unit string
	// Min and Max are the plausible range in Unit, inclusive: what the chip can measure at all. A value
	// outside is an error of class ErrImplausible and no reading. Both zero means any number.
	Min, Max float64
}

// Measurement is one value of one Sense call, in the unit of the driver's Quantity of that name.
type Measurement struct {
	Quantity string
	Value    float64
	Unit     string
	Time     time.Time // of a Source: when it was measured. Zero means when the call was complete
}

// OptionKind is the type of a driver option's value.
type OptionKind string

// The kinds of driver options, with the Go type that Config.Options holds. Durations are written as Go
// durations ("250ms").
const (
	OptionString   OptionKind = "string"   // string
	OptionInt      OptionKind = "int"      // int64
	OptionFloat    OptionKind = "float"    // float64
	OptionBool     OptionKind = "bool"     // bool
	OptionDuration OptionKind = "duration" // time.Duration
	OptionStrings  OptionKind = "list"     // []string: a list of texts
	OptionInts     OptionKind = "numbers"  // []int64: a list of integers, each within the option's bounds
	OptionMap      OptionKind = "map"      // map[string]string: texts by name
)

// Option describes one driver-specific configuration key beside the common ones (name, driver, bus,
// address, every, timeout and those of the pipeline). The configuration is checked against it, and the
// documentation is generated from it.
type Option struct {
	Name     string
	Kind     OptionKind
	Default  any      // of the Go type for Kind; nil if there is none
	Required bool     // the configuration has to give it
	Allowed  []string // permitted values of a string option, or of each text of a list; empty means any
	Min, Max float64  // inclusive bounds for ints and floats; both zero means any
	Hex      bool     // of an int: it may be written as 0x44 too
	Doc      string   // one line, with the unit
}

// Config is one configured sensor. Options has been checked against the driver's table entry: every
// key is known, every value has the Go type of its kind, and defaults are filled in.
type Config struct {
	Name    string
	Driver  string
	Bus     string // "i2c-1", "spi-0.0", "/dev/serial0", "simulated"; empty for drivers that need none
	Address uint16 // I2C address; 0 means the driver's default
	Every   time.Duration
	Timeout time.Duration // deadline of one reading; 0 means the driver's default
	Options map[string]any
	// Processing is that of every quantity that is not in Quantities.
	Processing
	Quantities map[string]Processing
	Host       Host   // set by supervision; nil remembers nothing
	Wake       func() // set by supervision, see Source; nil outside of it
}

// Equal reports whether two configurations are of the same sensor, read in the same way.
func (c Config) Equal(d Config) bool {
	a, formulas := c.withoutFormulas()
	b, others := d.withoutFormulas()
	return reflect.DeepEqual(a, b) && maps.Equal(formulas, others)
}

// withoutFormulas returns c without its formulas, and their texts, which is how they are compared.
func (c Config) withoutFormulas() (Config, map[string]string) {
	texts := map[string]string{}
	take := func(quantity string, p Processing) Processing {
		if f := p.Calibrate.Formula; f != nil {
			texts[quantity], p.Calibrate.Formula = f.String(), nil
		}
		return p
	}
	c.Processing = take("", c.Processing)
	c.Quantities = maps.Clone(c.Quantities)
	for name, p := range c.Quantities {
		c.Quantities[name] = take(name, p)
	}
	return c, texts
}

// Sensor is one opened device. Calls are never concurrent. After an error supervision calls Close and
// opens a new one; nothing of the failed device is used again.
type Sensor interface {
	// Sense takes one reading of every quantity now. It returns measurements only if all their bytes
	// are fresh and checked, and ends soon after ctx does where the kernel allows it. Its errors are of
	// a class of errors.go where one fits.
	Sense(ctx context.Context) ([]Measurement, error)
	Close() error
}

// Measurer is a Sensor that knows what it measures only once it is open, such as the channels of an
// IIO device. Its quantities then take the place of the driver's.
type Measurer interface {
	Sensor
	Quantities() []Quantity
}

// Source is a Sensor that has readings between its slots as well: messages of a topic, edges of a line.
//
// It keeps them, in a bounded queue, and calls Config.Wake, which never blocks. Supervision then calls Take as soon
// as nothing else has the sensor's bus, and publishes what it returns in that order, each measurement with its own
// Time. Measurements of the same Time belong together: they are counted as one reading, and formulas see them all.
// Each value is judged by itself.
//
// Input that cannot be read does not close a Source: it returns what it could read, and an error in Unreadable.
type Source interface {
	Sensor
	// Take returns what has come since the last call of Take or Sense, oldest first; nothing if nothing has.
	// Sense returns that too, before its own measurements, so that the order is right.
	Take(ctx context.Context) ([]Measurement, error)
	// LeftOut returns how many readings were left out since it was opened, because they came faster than the
	// sensor's limit. It is safe for concurrent use.
	LeftOut() uint64
}

// Spec is the part of a driver's row that describes it. The tables of sensors and of outputs have it in
// common: configurations are checked against it, and README, schema, `holdfast sensors` and `holdfast scan`
// are made from it, so it has everything that a person needs to connect the chip.
type Spec struct {
	Name      string
	Doc       string // one line: what it measures or moves
	Chip      string // maker and parts, such as "Bosch BME280, BMP280"; for kernel drivers what they cover
	Datasheet string // number and revision, or the kernel's document
	Wiring    string // pins, voltage, pull-ups; empty only for drivers without a bus

	Buses     []BusKind // the kinds the driver can use, the usual one first; empty if it needs none
	Addresses []uint16  // I2C addresses that the chip can have, the default one first

	// Quantities is everything that the driver can measure, for the documentation; none for an output.
	Quantities []Quantity

	Options []Option
	// Claims is what an entry has to have for itself, or shares only with those that set it likewise, such as a pin or a
	// frequency; an error is an option that cannot be. It is called with options that have been checked. May be nil.
	Claims func(Place) ([]Claim, error)
	// Timeout is the default deadline of one access: of a reading, which includes the chip's conversion
	// time, or of a move. It is counted as WithRunTime counts.
	Timeout time.Duration
}

// Defaults returns the values of the options that have a default, by name, in a map of the caller's.
func (s *Spec) Defaults() map[string]any {
	all := map[string]any{}
	for _, o := range s.Options {
		if o.Default != nil {
			all[o.Name] = o.Default
		}
	}
	return all
}

// Driver is one row of the table of sensor drivers.
type Driver struct {
	Spec

	// QuantitiesOf is what it measures with certain options, where that depends on them. It returns nil
	// if only the opened device can tell (see Measurer). A nil function means Quantities.
	QuantitiesOf func(options map[string]any) []Quantity

	// Check finds options that do not fit together, when the configuration is read. Its error names the
	// remedy. May be nil.
	Check func(c Config) error
	// Every is the interval that the chip needs, if it does not do with any; 0 if it does.
	Every time.Duration

	// Identify returns which chip answers, such as "BMP280", or "" if it is none of this driver's. It only
	// reads identification registers, and never changes the state of a chip, whichever it may be. Nil if
	// the chip has nothing to identify it by.
	Identify func(dev conn.Conn) (chip string, err error)
	// Find lists what a driver of the kernel could read, from /sys and without changing anything. May be
	// nil.
	Find func(sys fs.FS) ([]Candidate, error)
	// Open probes the hardware and returns a device that is ready for Sense.
	Open func(ctx context.Context, c Config, buses *bus.Set) (Sensor, error)
	// Lane is the bus whose worker reads the sensor, where that is not c.Bus: such as the I2C bus of an
	// expander whose pin is read. May be nil.
	Lane func(c Config) string
	// Own gives each sensor a worker of its own: no other sensor uses what it is connected to, and none may
	// delay it.
	Own bool
	// Urgent marks what Take returns as edges of an input, which do not wait for the shared commit interval.
	Urgent bool
	// Topic is the topic of the local broker that the sensor reads. May be nil.
	Topic func(c Config) string
}

// Candidate is something that a driver of the kernel could read.
type Candidate struct {
	Chip    string         // what the kernel calls it
	Options map[string]any // that choose it, beside the defaults
	Note    string         // for a person; may be empty
}

// Measures returns the quantities of the driver with certain options, nil if only the opened device
// can tell.
func (d *Driver) Measures(options map[string]any) []Quantity {
	if d.QuantitiesOf == nil {
		return d.Quantities
	}
	return d.QuantitiesOf(options)
}

// BusKind is the kind of bus that a driver needs in its configuration.
type BusKind = bus.Kind

// The kinds of bus.
const (
	BusNone = bus.None
	BusI2C  = bus.I2CKind
	BusSPI  = bus.SPIKind
	BusUART = bus.UARTKind
	BusW1   = bus.W1Kind
	BusGPIO = bus.GPIOKind
)

// Kind is the kind of bus that a configuration means: by its name, or the driver's usual one for
// "simulated" and for none.
func (s *Spec) Kind(busName string) BusKind {
	if k := bus.KindOf(busName); k != BusNone {
		return k
	}
	if len(s.Buses) > 0 {
		return s.Buses[0]
	}
	return BusNone
}

// Has reports whether the driver can use a kind of bus.
func (s *Spec) Has(k BusKind) bool { return slices.Contains(s.Buses, k) }
