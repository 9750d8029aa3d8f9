package chips

import (
	"context"
	"fmt"
	"math"
	"time"

	"periph.io/x/conn/v3/physic"
	"periph.io/x/conn/v3/spi"

	"holdfast/sensors"
	"holdfast/sensors/bus"
)

// max31865 is the Maxim MAX31865 (data sheet 19-6478), which measures a platinum resistor: ±0.5 °C with
// an ideal one, besides the error of the reference resistor, of which 0.1 % is 0.26 °C.
func max31865() sensors.Driver {
	return sensors.Driver{
		Spec: sensors.Spec{
			Name: "max31865", Doc: "temperature of a platinum resistor, Pt100 or Pt1000, with 2, 3 or 4 wires",
			Chip: "Maxim MAX31865", Datasheet: "19-6478, rev 3; IEC 60751",
			Wiring:     "VDD 3.3 V; SCLK, SDI (MOSI), SDO (MISO) and CS (CE0 or CE1); set the board's jumpers for the number of wires",
			Buses:      []sensors.BusKind{sensors.BusSPI},
			Quantities: []sensors.Quantity{{Name: "temperature", Unit: "°C", Min: -200.5, Max: 850.5}},
			Options: []sensors.Option{
				{Name: "rtd", Kind: sensors.OptionString, Default: "pt100", Allowed: []string{"pt100", "pt1000"}, Doc: "the resistor: 100 or 1000 Ω at 0 °C"},
				{Name: "wires", Kind: sensors.OptionInt, Default: int64(2), Min: 2, Max: 4, Doc: "of the resistor"},
				{Name: "reference", Kind: sensors.OptionFloat, Default: 0.0, Min: 0, Max: 20000, Doc: "the board's reference resistor, in Ω; 0 is what most boards have: 430 for a Pt100, 4300 for a Pt1000"},
				{Name: "mains", Kind: sensors.OptionInt, Default: int64(50), Min: 50, Max: 60, Doc: "frequency of the mains, in Hz, that is filtered out: 50 or 60"},
			},
			Timeout: time.Second,
		},
		Check: func(c sensors.Config) error {
			if hz := c.Options["mains"].(int64); hz != 50 && hz != 60 {
				return fmt.Errorf("mains: got %d, want 50 or 60 Hz", hz)
			}
			return nil
		},
		Open: openMAX31865,
	}
}

// Bits of the configuration, register 0 (data sheet, "Configuration register"). Registers are written at
// 0x80 and above.
const (
	max31865Write   = 0x80
	max31865Bias    = 1 << 7
	max31865OneShot = 1 << 5
	max31865Three   = 1 << 4
	max31865Detect  = 1 << 2 // automatic fault detection cycle, in bits 3:2
	max31865Clear   = 1 << 1 // fault status
	max31865Hz50    = 1 << 0
)

type max31865Sensor struct {
	*chip
	conversion
	config  byte // wires and filter
	r0, ref float64
	takes   time.Duration
}

func openMAX31865(ctx context.Context, c sensors.Config, buses *bus.Set) (sensors.Sensor, error) {
	dev, err := buses.SPIDevice(c.Bus, physic.MegaHertz, spi.Mode1)
	if err != nil {
		return nil, err
	}
	// One conversion takes up to 55 ms with the filter for 60 Hz, 66 ms with the one for 50 Hz
	// (electrical characteristics, "Temperature conversion time").
	s := &max31865Sensor{chip: &chip{Device: dev, name: "MAX31865"}, r0: 100, ref: c.Options["reference"].(float64), takes: 70 * time.Millisecond}
	if c.Options["rtd"].(string) == "pt1000" {
		s.r0 = 1000
	}
	if s.ref == 0 {
		s.ref = 4.3 * s.r0
	}
	if c.Options["wires"].(int64) == 3 {
		s.config |= max31865Three
	}
	if c.Options["mains"].(int64) == 50 {
		s.config |= max31865Hz50
	} else {
		s.takes = 60 * time.Millisecond
	}
	if err := s.set(ctx, max31865Bias); err != nil {
		dev.Close()
		return nil, err
	}
	return s, nil
}

// set writes the configuration, and reads it back: the chip has no other identification.
func (s *max31865Sensor) set(ctx context.Context, bits byte) error {
	if _, err := s.tx(ctx, []byte{max31865Write, s.config | bits}, 0); err != nil {
		return err
	}
	got, err := s.read(ctx, 0, 1)
	if err != nil {
		return err
	}
	// The bit that clears the fault status does not stay.
	return checkID(s.name, uint64(got[0]), 8, uint64(s.config|bits&^max31865Clear))
}

