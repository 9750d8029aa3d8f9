package chips

import (
	"context"
	"errors"
	"math"
	"time"

	"periph.io/x/conn/v3"

	"holdfast/sensors"
	"holdfast/sensors/bus"
)

// ina226 is the Texas Instruments INA226 (data sheet SBOS547A): voltage up to 36 V, current by the
// voltage across a shunt (up to ±81.92 mV), and power. Current and power are computed here, from the
// shunt's value, and not by the chip: its calibration register is lost with its power, and then reads as
// no current.
func ina226() sensors.Driver {
	return sensors.Driver{
		Spec: sensors.Spec{
			Name: "ina226", Doc: "voltage, current and power",
			Chip: "Texas Instruments INA226", Datasheet: "SBOS547A",
			Wiring: "VS 3.3 V (2.7 to 5.5 V); SDA, SCL with pull-ups to 3.3 V; the shunt between IN+ and IN-, VBUS at the load, all up to 36 V; A1 and A0 at GND 0x40",
			Buses:  []sensors.BusKind{sensors.BusI2C}, Addresses: ina226Addresses(),
			Quantities: []sensors.Quantity{{Name: "voltage", Unit: "V", Max: 40.96}, {Name: "current", Unit: "A", Min: -8192, Max: 8192}, {Name: "power", Unit: "W", Min: -330e3, Max: 330e3}},
			Options: []sensors.Option{
				{Name: "shunt", Kind: sensors.OptionFloat, Default: 0.1, Min: 0.00001, Max: 100, Doc: "resistance of the shunt, in Ω; R100 on many boards is 0.1, R010 0.01, R002 0.002"},
				{Name: "average", Kind: sensors.OptionInt, Default: int64(16), Min: 1, Max: 1024, Doc: "conversions of 1.1 ms to average: 1, 4, 16, 64, 128, 256, 512 or 1024; others are rounded up"},
			},
			Timeout: 2 * time.Second,
		},
		Identify: identifyINA("INA226", 0x2260, ina226Revision),
		Open:     openINA226,
	}
}

func ina226Addresses() (a []uint16) {
	for v := uint16(0x40); v <= 0x4F; v++ {
		a = append(a, v)
	}
	return a
}

// Registers of 16 bits, high byte first (data sheet, register maps).
const (
	ina226Config = 0x00
	ina226Shunt  = 0x01 // 2.5 µV
	ina226Bus    = 0x02 // 1.25 mV
	ina226Mask   = 0x06 // CVRF is bit 3
	inaMaker     = 0xFE // 0x5449: "TI"
	inaDie       = 0xFF // 0x2260

	ina226Revision = 0x000F // of the die's identification (data sheet, die ID register)
)

// inaAverages are what AVG, bits 11:9 of the configuration, means (both data sheets, configuration register).
var inaAverages = []int64{1, 4, 16, 64, 128, 256, 512, 1024}

// inaConfig returns AVG and how many conversions that is, for at least n.
func inaConfig(n int64) (avg uint16, conversions int64) {
	for int(avg) < len(inaAverages)-1 && inaAverages[avg] < n {
		avg++
	}
	return avg, inaAverages[avg]
}

// identifyINA is the row's Identify. What is in revision may be anything.
func identifyINA(name string, die, revision uint16) func(conn.Conn) (string, error) {
	return func(dev conn.Conn) (string, error) {
		var maker, id [2]byte
		err := errors.Join(dev.Tx([]byte{inaMaker}, maker[:]), dev.Tx([]byte{inaDie}, id[:]))
		if err != nil || maker != [2]byte{0x54, 0x49} || (be16(id[:])^die)&^revision != 0 {
			return "", err
		}
		return name, nil
	}
}

// checkINA checks maker and die, of which the bits in revision may be anything.
func checkINA(ctx context.Context, c *chip, die, revision uint16) error {
	for _, id := range []struct {
		reg       byte
		want, any uint16
	}{{inaMaker, 0x5449, 0}, {inaDie, die, revision}} {
		got, err := c.read16(ctx, id.reg)
		if err != nil {
			return err
		}
		if (got^id.want)&^id.any == 0 {
			continue
		}
		if err := checkID(c.name, uint64(got), 16, uint64(id.want)); err != nil {
			return err
		}
	}
	return nil
}

type ina226Sensor struct {
	*chip
	conversion
	shunt  float64 // Ω
	config uint16
	takes  time.Duration
}

func openINA226(ctx context.Context, c sensors.Config, buses *bus.Set) (sensors.Sensor, error) {
	ch, err := openI2C(c, buses)
	if err != nil {
		return nil, err
	}
	if err := checkINA(ctx, ch, 0x2260, ina226Revision); err != nil {
		return nil, err
	}
	avg, n := inaConfig(c.Options["average"].(int64))
	return &ina226Sensor{
		chip: ch, shunt: c.Options["shunt"].(float64),
		// Bit 14 is always set; 1.1 ms for both voltages (4 in bits 8:6 and 5:3); one conversion of shunt
		// and bus each, then power down (3 in bits 2:0).
		config: 0x4000 | avg<<9 | 4<<6 | 4<<3 | 3,
		takes:  time.Duration(n) * 2200 * time.Microsecond,
	}, nil
}

func (s *ina226Sensor) Sense(ctx context.Context) ([]sensors.Measurement, error) {
	// Writing the configuration starts a conversion and clears CVRF (data sheet, mask/enable register).
	start := func() error {
		return s.write(ctx, ina226Config, byte(s.config>>8), byte(s.config))
	}
	err := s.await(ctx, s.takes, start, func() (bool, error) {
		mask, err := s.read16(ctx, ina226Mask)
		return mask&8 != 0, err
	})
	if err != nil {
		return nil, err
	}
	shunt, err := s.read16(ctx, ina226Shunt)
	if err != nil {
		return nil, err
	}
	v, err := s.read16(ctx, ina226Bus)
	if err != nil {
		return nil, err
	}
	// A chip that lost its power meanwhile holds zeros, and other settings.
	if config, err := s.read16(ctx, ina226Config); err != nil {
		return nil, err
	} else if config != s.config {
		return nil, sensors.ErrRestarted
	}
	if raw := int16(shunt); raw == math.MaxInt16 || raw == math.MinInt16 {
		return nil, overRange("the current is beyond the range", "above %.3g A it needs a smaller shunt", 0.08192/s.shunt)
	}
	return inaMeasurements(int64(int16(shunt)), 2.5e-6, int64(int16(v)), 1.25e-3, s.shunt), nil
}

func (s *ina226Sensor) Close() error { return nil }

// inaMeasurements converts the counts of a shunt of r Ω and of the bus, with what one count is, in V.
func inaMeasurements(shunt int64, shuntLSB float64, bus int64, busLSB, r float64) []sensors.Measurement {
	volt := float64(bus) * busLSB
	amp := float64(shunt) * shuntLSB / r
	return []sensors.Measurement{{Quantity: "voltage", Value: volt, Unit: "V"}, {Quantity: "current", Value: amp, Unit: "A"}, {Quantity: "power", Value: volt * amp, Unit: "W"}}
}
