package sensors

import (
	"context"
	"time"

	"holdfast/sensors/bus"
)

// Quantity names one thing that a driver measures, and its unit.
type Quantity struct{ Name, Unit string }

// Measurement is one value of one Sense call, in the unit of the driver's Quantity of that name.
type Measurement struct {
	Quantity string
	Value    float64
	Unit     string
}

// OptionKind is the type of a driver option's value.
type OptionKind string

// The kinds of driver options. Durations are written as Go durations ("250ms").
const (
	OptionString   OptionKind = "string"
	OptionInt      OptionKind = "int"
	OptionFloat    OptionKind = "float"
	OptionBool     OptionKind = "bool"
	OptionDuration OptionKind = "duration"
)

// Option describes one driver-specific configuration key beside the common ones (name, driver, bus,
// address, every, timeout). The configuration is checked against it, and the documentation is
// generated from it.
type Option struct {
	Name     string
	Kind     OptionKind
	Default  any      // of the Go type for Kind; nil if there is none
	Required bool     // the configuration has to give it
	Allowed  []string // permitted values of a string option; empty means any
	Min, Max float64  // inclusive bounds for ints and floats; both zero means any
	Doc      string   // one line, with the unit
}

// Config is one configured sensor. Options has been checked against the driver's table entry: every
// key is known, every value has the Go type of its kind (string, int64, float64, bool,
// time.Duration), and defaults are filled in.
type Config struct {
	Name    string
	Driver  string
	Bus     string // "i2c-1", "spi-0.0", "simulated"; empty for drivers that need none
	Address uint16 // I2C address; 0 means the driver's default
	Every   time.Duration
	Timeout time.Duration // deadline of one reading; 0 means the driver's default
	Options map[string]any
}

// Sensor is one opened device. Calls are never concurrent. After an error supervision calls Close and
// opens a new one; nothing of the failed device is used again.
type Sensor interface {
	// Sense takes one reading of every quantity now. It returns measurements only if all their bytes
	// are fresh and checked, and ends soon after ctx does where the kernel allows it.
	Sense(ctx context.Context) ([]Measurement, error)
	Close() error
}

// Driver is one row of the driver table.
type Driver struct {
	Name       string
	Doc        string // one line: chip, maker, what it measures
	Bus        BusKind
	Addresses  []uint16 // I2C addresses that the chip can have, the default one first
	Quantities []Quantity
	Options    []Option
	// Timeout is the default deadline of one reading, which includes the chip's conversion time.
	Timeout time.Duration
	// Open probes the hardware and returns a device that is ready for Sense.
	Open func(ctx context.Context, c Config, buses *bus.Set) (Sensor, error)
}

// BusKind says which kind of bus a driver needs in its configuration.
type BusKind string

// The kinds of bus. BusNone means that the configuration must not name one.
const (
	BusNone BusKind = ""
	BusI2C  BusKind = "i2c"
	BusSPI  BusKind = "spi"
	BusW1   BusKind = "w1"
	BusGPIO BusKind = "gpio"
)
