package chips

import (
	"context"
	"fmt"
	"time"

	"holdfast/sensors"
	"holdfast/sensors/bus"
)

// aht20 is the Aosong (ASAIR) AHT20 (product manual, sections 5.3 and 5.4).
//
// periph's driver checks the checksum of a chip that is still busy, and its waits do not end with the
// reading.
func aht20() sensors.Driver {
	return sensors.Driver{
		Spec: sensors.Spec{
			Name: "aht20", Doc: "air temperature and humidity",
			Chip: "Aosong (ASAIR) AHT20, AHT21, AHT25, DHT20", Datasheet: "AHT20 product manual",
			Wiring: "VDD 2 to 5.5 V (3.3 V on a Pi); SDA, SCL with pull-ups to 3.3 V; the address is fixed",
			Buses:  []sensors.BusKind{sensors.BusI2C}, Addresses: []uint16{0x38},
			Quantities: []sensors.Quantity{{Name: "temperature", Unit: "°C", Min: -40, Max: 85}, {Name: "humidity", Unit: "%", Max: 100}},
			Timeout:    time.Second,
		},
		Open: openAHT20,
	}
}

// Bits of the status byte.
const (
	aht20Busy       = 0x80
	aht20Calibrated = 0x08
)

type aht20Sensor struct{ *chip }

func openAHT20(ctx context.Context, c sensors.Config, buses *bus.Set) (sensors.Sensor, error) {
	dev, err := openI2C(c, buses)
	if err != nil {
		return nil, err
	}
	for try := 0; ; try++ {
		status, err := dev.read(ctx, 0x71, 1)
		if err != nil {
			return nil, err
		}
		if status[0]&aht20Calibrated != 0 {
			return &aht20Sensor{dev}, nil
		}
		if try == 1 {
			return nil, fmt.Errorf("%w: the chip does not load its calibration: status %#02x", sensors.ErrPermanent, status[0])
		}
		if err := dev.write(ctx, 0xBE, 0x08, 0x00); err != nil { // initialise
			return nil, err
		}
		if err := wait(ctx, 10*time.Millisecond); err != nil {
			return nil, err
		}
	}
}

func (s *aht20Sensor) Sense(ctx context.Context) ([]sensors.Measurement, error) {
	if err := s.write(ctx, 0xAC, 0x33, 0x00); err != nil { // measure
		return nil, err
	}
	if err := wait(ctx, 80*time.Millisecond); err != nil {
		return nil, err
	}
	var b []byte
	err := poll(ctx, 10*time.Millisecond, func() (done bool, err error) {
		b, err = s.tx(ctx, nil, 7)
		return err == nil && b[0]&aht20Busy == 0, err
	})
	if err != nil {
		return nil, err
	}
	t, h, err := decodeAHT20([7]byte(b))
	if err != nil {
		return nil, err
	}
	return []sensors.Measurement{{Quantity: "temperature", Value: t, Unit: "°C"}, {Quantity: "humidity", Value: h, Unit: "%"}}, nil
}

// decodeAHT20 takes °C and % out of an answer: status, 20 bits each of humidity and temperature, and a
// checksum (section 6: signal conversion).
func decodeAHT20(b [7]byte) (celsius, percent float64, err error) {
	if err := checkSum("the measurement", uint32(b[6]), uint32(crcSensirion(b[:6]))); err != nil {
		return 0, 0, err
	}
	if b[0]&aht20Calibrated == 0 {
		return 0, 0, sensors.ErrRestarted
	}
	h := uint32(b[1])<<12 | uint32(b[2])<<4 | uint32(b[3])>>4
	t := uint32(b[3]&0xF)<<16 | uint32(b[4])<<8 | uint32(b[5])
	if h == 0 && t == 0 { // nothing was measured since power-on
		return 0, 0, sensors.ErrRestarted
	}
	return float64(t)*200/(1<<20) - 50, float64(h) * 100 / (1 << 20), nil
}
