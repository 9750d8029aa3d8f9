package chips

import (
	"context"
	"fmt"
	"time"

	"periph.io/x/conn/v3"
	"periph.io/x/conn/v3/physic"
	"periph.io/x/conn/v3/spi"

	"holdfast/sensors"
	"holdfast/sensors/bus"
)

// bme280 is the Bosch BME280 (data sheet BST-BME280-DS002). Sections named below are those of this
// data sheet.
//
// periph's driver polls the busy bit without end, does not see that the chip has lost its settings,
// and takes the upper bytes of H4 and H5 for unsigned.
func bme280() sensors.Driver {
	return sensors.Driver{
		Spec: sensors.Spec{
			Name: "bme280", Doc: "air temperature, humidity and pressure",
			Chip: "Bosch BME280", Datasheet: "BST-BME280-DS002",
			Wiring: "VDD and VDDIO 3.3 V. I2C: SDA, SCL with pull-ups (most boards have them), CSB to VDDIO, SDO low for 0x76, high for 0x77. SPI: SDI to MOSI, SDO to MISO, CSB to a chip select",
			Buses:  []sensors.BusKind{sensors.BusI2C, sensors.BusSPI}, Addresses: []uint16{0x76, 0x77},
			// Section 1: operating range.
			Quantities: []sensors.Quantity{{Name: "temperature", Unit: "°C", Min: -40, Max: 85}, {Name: "humidity", Unit: "%", Max: 100}, {Name: "pressure", Unit: "hPa", Min: 300, Max: 1100}},
			Timeout:    time.Second,
		},
		Identify: identifyBMx280("BME280", 0x60),
		Open:     openBMx280(0x60),
	}
}

// bmp280 is the Bosch BMP280 (data sheet BST-BMP280-DS001): a BME280 without humidity.
func bmp280() sensors.Driver {
	return sensors.Driver{
		Spec: sensors.Spec{
			Name: "bmp280", Doc: "air temperature and pressure",
			Chip: "Bosch BMP280", Datasheet: "BST-BMP280-DS001",
			Wiring: "VDD and VDDIO 3.3 V. I2C: SDA, SCL with pull-ups (most boards have them), CSB to VDDIO, SDO low for 0x76, high for 0x77. SPI: SDI to MOSI, SDO to MISO, CSB to a chip select",
			Buses:  []sensors.BusKind{sensors.BusI2C, sensors.BusSPI}, Addresses: []uint16{0x76, 0x77},
			Quantities: []sensors.Quantity{{Name: "temperature", Unit: "°C", Min: -40, Max: 85}, {Name: "pressure", Unit: "hPa", Min: 300, Max: 1100}},
			Timeout:    time.Second,
		},
		Identify: identifyBMx280("BMP280", 0x58, 0x57, 0x56),
		Open:     openBMx280(0x58, 0x57, 0x56), // BST-BMP280-DS001, section 4.3.1, and samples
	}
}

// Registers (section 5.3).
const (
	bmx280Calib    = 0x88
	bmx280ID       = 0xD0
	bmx280Reset    = 0xE0
	bmx280CalibHum = 0xE1
	bmx280CtrlHum  = 0xF2
	bmx280Status   = 0xF3
	bmx280CtrlMeas = 0xF4
	bmx280Config   = 0xF5
)

const (
	bmx280Oversampling = 3 // 4 times, of each quantity (section 5.4.3)
	bmx280Forced       = 1 // measure once, then sleep (section 5.4.5)
	bmx280Measuring    = 1 << 3
	bmx280Loading      = 1 << 0 // the calibration is being copied (section 5.4.4)
	// bmx280Mark is a standby time, which forced mode does not use, with the filter off. Power-on clears it.
	bmx280Mark = 5 << 5
)

// bmx280Time is how long a measurement takes at most (section 9.1): 1.25 ms, and for each quantity
// 2.3 ms for every sample, with 0.575 ms more for pressure and humidity.
const bmx280Time = (1250 + 3*4*2300 + 2*575) * time.Microsecond

type bmx280Sensor struct {
	*chip
	cal   calibrationBMx280
	humid bool
}

func identifyBMx280(name string, ids ...byte) func(conn.Conn) (string, error) {
	return func(dev conn.Conn) (string, error) {
		c := []byte{0}
		if err := dev.Tx([]byte{bmx280ID}, c); err != nil {
			return "", err
		}
		for _, id := range ids {
			if c[0] == id {
				return name, nil
			}
		}
		return "", nil
	}
}

func openBMx280(ids ...byte) func(context.Context, sensors.Config, *bus.Set) (sensors.Sensor, error) {
	return func(ctx context.Context, c sensors.Config, buses *bus.Set) (sensors.Sensor, error) {
		dev, err := openEither(c, buses, 10*physic.MegaHertz, spi.Mode0, 0x80) // section 6.3
		if err != nil {
			return nil, err
		}
		s := &bmx280Sensor{chip: dev, humid: ids[0] == 0x60}
		if err := s.setUp(ctx, ids); err != nil {
			dev.Close()
			return nil, err
		}
		return s, nil
	}
}