func (s *max31865Sensor) Sense(ctx context.Context) ([]sensors.Measurement, error) {
	if err := s.await(ctx, s.takes, func() error { return s.start(ctx) }, nil); err != nil {
		return nil, err
	}
	b, err := s.read(ctx, 0, 8)
	if err != nil {
		return nil, err
	}
	if err := s.silent(b[0]); err != nil {
		return nil, err
	}
	if b[0]&^max31865OneShot != s.config|max31865Bias {
		return nil, sensors.ErrRestarted
	}
	// Without the bias the resistor is not heated between readings.
	if err := s.set(ctx, 0); err != nil {
		return nil, err
	}
	if b[2]&1 != 0 { // the fault bit
		if err := max31865Fault(b[7]); err != nil {
			return nil, err
		}
	}
	t, err := platinumCelsius(max31865Ohm(be16(b[1:])>>1, s.ref), s.r0)
	if err != nil {
		return nil, err
	}
	return []sensors.Measurement{{Quantity: "temperature", Value: t, Unit: "°C"}}, nil
}

// start looks for faults and begins a conversion.
func (s *max31865Sensor) start(ctx context.Context) error {
	if err := s.set(ctx, max31865Bias|max31865Clear); err != nil {
		return err
	}
	// The input filter settles in 10.5 of its time constants, of 0.1 ms on usual boards, and 1 ms
	// (data sheet, "Configuration register", 1-shot).
	if err := wait(ctx, 10*time.Millisecond); err != nil {
		return err
	}
	if _, err := s.tx(ctx, []byte{max31865Write, s.config | max31865Bias | max31865Detect}, 0); err != nil {
		return err
	}
	// The cycle takes up to 600 µs (electrical characteristics, "Automatic fault detection cycle time").
	for tries := 0; ; tries++ {
		if err := wait(ctx, time.Millisecond); err != nil {
			return err
		}
		b, err := s.read(ctx, 0, 1)
		switch {
		case err != nil:
			return err
		case b[0]&0xC == 0 && b[0] != s.config|max31865Bias:
			return sensors.ErrRestarted
		case b[0]&0xC == 0:
			status, err := s.read(ctx, 7, 1)
			if err != nil {
				return err
			}
			if err := max31865Fault(status[0]); err != nil {
				return err
			}
			_, err = s.tx(ctx, []byte{max31865Write, s.config | max31865Bias | max31865OneShot}, 0)
			return err
		case tries == 20:
			return fmt.Errorf("%w: the fault detection does not end", bus.ErrTemporary)
		}
	}
}

// max31865Ohm converts the 15 bits of an RTD register, with a reference of ref Ω (data sheet,
// "Converting RTD data register values to temperature").
func max31865Ohm(rtd uint16, ref float64) float64 { return float64(rtd) * ref / 32768 }

// Coefficients of platinum with 0.00385 Ω/Ω/°C (IEC 60751).
const (
	ptA = 3.9083e-3
	ptB = -5.775e-7
	ptC = -4.183e-12 // below 0 °C
)

// platinumCelsius inverts the Callendar-Van Dusen equation for a resistance of r Ω where r0 Ω are 0 °C.
// IEC 60751 defines it from -200 to 850 °C.
func platinumCelsius(r, r0 float64) (float64, error) {
	ratio := r / r0
	t := (-ptA + math.Sqrt(ptA*ptA-4*ptB*(1-ratio))) / (2 * ptB)
	if ratio < 1 {
		// Newton's method, from the solution without the terms of the third and fourth degree; the error
		// there is below 2.5 K, and falls with its square.
		for range 5 {
			f := 1 + t*(ptA+t*(ptB+t*(t-100)*ptC)) - ratio
			t -= f / (ptA + t*(2*ptB+t*(4*t-300)*ptC))
		}
	}
	if math.IsNaN(t) || t < -200.5 || t > 850.5 {
		return 0, fmt.Errorf("%w: resistance is %.2f Ω, want %.1f to %.1f Ω: check the sensor's type, the reference and the wiring", sensors.ErrImplausible, r, 0.1852*r0, 3.9048*r0)
	}
	return t, nil
}

// max31865Fault explains what the fault status register (data sheet, "Fault status register") means.
func max31865Fault(status byte) error {
	for _, f := range []struct {
		bit     byte
		meaning string
	}{
		{1 << 2, "over- or undervoltage at an input"},
		{1 << 5, "the sensor is open (REFIN- is above 0.85 of the bias)"},
		{1 << 4, "FORCE- is open (REFIN- is below 0.85 of the bias)"},
		{1 << 3, "FORCE- is open (RTDIN- is below 0.85 of the bias)"},
		{1 << 7, "the resistance is above the range: the sensor is open"},
		{1 << 6, "the resistance is below the range: the sensor is short-circuited"},
	} {
		if status&f.bit != 0 {
			return fmt.Errorf("%w: %s", sensors.ErrPermanent, f.meaning)
		}
	}
	return nil
}
