package chips

import (
	"context"
	"fmt"
	"math"
	"time"

	"holdfast/sensors"
	"holdfast/sensors/bus"
)

// bh1750 is the ROHM BH1750FVI (technical note 11046EDT01).
//
// periph's driver gives whole lumens and reads while the chip may still be measuring.
func bh1750() sensors.Driver {
	return sensors.Driver{
		Spec: sensors.Spec{
			Name: "bh1750", Doc: "illuminance", Chip: "ROHM BH1750FVI", Datasheet: "technical note 11046EDT01",
			Wiring: "VCC 2.4 to 3.6 V; SDA, SCL with pull-ups to 3.3 V; ADDR low 0x23, high 0x5C",
			Buses:  []sensors.BusKind{sensors.BusI2C}, Addresses: []uint16{0x23, 0x5C},
			Quantities: []sensors.Quantity{{Name: "illuminance", Unit: "lx", Max: 121557}}, // with the shortest time
			Options: []sensors.Option{
				{Name: "measurement_time", Kind: sensors.OptionInt, Default: int64(bh1750Usual), Min: 31, Max: 254,
					Doc: "MTreg, in 69ths of 120 ms: 69 measures up to 54612 lx in steps of 0.83; 31 up to 121557, for the sun; 254 up to 14835 in steps of 0.23, for the dark"},
			},
			Timeout: time.Second,
		},
		Open: openBH1750,
	}
}

// Instructions.
const (
	bh1750PowerOn = 0x01
	bh1750Clear   = 0x07 // sets the result to 0
	bh1750Measure = 0x20 // once, in steps of 0.83 lx, then power down
	bh1750High    = 0x40 // and the upper 3 bits of MTreg
	bh1750Low     = 0x60 // and the lower 5

	bh1750Usual = 69 // MTreg after power-on
)

// bh1750Time is how long a measurement takes at most, in high-resolution mode.
const bh1750Time = 180 * time.Millisecond

type bh1750Sensor struct {
	*chip
	mt      int64     // MTreg
	started time.Time // of a measurement that is not read yet
	zeros   int       // results of 0 in a row
}

func openBH1750(ctx context.Context, c sensors.Config, buses *bus.Set) (sensors.Sensor, error) {
	dev, err := openI2C(c, buses)
	if err != nil {
		return nil, err
	}
	return &bh1750Sensor{chip: dev, mt: c.Options["measurement_time"].(int64)}, dev.write(ctx, bh1750PowerOn) // there is no id
}

func (s *bh1750Sensor) Sense(ctx context.Context) ([]sensors.Measurement, error) {
	length := s.time() << s.zeros
	if s.started.IsZero() || time.Since(s.started) > length+time.Second {
		return nil, s.start(ctx, length)
	}
	if left := length - time.Since(s.started); left > 0 {
		return nil, &sensors.NotYet{After: left, Why: "measuring"}
	}
	s.started = time.Time{}
	b, err := s.tx(ctx, nil, 2)
	if err != nil {
		return nil, err
	}
	raw := be16(b)
	// 0 is darkness, or a measurement that has not ended, or did not begin because of the power. A
	// second one, with twice the time, tells.
	if raw == 0 && s.zeros == 0 {
		s.zeros++
		return nil, s.start(ctx, s.time()<<s.zeros)
	}
	s.zeros = 0
	if raw == math.MaxUint16 {
		return nil, overRange(fmt.Sprintf("the light is beyond %.0f lx", luxBH1750(raw, s.mt)), "set measurement_time to 31, or shade the sensor")
	}
	return []sensors.Measurement{{Quantity: "illuminance", Value: luxBH1750(raw, s.mt), Unit: "lx"}}, nil
}

// time is how long a measurement takes at most.
func (s *bh1750Sensor) time() time.Duration {
	return bh1750Time * time.Duration(s.mt) / bh1750Usual
}

// start begins a measurement. MTreg is set each time: another program may have left another, and power-on does.
func (s *bh1750Sensor) start(ctx context.Context, length time.Duration) error {
	for _, b := range []byte{bh1750PowerOn, bh1750Clear, bh1750High | byte(s.mt>>5), bh1750Low | byte(s.mt&31), bh1750Measure} {
		if err := s.write(ctx, b); err != nil {
			return err
		}
	}
	s.started = time.Now()
	return &sensors.NotYet{After: length, Why: "measuring"}
}

// luxBH1750 is the illuminance of a result: 1.2 counts per lx, with the usual MTreg.
func luxBH1750(raw uint16, mt int64) float64 { return float64(raw) / 1.2 * bh1750Usual / float64(mt) }
