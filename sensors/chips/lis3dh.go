package chips

import (
	"context"
	"fmt"
	"time"

	"holdfast/sensors"
	"holdfast/sensors/bus"
)

// lis3dh is the STMicroelectronics LIS3DH (data sheet DocID17530): acceleration in three axes, at rest
// including gravity, ±40 mg without calibration. Its temperature has no absolute value and is not read.
func lis3dh() sensors.Driver {
	return sensors.Driver{
		Spec: sensors.Spec{
			Name: "lis3dh", Doc: "acceleration in three axes",
			Chip: "STMicroelectronics LIS3DH", Datasheet: "DocID17530",
			Wiring: "VDD and VDD_IO 3.3 V (1.71 to 3.6 V); SDA, SCL with pull-ups; CS to VDD_IO for I2C; SDO/SA0 low for 0x18, high for 0x19",
			Buses:  []sensors.BusKind{sensors.BusI2C}, Addresses: []uint16{0x18, 0x19},
			Quantities: []sensors.Quantity{{Name: "acceleration_x", Unit: "m/s²", Min: -250, Max: 250}, {Name: "acceleration_y", Unit: "m/s²", Min: -250, Max: 250}, {Name: "acceleration_z", Unit: "m/s²", Min: -250, Max: 250}},
			Options: []sensors.Option{
				{Name: "range", Kind: sensors.OptionInt, Default: int64(2), Min: 2, Max: 16, Doc: "largest acceleration, in g: 2, 4, 8 or 16; others are rounded up"},
			},
			Timeout: time.Second,
		},
		Identify: identifyByte("LIS3DH", lis3dhWhoAmI, 0x33),
		Open:     openLIS3DH,
	}
}

// Registers (data sheet, "Register mapping").
const (
	lis3dhWhoAmI = 0x0F
	lis3dhCtrl1  = 0x20
	lis3dhCtrl4  = 0x23
	lis3dhStatus = 0x27        // ZYXDA is bit 3
	lis3dhOut    = 0x28 | 0x80 // with the upper bit the address moves on
)

// lis3dhOn is CTRL_REG1 for 100 measurements a second of all axes; power-on leaves 0x07 there: none.
const lis3dhOn = 0x57

// standardGravity is 1 g, in m/s².
const standardGravity = 9.80665

// lis3dhRanges are the ranges in g, by FS in bits 5:4 of CTRL_REG4, and what a count of the 12 bits of
// high resolution is, in mg (data sheet, table 4).
var lis3dhRanges = []struct {
	g  int64
	mg float64
}{{2, 1}, {4, 2}, {8, 4}, {16, 12}}

type lis3dhSensor struct {
	*chip
	set settings
	mg  float64
	g   int64
}

func openLIS3DH(ctx context.Context, c sensors.Config, buses *bus.Set) (sensors.Sensor, error) {
	ch, err := openI2C(c, buses)
	if err != nil {
		return nil, err
	}
	if _, err := ch.identify(ctx, lis3dhWhoAmI, 0x33); err != nil {
		return nil, err
	}
	fs := 0
	for fs < len(lis3dhRanges)-1 && lis3dhRanges[fs].g < c.Options["range"].(int64) {
		fs++
	}
	// BDU, so that the bytes of a measurement belong together; FS; HR.
	ctrl4 := 1<<7 | byte(fs)<<4 | 1<<3
	s := &lis3dhSensor{chip: ch, set: settings{{lis3dhCtrl4, ctrl4, 0xFF}, {lis3dhCtrl1, lis3dhOn, 0xFF}}, mg: lis3dhRanges[fs].mg, g: lis3dhRanges[fs].g}
	for _, r := range s.set {
		if err := s.write(ctx, r.Register, r.Value); err != nil {
			return nil, err
		}
	}
	return s, wait(ctx, 7*time.Second/100) // it is right after 7 measurements (table 10, turn-on time)
}

func (s *lis3dhSensor) Sense(ctx context.Context) ([]sensors.Measurement, error) {
	return afterShock(func() ([]sensors.Measurement, error) { return s.sample(ctx) })
}

func (s *lis3dhSensor) sample(ctx context.Context) ([]sensors.Measurement, error) {
	// What lies there may be old. Reading it clears ZYXDA, so what comes next is of now.
	if _, err := s.read(ctx, lis3dhOut, 6); err != nil {
		return nil, err
	}
	if err := s.set.check(s.Tx); err != nil {
		return nil, err // or nothing would come
	}
	err := poll(ctx, 2*time.Millisecond, func() (bool, error) {
		b, err := s.read(ctx, lis3dhStatus, 1)
		return err == nil && b[0]&8 != 0, err
	})
	if err != nil {
		return nil, err
	}
	b, err := s.read(ctx, lis3dhOut, 6)
	if err != nil {
		return nil, err
	}
	if err := s.set.check(s.Tx); err != nil {
		return nil, err
	}
	var m []sensors.Measurement
	for i, axis := range []string{"x", "y", "z"} {
		count := int16(uint16(b[2*i+1])<<8|uint16(b[2*i])) >> 4
		if count == 2047 || count == -2048 {
			return nil, overRange(fmt.Sprintf("the acceleration in %s is beyond the range", axis), "choose a larger range than %d g", s.g)
		}
		m = append(m, sensors.Measurement{Quantity: "acceleration_" + axis, Value: float64(count) * s.mg / 1000 * standardGravity, Unit: "m/s²"})
	}
	return m, nil
}

func (s *lis3dhSensor) Close() error { return nil }
