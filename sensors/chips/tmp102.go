package chips

import (
	"context"
	"fmt"
	"time"

	"holdfast/sensors"
	"holdfast/sensors/bus"
)

// tmp102 is the Texas Instruments TMP102 (data sheet SBOS397).
//
// periph's driver takes no notice of an error when it reads the configuration, and does not wait for
// a conversion.
func tmp102() sensors.Driver {
	return sensors.Driver{
		Spec: sensors.Spec{
			Name: "tmp102", Doc: "temperature, ±0.5 °C", Chip: "Texas Instruments TMP102", Datasheet: "SBOS397",
			Wiring: "V+ 1.4 to 3.6 V; SDA, SCL with pull-ups to V+; ADD0 to GND 0x48, V+ 0x49, SDA 0x4A, SCL 0x4B",
			Buses:  []sensors.BusKind{sensors.BusI2C}, Addresses: []uint16{0x48, 0x49, 0x4A, 0x4B},
			Quantities: []sensors.Quantity{{Name: "temperature", Unit: "°C", Min: -55, Max: 150}},
			Timeout:    time.Second,
		},
		Open: openTMP102,
	}
}

const (
	tmp102Temperature = 0
	tmp102Config      = 1
	tmp102OneShot     = 0x8000 // written: convert once; read: no conversion runs ("One-shot/conversion ready")
	tmp102Mode        = 0x0110 // shutdown between conversions, extended range of 13 bits
	tmp102Rate        = 0x0080 // as after power-on
)

type tmp102Sensor struct{ *chip }

func openTMP102(ctx context.Context, c sensors.Config, buses *bus.Set) (sensors.Sensor, error) {
	dev, err := openI2C(c, buses)
	if err != nil {
		return nil, err
	}
	// There is no id register. What always reads the same in this one is the resolution, 11, and four zeros.
	config, err := dev.read16(ctx, tmp102Config)
	if err == nil {
		err = checkID("TMP102", uint64(config&0x600F), 16, 0x6000)
	}
	if err != nil {
		return nil, err
	}
	return &tmp102Sensor{dev}, nil
}

func (s *tmp102Sensor) Sense(ctx context.Context) ([]sensors.Measurement, error) {
	const config = tmp102OneShot | tmp102Mode | tmp102Rate
	if err := s.write(ctx, tmp102Config, config>>8, config&0xFF); err != nil {
		return nil, err
	}
	err := poll(ctx, 5*time.Millisecond, func() (bool, error) { // a conversion takes 26 ms, 35 at most
		c, err := s.read16(ctx, tmp102Config)
		if err == nil && c&tmp102Mode != tmp102Mode {
			err = sensors.ErrRestarted
		}
		return c&tmp102OneShot != 0, err
	})
	if err != nil {
		return nil, err
	}
	raw, err := s.read16(ctx, tmp102Temperature)
	if err != nil {
		return nil, err
	}
	t, err := celsiusTMP102(raw)
	if err != nil {
		return nil, err
	}
	return []sensors.Measurement{{Quantity: "temperature", Value: t, Unit: "°C"}}, nil
}

// celsiusTMP102 takes 13 bits of two's complement, in 1/16 °C, out of the register in extended mode.
// Its lowest bit tells the mode: it is 0 in the mode after power-on, where there are 12 bits.
func celsiusTMP102(raw uint16) (float64, error) {
	if raw&1 == 0 {
		return 0, sensors.ErrRestarted
	}
	if raw&6 != 0 {
		return 0, fmt.Errorf("%w: the temperature register reads %#04x, where bits 1 and 2 are always zero", bus.ErrTemporary, raw)
	}
	return float64(int16(raw)>>3) / 16, nil
}
