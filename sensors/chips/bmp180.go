package chips

import (
	"context"
	"fmt"
	"time"

	"holdfast/sensors"
	"holdfast/sensors/bus"
)

// bmp180 is the Bosch BMP180, and the BMP085 (data sheet BST-BMP180-DS000).
//
// periph's driver does not look whether a conversion has ended, and keeps the calibration of a chip
// that may have been replaced.
func bmp180() sensors.Driver {
	return sensors.Driver{
		Spec: sensors.Spec{
			Name: "bmp180", Doc: "air temperature and pressure",
			Chip: "Bosch BMP180, BMP085", Datasheet: "BST-BMP180-DS000",
			Wiring: "VDD and VDDIO 1.8 to 3.6 V; SDA, SCL with pull-ups to 3.3 V; the address is fixed",
			Buses:  []sensors.BusKind{sensors.BusI2C}, Addresses: []uint16{0x77},
			Quantities: []sensors.Quantity{{Name: "temperature", Unit: "°C", Min: -40, Max: 85}, {Name: "pressure", Unit: "hPa", Min: 300, Max: 1100}},
			Timeout:    time.Second,
		},
		Identify: identifyByte("BMP180", bmx280ID, 0x55),
		Open:     openBMP180,
	}
}

const (
	bmp180Calib = 0xAA
	bmp180Ctrl  = 0xF4
	bmp180Out   = 0xF6
	// bmp180Mode is ultra high resolution, eight samples (section 3.3.1).
	bmp180Mode       = 3
	bmp180Converting = 1 << 5 // "Sco", start of conversion (section 4)
)

type bmp180Sensor struct{ *chip }

func openBMP180(ctx context.Context, c sensors.Config, buses *bus.Set) (sensors.Sensor, error) {
	dev, err := openI2C(c, buses)
	if err != nil {
		return nil, err
	}
	if _, err := dev.identify(ctx, bmx280ID, 0x55); err != nil {
		return nil, err
	}
	return &bmp180Sensor{dev}, nil
}

func (s *bmp180Sensor) Sense(ctx context.Context) ([]sensors.Measurement, error) {
	ut, err := s.convert(ctx, 0x2E, 4500*time.Microsecond) // temperature
	if err != nil {
		return nil, err
	}
	up, err := s.convert(ctx, 0x34|bmp180Mode<<6, 25500*time.Microsecond) // pressure
	if err != nil {
		return nil, err
	}
	// After a power cycle there is a value that no conversion has made (section 4: memory map).
	if ut>>8 == 0x8000 || up == 0x800000 {
		return nil, sensors.ErrRestarted
	}
	// The calibration is read with each measurement, so that it is this chip's. It costs 2 ms.
	b, err := s.read(ctx, bmp180Calib, 22)
	if err != nil {
		return nil, err
	}
	cal, err := newCalibrationBMP180([22]byte(b))
	if err != nil {
		return nil, err
	}
	t, p, ok := cal.compensate(int64(ut>>8), int64(up>>(8-bmp180Mode)), bmp180Mode)
	if !ok {
		return nil, fmt.Errorf("%w: the raw values %d and %d do not fit the calibration", sensors.ErrImplausible, ut>>8, up)
	}
	return []sensors.Measurement{{Quantity: "temperature", Value: float64(t) / 10, Unit: "°C"}, {Quantity: "pressure", Value: float64(p) / 100, Unit: "hPa"}}, nil
}

// convert starts a conversion that takes so long at most (section 3.3.1), and returns 24 bits of it.
func (s *bmp180Sensor) convert(ctx context.Context, command byte, takes time.Duration) (uint32, error) {
	if err := s.write(ctx, bmp180Ctrl, command); err != nil {
		return 0, err
	}
	if err := wait(ctx, takes); err != nil {
		return 0, err
	}
	err := poll(ctx, time.Millisecond, func() (bool, error) {
		b, err := s.read(ctx, bmp180Ctrl, 1)
		return err == nil && b[0]&bmp180Converting == 0, err
	})
	if err != nil {
		return 0, err
	}
	b, err := s.read(ctx, bmp180Out, 3)
	if err != nil {
		return 0, err
	}
	return uint32(b[0])<<16 | uint32(b[1])<<8 | uint32(b[2]), nil
}

// calibrationBMP180 are a chip's own trimming values AC1 to AC6, B1, B2, MB, MC, MD (section 3.4).
type calibrationBMP180 struct{ ac1, ac2, ac3, ac4, ac5, ac6, b1, b2, mb, mc, md int64 }

// newCalibrationBMP180 takes the registers from 0xAA on. None of them is 0 or 0xFFFF in a chip that
// was read rightly (section 3.4).
func newCalibrationBMP180(b [22]byte) (c calibrationBMP180, err error) {
	for i, v := range []*int64{&c.ac1, &c.ac2, &c.ac3, &c.ac4, &c.ac5, &c.ac6, &c.b1, &c.b2, &c.mb, &c.mc, &c.md} {
		word := be16(b[2*i:])
		if word == 0 || word == 0xFFFF {
			return c, fmt.Errorf("%w: word %d of the calibration reads as %#04x", bus.ErrTemporary, i, word)
		}
		if *v = int64(int16(word)); 3 <= i && i <= 5 {
			*v = int64(word) // AC4 to AC6 are unsigned
		}
	}
	return c, nil
}

// compensate returns tenths of a degree and pascals (section 3.5). It is false if raw values would
// divide by zero.
func (c *calibrationBMP180) compensate(ut, up int64, mode uint) (deci, pascal int64, ok bool) {
	x1 := ((ut - c.ac6) * c.ac5) >> 15
	if x1+c.md == 0 {
		return 0, 0, false
	}
	b5 := x1 + c.mc<<11/(x1+c.md)
	b6 := b5 - 4000
	x3 := (c.b2*(b6*b6>>12))>>11 + c.ac2*b6>>11
	b3 := ((c.ac1*4+x3)<<mode + 2) / 4
	x3 = ((c.ac3*b6)>>13 + (c.b1*(b6*b6>>12))>>16 + 2) >> 2
	b4 := c.ac4 * (x3 + 32768) >> 15
	if b4 == 0 {
		return 0, 0, false
	}
	b7 := (up - b3) * (50000 >> mode)
	p := b7 * 2 / b4
	if b7 >= 0x80000000 {
		p = b7 / b4 * 2
	}
	x1 = (p >> 8) * (p >> 8) * 3038 >> 16
	return (b5 + 8) >> 4, p + (x1+(-7357*p)>>16+3791)>>4, true
}
