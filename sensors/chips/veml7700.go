package chips

import (
	"context"
	"math"
	"time"

	"holdfast/sensors"
	"holdfast/sensors/bus"
)

// veml7700 is the Vishay VEML7700 (data sheet 84286, application note 84323): illuminance from 0.004 lx to
// 120 klx, typically ±10 %. A window in front of it takes its share; correct that with calibrate.
func veml7700() sensors.Driver {
	return sensors.Driver{
		Spec: sensors.Spec{
			Name: "veml7700", Doc: "illuminance, in ranges that are chosen by themselves",
			Chip: "Vishay VEML7700", Datasheet: "84286, application note 84323",
			Wiring: "VDD 3.3 V (2.5 to 3.6 V); SDA, SCL with pull-ups to 3.3 V",
			Buses:  []sensors.BusKind{sensors.BusI2C}, Addresses: []uint16{0x10},
			Quantities: []sensors.Quantity{{Name: "illuminance", Unit: "lx", Max: 150e3}},
			Timeout:    3 * time.Second,
		},
		Identify: identifyByte("VEML7700", veml7700ID, 0x81),
		Open:     openVEML7700,
	}
}

// Registers of 16 bits, low byte first (data sheet, table 1).
const (
	veml7700Conf   = 0x00
	veml7700Saving = 0x03
	veml7700ALS    = 0x04
	veml7700ID     = 0x07
	veml7700Off    = 1 // ALS_SD
)

// veml7700Ranges are the steps of the application note's flow chart, brightest first: gain 1/8 with 25, 50
// and 100 ms, then higher gains, then more time.
var veml7700Ranges = []struct {
	conf uint16 // ALS_GAIN in bits 12:11, ALS_IT in bits 9:6
	gain float64
	ms   int
}{
	{2<<11 | 0xC<<6, 0.125, 25}, {2<<11 | 8<<6, 0.125, 50}, {2<<11 | 0<<6, 0.125, 100},
	{3<<11 | 0<<6, 0.25, 100}, {0<<11 | 0<<6, 1, 100}, {1<<11 | 0<<6, 2, 100},
	{1<<11 | 1<<6, 2, 200}, {1<<11 | 2<<6, 2, 400}, {1<<11 | 3<<6, 2, 800},
}

// veml7700Per are their sensitivities.
func veml7700Per() (per []float64) {
	for _, r := range veml7700Ranges {
		per = append(per, r.gain*float64(r.ms))
	}
	return per
}

const veml7700First = 2 // where the flow chart begins

type veml7700Sensor struct {
	*chip
	conversion
	lightRange
}

func openVEML7700(ctx context.Context, c sensors.Config, buses *bus.Set) (sensors.Sensor, error) {
	ch, err := openI2C(c, buses)
	if err != nil {
		return nil, err
	}
	if _, err := ch.identify(ctx, veml7700ID, 0x81); err != nil { // low byte: device ID code
		return nil, err
	}
	s := &veml7700Sensor{chip: ch, lightRange: lightRange{step: veml7700First}}
	return s, s.write(ctx, veml7700Saving, 0, 0) // no power saving: it stretches the time between measurements
}

// Sense measures, and again in another range while there are too few or too many counts: 100 to 10000
// are wanted (application note, flow chart). The range is kept for the next reading.
func (s *veml7700Sensor) Sense(ctx context.Context) ([]sensors.Measurement, error) {
	r := veml7700Ranges[s.step]
	// Settings are changed while it is switched off. The first measurement begins 2.5 ms after it was
	// switched on (data sheet, command code 0, ALS_SD). Nothing tells that it has ended, and the first one
	// may take twice the integration time, as the makers of boards have found. Before that the register has
	// zeros, which look like darkness.
	takes := 5*time.Millisecond + time.Duration(r.ms)*time.Millisecond*9/4
	start := func() error {
		if err := s.set(ctx, r.conf|veml7700Off); err != nil {
			return err
		}
		return s.set(ctx, r.conf)
	}
	if err := s.await(ctx, takes, start, nil); err != nil {
		return nil, err
	}
	count, err := s.little(ctx, veml7700ALS)
	if err != nil {
		return nil, err
	}
	if conf, err := s.little(ctx, veml7700Conf); err != nil {
		return nil, err
	} else if conf != r.conf {
		return nil, sensors.ErrRestarted
	}
	full := count == math.MaxUint16
	switch err := s.move(count, 100, 10000, full, veml7700Per()); {
	case err != nil:
		return nil, err
	case full:
		return nil, overRange("the light is brighter than the chip can measure", "shade it")
	}
	if err := s.set(ctx, r.conf|veml7700Off); err != nil {
		return nil, err
	}
	return []sensors.Measurement{{Quantity: "illuminance", Value: veml7700Lux(count, r.gain, r.ms), Unit: "lx"}}, nil
}

func (s *veml7700Sensor) Close() error { return nil }

func (s *veml7700Sensor) set(ctx context.Context, conf uint16) error {
	return s.write(ctx, veml7700Conf, byte(conf), byte(conf>>8))
}

func (s *veml7700Sensor) little(ctx context.Context, reg byte) (uint16, error) {
	v, err := s.read16(ctx, reg)
	return v<<8 | v>>8, err
}

// veml7700Lux converts counts. The response falls off in bright light, alike in all chips; the
// application note gives a polynomial against that, for counts of 0.0036 lx at gain 2 and 800 ms. It
// changes about 1 % at 100 lx, and is used throughout, so that there is no step. Since then the
// data sheet has put a count at 0.0042 lx.
func veml7700Lux(count uint16, gain float64, ms int) float64 {
	x := float64(count) * 0.0036 * (2 / gain) * (800 / float64(ms))
	x *= 1.0023 + x*(8.1488e-5+x*(-9.3924e-9+x*6.0135e-13))
	return x * 0.0042 / 0.0036
}
