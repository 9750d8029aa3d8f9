package chips

import (
	"context"
	"fmt"
	"math/bits"
	"time"

	"holdfast/sensors"
	"holdfast/sensors/bus"
)

// tlv493d is the Infineon TLV493D-A1B6 (data sheet, and user manual "TLV493D-A1B6 3D Magnetic Sensor").
//
// periph's driver looks neither at the frame counter, so that a chip that has stopped is read for ever,
// nor at the flags that say that the axes belong together.
func tlv493d() sensors.Driver {
	return sensors.Driver{
		Spec: sensors.Spec{
			Name: "tlv493d", Doc: "magnetic field in three directions, up to 130 mT, and the chip's temperature",
			Chip: "Infineon TLV493D-A1B6", Datasheet: "TLV493D-A1B6 user manual",
			Wiring: "VDD 2.8 to 3.5 V; SDA, SCL with pull-ups to 3.3 V; SDA high at power-on for 0x5E, low for 0x1F",
			Buses:  []sensors.BusKind{sensors.BusI2C}, Addresses: []uint16{0x5E, 0x1F},
			Quantities: []sensors.Quantity{
				{Name: "magnetic_field_x", Unit: "mT", Min: -200.8, Max: 200.8}, {Name: "magnetic_field_y", Unit: "mT", Min: -200.8, Max: 200.8}, {Name: "magnetic_field_z", Unit: "mT", Min: -200.8, Max: 200.8},
				{Name: "temperature", Unit: "°C", Min: -40, Max: 125},
			},
			Timeout: time.Second,
		},
		Open: openTLV493D,
	}
}

// The chip has registers for reading, which are always read from 0 on, and others for writing, which
// are always written from 0 on (user manual, chapter "Registers").
const (
	tlv493dRead = 10 // registers

	tlv493dLowPower = 0x01 // MOD1: measures by itself
	tlv493dPeriod   = 0x40 // MOD2: every 12 ms, not 100
	tlv493dParity   = 0x80 // MOD1: makes the number of ones odd
	tlv493dFactory1 = 0x18 // what of registers 7 to 9 has to be written back
	tlv493dFactory3 = 0x1F

	tlv493dFrame   = 0x0C // register 3: counts measurements
	tlv493dChannel = 0x03 // register 3: 0 when all axes are of one measurement
	tlv493dTest    = 0x40 // register 5: T, in test mode
	tlv493dFuses   = 0x20 // register 5: FF, the parity of settings and fuses is right
	tlv493dDown    = 0x10 // register 5: PD, no conversion runs
)

type tlv493dSensor struct{ *chip }

func openTLV493D(ctx context.Context, c sensors.Config, buses *bus.Set) (sensors.Sensor, error) {
	dev, err := openI2C(c, buses)
	if err != nil {
		return nil, err
	}
	b, err := dev.tx(ctx, nil, tlv493dRead)
	if err != nil {
		return nil, err
	}
	if err := dev.write(ctx, tlv493dSettings([3]byte(b[7:]))...); err != nil {
		return nil, err
	}
	return &tlv493dSensor{dev}, nil
}

// tlv493dSettings are the write registers 0 to 3 for the factory's settings in read registers 7 to 9.
func tlv493dSettings(factory [3]byte) []byte {
	w := []byte{0, factory[0]&tlv493dFactory1 | tlv493dLowPower, factory[1], factory[2]&tlv493dFactory3 | tlv493dPeriod}
	ones := 0
	for _, v := range w {
		ones += bits.OnesCount8(v)
	}
	if ones%2 == 0 {
		w[1] |= tlv493dParity
	}
	return w
}

func (s *tlv493dSensor) Sense(ctx context.Context) ([]sensors.Measurement, error) {
	first, err := s.tx(ctx, nil, tlv493dRead)
	if err != nil {
		return nil, err
	}
	// The measurement after the next that ends has begun after now. A chip that has lost its settings
	// does not count.
	var b []byte
	frame, changes := first[3]&tlv493dFrame, 0
	limit, cancel := sensors.WithRunTime(ctx, 150*time.Millisecond, sensors.ErrRestarted)
	defer cancel()
	err = poll(limit, 4*time.Millisecond, func() (bool, error) {
		if b, err = s.tx(ctx, nil, tlv493dRead); err != nil {
			return false, err
		}
		if now := b[3] & tlv493dFrame; now != frame {
			frame = now
			changes++
		}
		return changes >= 2 && b[3]&tlv493dChannel == 0 && b[5]&tlv493dDown != 0, nil
	})
	if err != nil {
		return nil, err
	}
	if b[5]&tlv493dTest != 0 || b[5]&tlv493dFuses == 0 {
		return nil, fmt.Errorf("%w: the chip is in test mode or its fuses have no parity: register 5 is %#02x", bus.ErrTemporary, b[5])
	}
	if b[3]&0xF0 == 0 && b[6] == 0 { // -349 °C: nothing was measured since power-on
		return nil, sensors.ErrRestarted
	}
	x, y, z, t := decodeTLV493D([7]byte(b))
	return []sensors.Measurement{{Quantity: "magnetic_field_x", Value: x, Unit: "mT"}, {Quantity: "magnetic_field_y", Value: y, Unit: "mT"}, {Quantity: "magnetic_field_z", Value: z, Unit: "mT"}, {Quantity: "temperature", Value: t, Unit: "°C"}}, nil
}

// decodeTLV493D returns mT and °C: 12 bits each, of 0.098 mT and 1.1 °C, where 340 is 25 °C.
func decodeTLV493D(b [7]byte) (x, y, z, celsius float64) {
	join := func(upper, lower byte) float64 { return float64(int16(uint16(upper)<<8|uint16(lower)<<4) >> 4) }
	t := int16(uint16(b[3])<<8&0xF000|uint16(b[6])<<4) >> 4
	return join(b[0], b[4]>>4) * 0.098, join(b[1], b[4]&0xF) * 0.098, join(b[2], b[5]&0xF) * 0.098, float64(t-340)*1.1 + 25
}
