package chips

import (
	"context"
	"time"

	"holdfast/sensors"
	"holdfast/sensors/bus"
)

// tsl2591 is the ams TSL2591 (data sheet v1-00): illuminance from less than 0.001 lx to 88 klx. ams has
// published no formula for lux; the one here is the one in use everywhere (Adafruit's driver, Linux
// drivers/iio/light/tsl2591.c), right for white light without a window.
func tsl2591() sensors.Driver {
	return sensors.Driver{
		Spec: sensors.Spec{
			Name: "tsl2591", Doc: "illuminance, and how much of the light is infrared, in ranges that are chosen by themselves",
			Chip: "ams TSL2591", Datasheet: "TSL2591, v1-00",
			Wiring: "VDD 3.3 V (2.7 to 3.6 V); SDA, SCL with pull-ups to 3.3 V",
			Buses:  []sensors.BusKind{sensors.BusI2C}, Addresses: []uint16{0x29},
			Quantities: []sensors.Quantity{{Name: "illuminance", Unit: "lx", Max: 200e3}, {Name: "infrared_share", Unit: "%", Max: 100}},
			Timeout:    2 * time.Second,
		},
		Identify: identifyByte("TSL2591", tsl2591ID, 0x50),
		Open:     openTSL2591,
	}
}

// Registers (data sheet, "Register description"), behind the command bits 101 of a normal operation.
const (
	tsl2591Command = 0xA0
	tsl2591Enable  = tsl2591Command        // register 0: PON is bit 0, AEN bit 1
	tsl2591Control = tsl2591Command | 0x01 // AGAIN in bits 5:4, ATIME in bits 2:0
	tsl2591ID      = tsl2591Command | 0x12
	tsl2591Status  = tsl2591Command | 0x13 // AVALID is bit 0
	tsl2591Data    = tsl2591Command | 0x14 // C0DATA, C1DATA
)

// tsl2591Ranges go from bright to dark. Gains are the typical ones of the operating characteristics,
// which for the highest differ between the channels.
var tsl2591Ranges = []struct {
	control      byte
	ms           int
	gain0, gain1 float64
	full         uint16 // what the ADC can count in that time
}{
	{0x00, 100, 1, 1, 36863}, {0x10, 100, 24.5, 24.5, 36863}, {0x20, 100, 400, 400, 36863},
	{0x22, 300, 400, 400, 65535}, {0x35, 600, 9200, 9900, 65535},
}

// tsl2591Per are their sensitivities.
func tsl2591Per() (per []float64) {
	for _, r := range tsl2591Ranges {
		per = append(per, r.gain0*float64(r.ms))
	}
	return per
}

type tsl2591Sensor struct {
	*chip
	conversion
	lightRange
}

func openTSL2591(ctx context.Context, c sensors.Config, buses *bus.Set) (sensors.Sensor, error) {
	ch, err := openI2C(c, buses)
	if err != nil {
		return nil, err
	}
	if _, err := ch.identify(ctx, tsl2591ID, 0x50); err != nil {
		return nil, err
	}
	return &tsl2591Sensor{chip: ch, lightRange: lightRange{step: 1}}, nil
}

func (s *tsl2591Sensor) Sense(ctx context.Context) ([]sensors.Measurement, error) {
	r := tsl2591Ranges[s.step]
	start := func() error {
		// AVALID tells of a cycle that has ended since AEN was set, so it is taken away first.
		if err := s.write(ctx, tsl2591Enable, 0x01); err != nil {
			return err
		}
		if err := s.write(ctx, tsl2591Control, r.control); err != nil {
			return err
		}
		return s.write(ctx, tsl2591Enable, 0x03)
	}
	// An integration cycle of 100 ms takes up to 108 ms (operating characteristics, 95 to 108).
	err := s.await(ctx, time.Duration(r.ms)*time.Millisecond, start, func() (bool, error) {
		b, err := s.read(ctx, tsl2591Status, 1)
		return err == nil && b[0]&1 != 0, err
	})
	if err != nil {
		return nil, err
	}
	b, err := s.read(ctx, tsl2591Data, 4) // C0 before C1, in one transfer: reading a low byte holds the high one
	if err != nil {
		return nil, err
	}
	if control, err := s.read(ctx, tsl2591Control, 1); err != nil {
		return nil, err
	} else if control[0] != r.control {
		return nil, sensors.ErrRestarted
	}
	c0, c1 := uint16(b[1])<<8|uint16(b[0]), uint16(b[3])<<8|uint16(b[2])
	high := max(c0, c1)
	switch err := s.move(high, 200, 30000, high >= r.full, tsl2591Per()); {
	case err != nil:
		return nil, err
	case high >= r.full:
		return nil, overRange("the light is brighter than the chip can measure", "shade it")
	}
	if err := s.write(ctx, tsl2591Enable, 0); err != nil {
		return nil, err
	}
	lux, share := tsl2591Lux(float64(c0)/float64(r.ms)/r.gain0, float64(c1)/float64(r.ms)/r.gain1)
	return []sensors.Measurement{{Quantity: "illuminance", Value: lux, Unit: "lx"}, {Quantity: "infrared_share", Value: share, Unit: "%"}}, nil
}

func (s *tsl2591Sensor) Close() error { return nil }

// tsl2591Lux converts the counts per ms at gain 1 of channel 0 (visible and infrared) and channel 1
// (infrared): 408 is the device factor. Where channel 1 has more, it is noise, or infrared alone.
func tsl2591Lux(c0, c1 float64) (lux, infrared float64) {
	switch {
	case c0 == 0 && c1 == 0:
		return 0, 0
	case c1 >= c0:
		return 0, 100
	}
	return 408 * (c0 - c1) * (1 - c1/c0), 100 * c1 / c0
}
