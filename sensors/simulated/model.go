package simulated

import (
	"math"
	"time"

	"holdfast/sensors/bus"
)

// Model is one row of the table of chips. It is written from the chip's data sheet, apart from the
// driver.
type Model struct {
	Name      string     // the driver's, or the chip's where a driver is for several
	Buses     []bus.Kind // what the chip can be connected to
	Addresses []uint16   // on I2C, the default one first
	Lines     []string   // of a chip on GPIO lines: the driver's options that hold their numbers
	Inputs    []Input    // what is physically there
	Output    bool       // the chip moves something, and has no inputs
	// Faults beside those of the bus that the chip can show: StuckBusy, WrongID, BadCRC.
	Faults Faults
	// Slow is what SlowClock multiplies the chip's times with. 0 means 2: twice the typical time. Less is for chips that give no
	// sign of the end of a measurement, whose data sheet has a longest time: that.
	Slow float64
	// New makes the chip's registers. What it returns is a chip of the kinds of bus.
	New func(c *Chip) Registers
}

// Input is a physical quantity at a chip.
type Input struct {
	Name, Unit string
	Min, Max   float64 // what the chip can measure
	Step       float64 // largest difference between what is there and what a driver makes of the registers
	// Curve is how the quantity goes through the day; nil swings between a quarter and three quarters
	// of the range.
	Curve func(seed uint64, t time.Time) float64
}

// Registers is a chip on any bus.
type Registers interface {
	reset() // as when power comes
}

// i2cChip is one on an I2C bus. Calls do not overlap.
type i2cChip interface {
	Registers
	write(b []byte) error
	read(b []byte) error // fills all of b; refused is a NACK
}

// spiChip is one on an SPI port: everything between chip select going down and up again.
type spiChip interface {
	Registers
	transfer(w, r []byte) // of the same length
}

// uartChip is one on a serial port.
type uartChip interface {
	Registers
	receive(b []byte) (answer []byte)
	// frame is what the chip sends by itself, every so often; 0 means never.
	frame() (b []byte, every time.Duration)
}

// lineChip is one on GPIO lines.
type lineChip interface {
	Registers
	attach(lines map[string]*Line) // by option; it drives and watches them
}

func (m *Model) input(name string) *Input {
	for i := range m.Inputs {
		if m.Inputs[i].Name == name {
			return &m.Inputs[i]
		}
	}
	return nil
}

func (in *Input) at(seed uint64, t time.Time) float64 {
	if in.Curve != nil {
		return in.Curve(seed, t)
	}
	return (in.Min+in.Max)/2 + (in.Max-in.Min)/4*wave(seed, t, 24*time.Hour)
}

// wave swings between -1 and 1, a little irregular, once in a period.
func wave(seed uint64, t time.Time, period time.Duration) float64 {
	phase := 2 * math.Pi * (float64(t.UnixNano()%int64(100*period))/float64(period) + float64(seed%97)/97)
	return 0.85*math.Sin(phase) + 0.15*math.Sin(3*phase+1)
}

// swing is a curve around a mean, once a day, with gusts of a twentieth.
func swing(mean, amplitude float64) func(uint64, time.Time) float64 {
	return func(seed uint64, t time.Time) float64 {
		return mean + amplitude*(0.95*wave(seed, t, 24*time.Hour)+0.05*wave(seed+1, t, 7*time.Minute))
	}
}

// What a greenhouse is like: warmest in the afternoon, humidity against it, pressure over days.
var (
	airTemperature = swing(21, 6)
	airHumidity    = swing(62, -15)
	airPressure    = func(seed uint64, t time.Time) float64 { return 1013.25 + 9*wave(seed+2, t, 61*time.Hour) }
)