func (s *bmx280Sensor) setUp(ctx context.Context, ids []byte) error {
	if id, err := s.identify(ctx, bmx280ID, ids...); err != nil {
		switch {
		case id == 0x58 && s.humid:
			return fmt.Errorf("%w: this is a BMP280, which has no humidity: set driver: bmp280", sensors.ErrPermanent)
		case id == 0x60:
			return fmt.Errorf("%w: this is a BME280: set driver: bme280", sensors.ErrPermanent)
		}
		return err
	}
	if err := s.write(ctx, bmx280Reset, 0xB6); err != nil { // section 5.4.2
		return err
	}
	if err := s.calibration(ctx); err != nil {
		return err
	}
	return s.write(ctx, bmx280Config, bmx280Mark)
}

// bmx280StartUp is how long the chip needs at most after a reset (section 1.1). Until then its registers may be empty, and
// the flag that says that the calibration is being copied may not be set yet: it is only asked for afterwards.
const bmx280StartUp = 2 * time.Millisecond

// calibration takes the calibration once it is copied, plausible, and the same twice. It may be tried some times.
func (s *bmx280Sensor) calibration(ctx context.Context) error {
	var before [33]byte
	var implausible error
	for try := range 10 {
		if err := wait(ctx, bmx280StartUp); err != nil {
			return err
		}
		err := poll(ctx, bmx280StartUp, func() (bool, error) {
			status, err := s.read(ctx, bmx280Status, 1)
			return err == nil && status[0]&bmx280Loading == 0, err
		})
		if err != nil {
			return err
		}
		tp, err := s.read(ctx, bmx280Calib, 26)
		if err != nil {
			return err
		}
		h := make([]byte, 7)
		if s.humid {
			if h, err = s.read(ctx, bmx280CalibHum, 7); err != nil {
				return err
			}
		}
		now := [33]byte(append(tp, h...))
		s.cal = newCalibrationBMx280([26]byte(tp), [7]byte(h))
		if implausible = s.cal.plausible(s.humid); implausible == nil && try > 0 && now == before {
			return nil
		}
		before = now
	}
	if implausible != nil {
		return implausible
	}
	return fmt.Errorf("%w: the chip's calibration reads differently each time: check the wiring", bus.ErrTemporary)
}

func (s *bmx280Sensor) Sense(ctx context.Context) ([]sensors.Measurement, error) {
	hum, meas := byte(0), byte(bmx280Oversampling<<5|bmx280Oversampling<<2)
	if s.humid {
		hum = bmx280Oversampling
		if err := s.write(ctx, bmx280CtrlHum, hum); err != nil { // counts from the next write of ctrl_meas on
			return nil, err
		}
	}
	if err := s.write(ctx, bmx280CtrlMeas, meas|bmx280Forced); err != nil {
		return nil, err
	}
	if err := wait(ctx, bmx280Time); err != nil {
		return nil, err
	}
	// From ctrl_hum to the last byte of humidity in one read, so that all of it belongs together
	// (section 4).
	var b []byte
	err := poll(ctx, time.Millisecond, func() (bool, error) {
		var err error
		if b, err = s.read(ctx, bmx280CtrlHum, 13); err == nil {
			err = s.silent(b[1])
		}
		return err == nil && b[1]&bmx280Measuring == 0, err
	})
	if err != nil {
		return nil, err
	}
	if s.humid && b[0]&7 != hum || b[2] != meas || b[3] != bmx280Mark {
		return nil, sensors.ErrRestarted
	}
	rawP, rawT, rawH := raw20(b[5:]), raw20(b[8:]), int32(be16(b[11:]))
	if rawT == 0x80000 || rawP == 0x80000 || s.humid && rawH == 0x8000 {
		return nil, sensors.ErrRestarted // nothing was measured since power-on
	}
	t, fine := s.cal.temperature(rawT)
	m := []sensors.Measurement{
		{Quantity: "temperature", Value: float64(t) / 100, Unit: "°C"},
		{Quantity: "pressure", Value: float64(s.cal.pressure(rawP, fine)) / 256 / 100, Unit: "hPa"},
	}
	if s.humid {
		m = append(m, sensors.Measurement{Quantity: "humidity", Value: float64(s.cal.humidity(rawH, fine)) / 1024, Unit: "%"})
	}
	return m, nil
}

// raw20 is a measurement of 20 bits, the upper ones first (section 5.4.7).
func raw20(b []byte) int32 { return int32(b[0])<<12 | int32(b[1])<<4 | int32(b[2])>>4 }
