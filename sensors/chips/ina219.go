package chips

import (
	"context"
	"time"

	"holdfast/sensors"
	"holdfast/sensors/bus"
)

// ina219 is the Texas Instruments INA219 (data sheet SBOS448).
//
// periph's driver does not wait for a conversion, and loses accuracy in the chip's calibration
// register. Here current and power are computed from the two voltages, which the chip measures once
// for each reading.
func ina219() sensors.Driver {
	return sensors.Driver{
		Spec: sensors.Spec{
			Name: "ina219", Doc: "voltage, current and power of a supply, up to 26 V",
			Chip: "Texas Instruments INA219", Datasheet: "SBOS448",
			Wiring: "VS 3 to 5.5 V; SDA, SCL with pull-ups to 3.3 V; shunt between IN+ (source) and IN- (load); A0, A1 to GND for 0x40",
			Buses:  []sensors.BusKind{sensors.BusI2C}, Addresses: []uint16{0x40, 0x41, 0x42, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48, 0x49, 0x4A, 0x4B, 0x4C, 0x4D, 0x4E, 0x4F},
			Quantities: []sensors.Quantity{{Name: "voltage", Unit: "V", Max: 32}, {Name: "current", Unit: "A"}, {Name: "power", Unit: "W"}},
			Options: []sensors.Option{{Name: "shunt", Kind: sensors.OptionFloat, Default: 0.1, Min: 0.0001, Max: 100,
				Doc: "resistance of the shunt, in Ω; the usual board has 0.1 Ω, for up to 3.2 A"}},
			Timeout: time.Second,
		},
		Open: openINA219,
	}
}

const (
	ina219Config = 0
	ina219Shunt  = 1 // signed, 10 µV
	ina219Bus    = 2 // 4 mV, in bits 15 to 3
	// ina219Once is: 32 V, ±320 mV, 12 bits, convert both voltages once ("triggered"). Each takes 532 µs,
	// 586 at most (sections 8.5.1 and 8.6.2.1).
	ina219Once  = 0x399B
	ina219Ready = 1 << 1 // CNVR, which writing the config register clears
)

type ina219Sensor struct {
	*chip
	shunt float64 // Ω
}

func openINA219(ctx context.Context, c sensors.Config, buses *bus.Set) (sensors.Sensor, error) {
	dev, err := openI2C(c, buses)
	if err != nil {
		return nil, err
	}
	// There is no id. Bit 14 of the config register reads as zero, and the reserved bit 0 of the
	// calibration too (section 8.6).
	config, err := dev.read16(ctx, ina219Config)
	if err == nil {
		err = checkID("INA219", uint64(config&0x4000), 16, 0)
	}
	if err != nil {
		return nil, err
	}
	return &ina219Sensor{dev, c.Options["shunt"].(float64)}, nil
}

func (s *ina219Sensor) Sense(ctx context.Context) ([]sensors.Measurement, error) {
	if err := s.write(ctx, ina219Config, ina219Once>>8, ina219Once&0xFF); err != nil {
		return nil, err
	}
	var rawBus uint16
	err := poll(ctx, time.Millisecond, func() (bool, error) {
		var err error
		rawBus, err = s.read16(ctx, ina219Bus)
		return rawBus&ina219Ready != 0, err
	})
	if err != nil {
		return nil, err
	}
	rawShunt, err := s.read16(ctx, ina219Shunt)
	if err != nil {
		return nil, err
	}
	config, err := s.read16(ctx, ina219Config)
	if err != nil {
		return nil, err
	}
	if config != ina219Once {
		return nil, sensors.ErrRestarted
	}
	if v := int16(rawShunt); v >= 32000 || v <= -32000 { // ±320 mV
		return nil, overRange("the current is beyond the range", "with %v Ω it is ±%.3g A: use a smaller shunt", s.shunt, 0.32/s.shunt)
	}
	voltage, current := decodeINA219(rawBus, rawShunt, s.shunt)
	return []sensors.Measurement{{Quantity: "voltage", Value: voltage, Unit: "V"}, {Quantity: "current", Value: current, Unit: "A"}, {Quantity: "power", Value: voltage * current, Unit: "W"}}, nil
}

// decodeINA219 returns V and A.
func decodeINA219(rawBus, rawShunt uint16, shunt float64) (voltage, current float64) {
	return float64(rawBus>>3) * 4e-3, float64(int16(rawShunt)) * 10e-6 / shunt
}
