package sensors

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"holdfast/sensors/bus"
)

// ads1115Inputs are the settings of the multiplexer (section 8.1.3, MUX).
var ads1115Inputs = map[string]uint16{"0-1": 0, "0-3": 1, "1-3": 2, "2-3": 3, "0": 4, "1": 5, "2": 6, "3": 7}

// ads1115Ranges are the full scales in V (PGA), ads1115Rates the samples per second (DR).
var (
	ads1115Ranges = []float64{6.144, 4.096, 2.048, 1.024, 0.512, 0.256}
	ads1115Rates  = []int64{8, 16, 32, 64, 128, 250, 475, 860}
)

// ads1115 is the Texas Instruments ADS1115, a 16-bit ADC (data sheet SBAS444E). It is our own: periph
// sleeps for exactly one period, and the chip's oscillator may be 10 % slow.
func ads1115() Driver {
	return Driver{
		Name: "ads1115", Doc: "voltage of one input, or the difference of two, with 16 bits",
		Chip: "Texas Instruments ADS1115", Datasheet: "SBAS444E",
		Wiring: "VDD 2 to 5.5 V, but SDA and SCL pulled up to 3.3 V only; inputs between 0 V and VDD; ADDR to GND 0x48, VDD 0x49, SDA 0x4A, SCL 0x4B",
		Buses:  []BusKind{BusI2C}, Addresses: []uint16{0x48, 0x49, 0x4A, 0x4B},
		Quantities: []Quantity{{"voltage", "V", -6.144, 6.144}},
		Options: []Option{
			{Name: "channel", Kind: OptionString, Default: "0", Doc: "input, or the difference of two",
				Allowed: []string{"0", "1", "2", "3", "0-1", "0-3", "1-3", "2-3"}},
			{Name: "range", Kind: OptionFloat, Default: 4.096, Min: 0.256, Max: 6.144,
				Doc: "largest voltage to be measured, in V; the chip's next larger range is used"},
			{Name: "rate", Kind: OptionInt, Default: int64(128), Min: 8, Max: 860,
				Doc: "samples per second, the chip's next slower one is used: slower ones are less noisy"},
		},
		Timeout: time.Second,
		Open:    openADS1115,
	}
}

type ads1115Sensor struct {
	dev    *bus.Device
	config uint16
	full   float64 // V
	period time.Duration
}

func openADS1115(ctx context.Context, c Config, buses *bus.Set) (Sensor, error) {
	dev, err := buses.I2CDevice(c.Bus, c.Address)
	if err != nil {
		return nil, err
	}
	dev.Begin(ctx)
	s := &ads1115Sensor{dev: dev, full: ads1115Ranges[0]}
	pga, dr := 0, 0
	for i, full := range ads1115Ranges {
		if full >= c.Options["range"].(float64) {
			pga, s.full = i, full
		}
	}
	for i, rate := range ads1115Rates {
		if rate <= c.Options["rate"].(int64) {
			dr = i
		}
	}
	s.period = time.Second / time.Duration(ads1115Rates[dr])
	const single, noComparator = 1 << 8, 3
	s.config = ads1115Inputs[c.Options["channel"].(string)]<<12 | uint16(pga)<<9 | single | uint16(dr)<<5 | noComparator
	_, err = s.read(ads1115Config) // whether there is a chip
	return s, err
}

// Registers (section 8.1).
const (
	ads1115Conversion = 0
	ads1115Config     = 1
	ads1115OS         = 1 << 15 // written: begin a conversion; read: none runs
)

func (s *ads1115Sensor) read(register byte) (uint16, error) {
	var b [2]byte
	err := s.dev.Tx([]byte{register}, b[:])
	return binary.BigEndian.Uint16(b[:]), err
}

func (s *ads1115Sensor) Sense(ctx context.Context) ([]Measurement, error) {
	s.dev.Begin(ctx)
	start := s.config | ads1115OS
	if err := s.dev.Tx([]byte{ads1115Config, byte(start >> 8), byte(start)}, nil); err != nil {
		return nil, err
	}
	if err := wait(ctx, s.period); err != nil {
		return nil, err
	}
	if err := poll(ctx, time.Millisecond, func() (bool, error) {
		v, err := s.read(ads1115Config)
		return v&ads1115OS != 0, err
	}); err != nil {
		return nil, err
	}
	raw, err := s.read(ads1115Conversion)
	if err != nil {
		return nil, err
	}
	// A chip that lost its power meanwhile holds a conversion of 0, and other settings.
	if v, err := s.read(ads1115Config); err != nil {
		return nil, err
	} else if v != start {
		return nil, ErrRestarted
	}
	if v := int16(raw); v == math.MaxInt16 || v == math.MinInt16 {
		return nil, fmt.Errorf("%w: the voltage is beyond the range: choose a larger range than %v V", ErrPermanent, s.full)
	}
	return []Measurement{{"voltage", float64(int16(raw)) * s.full / (1 << 15), "V"}}, nil
}

func (s *ads1115Sensor) Close() error { return nil }
