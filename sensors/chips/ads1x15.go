package chips

import (
	"context"
	"math"
	"slices"
	"time"

	"holdfast/sensors"
	"holdfast/sensors/bus"
)

// ads1015 is the Texas Instruments ADS1015 (data sheet SBAS473).
func ads1015() sensors.Driver {
	return ads1x15("ads1015", "ADS1015", "SBAS473", 12, []int64{128, 250, 490, 920, 1600, 2400, 3300}, 1600)
}

// ads1115 is the Texas Instruments ADS1115 (data sheet SBAS444).
//
// periph's driver for both sleeps for one period of the data rate and then believes what it reads. The
// chip's oscillator may be 10 % slow, and then that is the conversion before, or another input's. Here
// the chip is asked whether it is ready, and with whose settings.
func ads1115() sensors.Driver {
	return ads1x15("ads1115", "ADS1115", "SBAS444", 16, []int64{8, 16, 32, 64, 128, 250, 475, 860}, 128)
}

// ads1x15Inputs are the values of MUX for the inputs, single or as differences (config register).
var ads1x15Inputs = map[string]uint16{"0-1": 0, "0-3": 1, "1-3": 2, "2-3": 3, "0": 4, "1": 5, "2": 6, "3": 7}

// ads1x15Ranges are the full scales in V that the values 0 to 5 of PGA stand for.
var ads1x15Ranges = []float64{6.144, 4.096, 2.048, 1.024, 0.512, 0.256}

func ads1x15(name, chip, sheet string, bits int, rates []int64, usual int64) sensors.Driver {
	return sensors.Driver{
		Spec: sensors.Spec{
			Name: name, Doc: map[int]string{12: "voltage of one input, or the difference of two, with 12 bits", 16: "voltage of one input, or the difference of two, with 16 bits"}[bits],
			Chip: "Texas Instruments " + chip, Datasheet: sheet,
			Wiring: "VDD 2 to 5.5 V, but SDA and SCL pulled up to 3.3 V only; inputs between 0 V and VDD; ADDR to GND 0x48, VDD 0x49, SDA 0x4A, SCL 0x4B",
			Buses:  []sensors.BusKind{sensors.BusI2C}, Addresses: []uint16{0x48, 0x49, 0x4A, 0x4B},
			Quantities: []sensors.Quantity{{Name: "voltage", Unit: "V", Min: -6.144, Max: 6.144}},
			Options: []sensors.Option{
				{Name: "channel", Kind: sensors.OptionString, Default: "0", Doc: "input, or the difference of two",
					Allowed: []string{"0", "1", "2", "3", "0-1", "0-3", "1-3", "2-3"}},
				{Name: "range", Kind: sensors.OptionFloat, Default: 4.096, Min: 0.256, Max: 6.144,
					Doc: "largest voltage to be measured, in V; the chip's next larger range is used, of 0.256, 0.512, 1.024, 2.048, 4.096 and 6.144"},
				{Name: "rate", Kind: sensors.OptionInt, Default: usual, Min: float64(rates[0]), Max: float64(rates[len(rates)-1]),
					Doc: "samples per second, rounded up to one of the chip's: slower ones are less noisy"},
			},
			Timeout: time.Second,
		},
		Open: func(ctx context.Context, c sensors.Config, buses *bus.Set) (sensors.Sensor, error) {
			return openADS1x15(ctx, chip, bits, c, buses, rates)
		},
	}
}

const (
	ads1x15Conversion = 0
	ads1x15Config     = 1

	ads1x15Ready  = 0x8000 // OS. Written: convert once; read: no conversion runs
	ads1x15Single = 0x0100 // MODE: power down between conversions
	ads1x15NoComp = 0x0003 // COMP_QUE: comparator off
)

type ads1x15Sensor struct {
	*chip
	config uint16
	full   float64 // V
	most   int16   // the largest value, which stands for all beyond
	period time.Duration
}

func openADS1x15(ctx context.Context, chip string, bits int, c sensors.Config, buses *bus.Set, rates []int64) (sensors.Sensor, error) {
	dev, err := openI2C(c, buses)
	if err != nil {
		return nil, err
	}
	s := &ads1x15Sensor{chip: dev, most: math.MaxInt16 &^ (1<<(16-bits) - 1)} // 12 bits are at the top
	pga := 0
	for i, full := range ads1x15Ranges {
		if full >= c.Options["range"].(float64) {
			pga, s.full = i, full
		}
	}
	rate := slices.IndexFunc(rates, func(r int64) bool { return r >= c.Options["rate"].(int64) })
	s.period = time.Second / time.Duration(rates[rate])
	s.config = ads1x15Inputs[c.Options["channel"].(string)]<<12 | uint16(pga)<<9 | ads1x15Single | uint16(rate)<<5 | ads1x15NoComp
	// There is no id, but nothing else keeps these settings.
	if err := s.write(ctx, ads1x15Config, byte(s.config>>8), byte(s.config)); err != nil {
		return nil, err
	}
	config, err := s.read16(ctx, ads1x15Config)
	if err == nil {
		err = checkID(chip, uint64(config&^ads1x15Ready), 16, uint64(s.config))
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}

func (s *ads1x15Sensor) Sense(ctx context.Context) ([]sensors.Measurement, error) {
	if err := s.write(ctx, ads1x15Config, byte((s.config|ads1x15Ready)>>8), byte(s.config)); err != nil {
		return nil, err
	}
	if err := wait(ctx, s.period); err != nil {
		return nil, err
	}
	if err := poll(ctx, s.period/10+100*time.Microsecond, func() (bool, error) { return s.ready(ctx) }); err != nil {
		return nil, err
	}
	raw, err := s.read16(ctx, ads1x15Conversion)
	if err != nil {
		return nil, err
	}
	if _, err := s.ready(ctx); err != nil { // the power may have gone since
		return nil, err
	}
	v := int16(raw)
	if v == s.most || v == math.MinInt16 {
		return nil, overRange("the voltage is beyond the range", "choose a larger range than %v V", s.full)
	}
	return []sensors.Measurement{{Quantity: "voltage", Value: float64(v) / (1 << 15) * s.full, Unit: "V"}}, nil
}

// ready reports whether the conversion with this sensor's settings has ended.
func (s *ads1x15Sensor) ready(ctx context.Context) (bool, error) {
	config, err := s.read16(ctx, ads1x15Config)
	if err == nil && config&^ads1x15Ready != s.config {
		err = sensors.ErrRestarted
	}
	return config&ads1x15Ready != 0, err
}
