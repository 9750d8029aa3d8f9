package outputs

import (
	"context"
	"time"

	"holdfast/sensors"
	"holdfast/sensors/bus"
	"holdfast/sensors/expander"
)

// Device is one opened output. Calls are never concurrent. After an error nothing of it is used again.
type Device interface {
	// Set moves the output. Where it returns an error, the output may have moved or not.
	Set(ctx context.Context, value float64) error
	// Get reads back what the hardware is set to.
	Get(ctx context.Context) (float64, error)
	// Close lets go of the hardware and moves nothing.
	Close() error
}

// Screen is a Device that shows text, beside being on or off.
type Screen interface {
	Device
	// Show draws lines of text, from the top down, and returns when the hardware has what has changed of them.
	Show(ctx context.Context, lines []string) error
}

// Driver is one row of the table of output drivers. Its Quantities stay empty.
type Driver struct {
	sensors.Spec
	Model string // of sensors/simulated that stands in for the chip; empty if nothing is between driver and kernel
	PWM   bool   // it is a PWM of the kernel, which a simulated machine has to be given
	// Position is set for what has no on and off, such as a servo. Values of all others are 0 for off, 1
	// for on, and what is between where Levels is set.
	Position, Levels bool
	// Screen is how much text the devices, which are a Screen, have room for; nil for all others.
	Screen func(options map[string]any) (columns, rows int)
	// Range is the least and the greatest value, with the unit; nil means 0 to 1.
	Range func(options map[string]any) (low, high float64, unit string)
	// Validate finds options that do not go together; nil if all do.
	Validate func(options map[string]any) error
	// Tolerance is how far Get may be from what was Set.
	Tolerance float64
	// Open takes the hardware and sets it to value, which it has from the first moment on: no other value
	// may be seen on the way there.
	Open func(ctx context.Context, c Config, buses *bus.Set, value float64) (Device, error)
}

// Drivers returns the table of all drivers, by name. The configuration is checked against it.
func Drivers() []Driver {
	return []Driver{
		gpioOutput(),
		expanderOutput(expander.MCP23017()),
		pca9685(),
		pca9685Servo(),
		expanderOutput(expander.PCF8574()),
		pwm(),
		servo(),
		ssd1306I2C(),
		ssd1306SPI(),
		expanderOutput(expander.TCA9555()),
	}
}

// FindDriver returns the row of a name, or nil.
func FindDriver(name string) *Driver {
	for _, d := range Drivers() {
		if d.Name == name {
			return &d
		}
	}
	return nil
}

// Config is one configured output. Options and Safe have been checked against the driver's row.
type Config struct {
	Name    string
	Driver  string
	Bus     string
	Address uint16        // I2C address; 0 means the driver's default
	Timeout time.Duration // deadline of one access; 0 means the driver's default
	Options map[string]any

	// Safe is the value at start, at stop, after an error, when a lease ends and when the link is lost.
	Safe float64
	// Lease is how long a command is valid that is not for the safe value; 0 means for ever.
	Lease time.Duration
	// MinOn and MinOff are how long the output stays on or off before a command moves it. The safe value
	// does not wait for them.
	MinOn, MinOff time.Duration
	MaxOn         time.Duration // after which the output goes to its safe value, which is off; 0 means no limit
	Interlock     []string      // outputs that must not be on while this one is; their safe values are off

	// Link is the name of a connection whose loss for LinkTimeout brings the safe value; empty for none.
	Link        string
	LinkTimeout time.Duration

	Follow Follow // what the receiver of commands takes for commands, too

	// CommandExpiry and RequireTime are for the receiver of commands: how old one may be, and whether one
	// without a time is refused.
	CommandExpiry time.Duration
	RequireTime   bool
}

// Follow is the source of readings that an output follows: a sensor's quantity of this device, or a topic. The zero
// value is none.
type Follow struct {
	Sensor, Quantity string
	Topic            string // of readings that come from elsewhere
}

// String returns the source as it is configured; empty for none.
func (f Follow) String() string {
	if f.Sensor != "" {
		return f.Sensor + "." + f.Quantity
	}
	return f.Topic
}
