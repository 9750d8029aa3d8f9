package chips

import (
	"context"
	"errors"
	"fmt"
	"time"

	"holdfast/sensors"
	"holdfast/sensors/bus"
)

// am2320 is the Aosong AM2320 (product manual, section 8: I2C).
//
// periph's driver takes the sign bit of a temperature for a value, returns the measurement of the
// reading before, however long ago that was, and tries for 20 s when nothing is there.
func am2320() sensors.Driver {
	return sensors.Driver{
		Spec: sensors.Spec{
			Name: "am2320", Doc: "air temperature and humidity",
			Chip: "Aosong AM2320, AM2321", Datasheet: "AM2320 product manual",
			Wiring: "VDD 3.1 to 5.5 V (3.3 V on a Pi); SDA, SCL with pull-ups to 3.3 V; the address is fixed",
			Buses:  []sensors.BusKind{sensors.BusI2C}, Addresses: []uint16{0x5C},
			Quantities: []sensors.Quantity{{Name: "temperature", Unit: "°C", Min: -40, Max: 80}, {Name: "humidity", Unit: "%", Max: 100}},
			Timeout:    time.Second,
		},
		Identify: identifyAM2320,
		Open:     openAM2320,
	}
}

// am2320Interval is the least time between two readings. A reading starts a measurement and returns
// the one before.
const am2320Interval = 2 * time.Second

type am2320Sensor struct {
	*chip
	started time.Time // of a measurement that is not read yet
}

func openAM2320(ctx context.Context, c sensors.Config, buses *bus.Set) (sensors.Sensor, error) {
	dev, err := openI2C(c, buses)
	if err != nil {
		return nil, err
	}
	s := &am2320Sensor{chip: dev}
	_, err = s.registers(ctx)
	s.started = time.Now()
	return s, err
}

func (s *am2320Sensor) Sense(ctx context.Context) ([]sensors.Measurement, error) {
	fresh := !s.started.IsZero() && time.Since(s.started) < 2*am2320Interval
	if left := am2320Interval - time.Since(s.started); fresh && left > 0 {
		return nil, &sensors.NotYet{After: left, Why: "measuring"}
	}
	b, err := s.registers(ctx)
	if err != nil {
		return nil, err
	}
	if !fresh {
		s.started = time.Now()
		return nil, &sensors.NotYet{After: am2320Interval, Why: "measuring"}
	}
	s.started = time.Time{}
	t, h, err := decodeAM2320(b)
	if err != nil {
		return nil, err
	}
	return []sensors.Measurement{{Quantity: "temperature", Value: t, Unit: "°C"}, {Quantity: "humidity", Value: h, Unit: "%"}}, nil
}

// registers reads humidity and temperature, which start the next measurement.
func (s *am2320Sensor) registers(ctx context.Context) ([8]byte, error) {
	// The chip sleeps and answers nothing to the call that wakes it.
	if err := s.write(ctx, 0); err != nil && !errors.Is(err, bus.ErrAbsent) {
		return [8]byte{}, err
	}
	if err := wait(ctx, time.Millisecond); err != nil { // 0.8 to 3 ms
		return [8]byte{}, err
	}
	if err := s.write(ctx, 3, 0, 4); err != nil { // read registers, from 0, four of them
		return [8]byte{}, err
	}
	if err := wait(ctx, 2*time.Millisecond); err != nil { // at least 1.5 ms
		return [8]byte{}, err
	}
	for tries := 0; ; tries++ {
		b, err := s.tx(ctx, nil, 8)
		if err == nil {
			return [8]byte(b), nil
		}
		if !errors.Is(err, bus.ErrAbsent) || tries == 4 { // it refuses its address until the answer is there
			return [8]byte{}, err
		}
		if err := wait(ctx, time.Millisecond); err != nil {
			return [8]byte{}, err
		}
	}
}

// decodeAM2320 takes °C and % out of an answer: function, length, humidity, temperature with a sign
// bit, each in tenths, and a CRC-16 with its lower byte first.
func decodeAM2320(b [8]byte) (celsius, percent float64, err error) {
	if err := checkSum("the measurement", uint32(le16(b[6:])), uint32(crcModbus(b[:6]))); err != nil {
		return 0, 0, err
	}
	if b[0] != 3 || b[1] != 4 {
		return 0, 0, fmt.Errorf("%w: the answer begins with % x, want 03 04: this is no AM2320", sensors.ErrPermanent, b[:2])
	}
	percent = float64(be16(b[2:])) / 10
	celsius = float64(uint16(b[4]&0x7F)<<8|uint16(b[5])) / 10
	if b[4]&0x80 != 0 {
		celsius = -celsius
	}
	return celsius, percent, nil
}

// crcModbus is the CRC-16 of Modbus: polynomial 0x8005, reflected, start 0xFFFF.
func crcModbus(b []byte) uint16 {
	crc := uint16(0xFFFF)
	for _, v := range b {
		crc ^= uint16(v)
		for range 8 {
			if crc&1 != 0 {
				crc = crc>>1 ^ 0xA001
			} else {
				crc >>= 1
			}
		}
	}
	return crc
}
