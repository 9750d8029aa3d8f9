package chips

import (
	"context"
	"fmt"
	"time"

	"holdfast/sensors"
	"holdfast/sensors/bus"
)

// vl53l0x is the STMicroelectronics VL53L0X (data sheet DS11555): distance up to 1.2 m, or 2 m with
// long_range in the dark, ±3 to 12 % by target and light. Its registers are not documented; what is
// written to them is what ST's API (STSW-IMG005, user manual UM2039) writes, for a bare module: a cover
// glass would need calibrations of its own.
func vl53l0x() sensors.Driver {
	return sensors.Driver{
		Spec: sensors.Spec{
			Name: "vl53l0x", Doc: "distance to the nearest target, by the time of flight of light; one that is too near is a target without distance",
			Chip: "STMicroelectronics VL53L0X", Datasheet: "DS11555, UM2039",
			Wiring: "AVDD 2.8 V, or a board with a regulator at 3.3 V; SDA, SCL with pull-ups; XSHUT high, GPIO1 may stay open; only one on a bus",
			Buses:  []sensors.BusKind{sensors.BusI2C}, Addresses: []uint16{0x29},
			Quantities: []sensors.Quantity{{Name: "distance", Unit: "mm", Max: 8000}, {Name: "target", Unit: "1", Max: 1}, {Name: "signal", Unit: "MCPS", Max: 512}},
			Options: []sensors.Option{
				{Name: "budget", Kind: sensors.OptionDuration, Default: 33 * time.Millisecond, Doc: "time for a measurement, 20ms to 1s: more is less noisy, by its square root"},
				{Name: "long_range", Kind: sensors.OptionBool, Default: false, Doc: "accept weaker signals and use longer pulses"},
			},
			Timeout: 2 * time.Second,
		},
		Check: func(c sensors.Config) error {
			if b := c.Options["budget"].(time.Duration); b < 20*time.Millisecond || b > time.Second {
				return fmt.Errorf("budget: got %v, want 20ms to 1s", b)
			}
			return nil
		},
		Identify: identifyByte("VL53L0X", vl53l0xModel, 0xEE),
		Open:     openVL53L0X,
	}
}

// Registers, by the names in ST's API.
const (
	vl53l0xStart     = 0x00 // SYSRANGE_START
	vl53l0xSequence  = 0x01 // SYSTEM_SEQUENCE_CONFIG
	vl53l0xClear     = 0x0B // SYSTEM_INTERRUPT_CLEAR
	vl53l0xInterrupt = 0x13 // RESULT_INTERRUPT_STATUS
	vl53l0xResult    = 0x14 // RESULT_RANGE_STATUS
	vl53l0xModel     = 0xC0 // IDENTIFICATION_MODEL_ID
	vl53l0xPage      = 0xFF
)

// vl53l0xSteps are those of a measurement: dynamic SPAD selection, pre-range and final range.
const vl53l0xSteps = 0xE8

type vl53l0xSensor struct {
	*chip
	conversion
	set    settings
	stop   byte // what the register 0x91 of page 1 held, and has to hold when a measurement starts
	budget time.Duration
}

func openVL53L0X(ctx context.Context, c sensors.Config, buses *bus.Set) (sensors.Sensor, error) {
	ch, err := openI2C(c, buses)
	if err != nil {
		return nil, err
	}
	if _, err := ch.identify(ctx, vl53l0xModel, 0xEE); err != nil {
		// It may have been left in the middle of its set-up, with another page of registers.
		if err := ch.write(ctx, vl53l0xPage, 0); err != nil {
			return nil, err
		}
		if _, err := ch.identify(ctx, vl53l0xModel, 0xEE); err != nil {
			return nil, err
		}
	}
	s := &vl53l0xSensor{chip: ch, budget: c.Options["budget"].(time.Duration)}
	s.set = settings{{vl53l0xSequence, vl53l0xSteps, 0xFF}}
	if err := s.setUp(ctx, c.Options["long_range"].(bool)); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *vl53l0xSensor) Sense(ctx context.Context) ([]sensors.Measurement, error) {
	s.Begin(ctx)
	err := s.await(ctx, s.budget, func() error { return s.start(ctx) }, func() (bool, error) {
		started, err := s.read(ctx, vl53l0xStart, 1)
		if err != nil || started[0]&1 != 0 {
			return false, err
		}
		status, err := s.read(ctx, vl53l0xInterrupt, 1)
		if err == nil && status[0]&7 == 0 {
			err = s.set.check(s.Tx) // or it would be waited for in vain
		}
		return err == nil && status[0]&7 != 0, err
	})
	if err != nil {
		return nil, err
	}
	b, err := s.read(ctx, vl53l0xResult, 12)
	if err != nil {
		return nil, err
	}
	if err := s.set.check(s.Tx); err != nil {
		return nil, err
	}
	if err := s.write(ctx, vl53l0xClear, 1); err != nil {
		return nil, err
	}
	return decodeVL53L0X([12]byte(b))
}

// start begins one measurement (VL53L0X_StartMeasurement, single ranging). What an earlier one has left
// is cleared first.
func (s *vl53l0xSensor) start(ctx context.Context) error {
	if err := s.set.check(s.Tx); err != nil {
		return err
	}
	return s.writeAll(ctx, [][2]byte{
		{vl53l0xClear, 1},
		{0x80, 1}, {vl53l0xPage, 1}, {0x00, 0}, {0x91, s.stop}, {0x00, 1}, {vl53l0xPage, 0}, {0x80, 0},
		{vl53l0xStart, 1},
	})
}

func (s *vl53l0xSensor) Close() error { return nil }

func (s *vl53l0xSensor) writeAll(ctx context.Context, pairs [][2]byte) error {
	for _, p := range pairs {
		if err := s.write(ctx, p[0], p[1]); err != nil {
			return err
		}
	}
	return nil
}

// decodeVL53L0X takes a result apart: range status in bits 6:3 of the first byte, signal rate in 128ths
// of a million counts per second at 6, distance in mm at 10 (VL53L0X_GetRangingMeasurementData,
// VL53L0X_get_pal_range_status). Without a target there is no distance, which is no failure; nor for one that is too
// near to be measured: that is a target.
func decodeVL53L0X(b [12]byte) ([]sensors.Measurement, error) {
	signal := sensors.Measurement{Quantity: "signal", Value: float64(be16(b[6:])) / 128, Unit: "MCPS"}
	mm := float64(be16(b[10:]))
	switch status := b[0] >> 3 & 15; status {
	case 11: // range complete
		return []sensors.Measurement{{Quantity: "distance", Value: mm, Unit: "mm"}, {Quantity: "target", Value: 1, Unit: "1"}, signal}, nil
	case 8, 10: // too near: ST's API calls it a failure of the minimum range
		return []sensors.Measurement{{Quantity: "target", Value: 1, Unit: "1"}, signal}, nil
	case 4, 6, 9: // too little signal, phase out of limits
		return []sensors.Measurement{{Quantity: "target", Unit: "1"}, signal}, nil
	case 1, 2, 3: // laser or reference
		return nil, fmt.Errorf("%w: the chip reports a fault of its laser (%d)", sensors.ErrPermanent, status)
	default:
		return nil, fmt.Errorf("%w: no range was measured (%d)", bus.ErrTemporary, status)
	}
}
