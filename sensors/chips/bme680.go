package chips

import (
	"context"
	"errors"
	"fmt"
	"time"

	"periph.io/x/conn/v3"

	"holdfast/sensors"
	"holdfast/sensors/bus"
)

// bme680 is the Bosch BME680 (data sheet BST-BME680-DS001), BME688 (BST-BME688-DS000) or BME690 (BST-BME690-DS001):
// ±1 °C (the heater beside it warms it), ±3 %, ±0.6 hPa. All three have the same identification; a register with the
// variant tells them apart. A BME690 has other formulas and 24 bits. The gas resistance falls when there are more organic
// compounds; it has no absolute meaning, and drifts for the first days. Bosch's air quality index (BSEC)
// is not published and not made here.
func bme680() sensors.Driver {
	quantities := []sensors.Quantity{
		{Name: "temperature", Unit: "°C", Min: -40, Max: 85}, {Name: "humidity", Unit: "%", Max: 100}, {Name: "pressure", Unit: "hPa", Min: 300, Max: 1100},
		{Name: "gas_resistance", Unit: "Ω", Min: 1, Max: 200e6},
	}
	return sensors.Driver{
		Spec: sensors.Spec{
			Name: "bme680", Doc: "air temperature, humidity, pressure and gas resistance",
			Chip: "Bosch BME680, BME688, BME690", Datasheet: "BST-BME680-DS001, BST-BME688-DS000, BST-BME690-DS001",
			Wiring: "VDD and VDDIO 3.3 V; SDA, SCL with pull-ups (most boards have them); CSB to VDDIO; SDO low for 0x76, high for 0x77",
			Buses:  []sensors.BusKind{sensors.BusI2C}, Addresses: []uint16{0x76, 0x77},
			Quantities: quantities,
			Options: []sensors.Option{
				{Name: "heater_temperature", Kind: sensors.OptionInt, Default: int64(320), Min: 0, Max: 400,
					Doc: "of the gas sensor's hot plate, in °C, 200 to 400; 0 is off, without gas resistance"},
				{Name: "heater_time", Kind: sensors.OptionDuration, Default: 150 * time.Millisecond,
					Doc: "how long it is heated before the gas is measured, 1ms to 4032ms"},
			},
			Timeout: 6 * time.Second,
		},
		QuantitiesOf: func(options map[string]any) []sensors.Quantity {
			if options["heater_temperature"] == int64(0) {
				return quantities[:3]
			}
			return quantities
		},
		Check: func(c sensors.Config) error {
			heat, heating := c.Options["heater_temperature"].(int64), c.Options["heater_time"].(time.Duration)
			if heat != 0 && heat < 200 {
				return fmt.Errorf("heater_temperature: got %d, want 0, or 200 to 400 °C", heat)
			}
			if heating < time.Millisecond || heating > 4032*time.Millisecond {
				return fmt.Errorf("heater_time: got %v, want 1ms to 4.032s", heating)
			}
			return nil
		},
		Identify: func(dev conn.Conn) (string, error) {
			id, variant := []byte{0}, []byte{0}
			err := errors.Join(dev.Tx([]byte{bme680ID}, id), dev.Tx([]byte{bme680Variant}, variant))
			if err != nil || id[0] != 0x61 {
				return "", err
			}
			return bme680Variants[variant[0]], nil
		},
		Open: openBME680,
	}
}

// Registers (data sheet, memory map).
const (
	bme680Field   = 0x1D // status, and the bytes of one measurement
	bme680ResHeat = 0x5A
	bme680GasWait = 0x64
	bme680CtrlGas = 0x70 // and 0x71
	bme680CtrlHum = 0x72
	bme680Ctrl    = 0x74
	bme680ID      = 0xD0
	bme680Reset   = 0xE0
	bme680Variant = 0xF0
)

// bme680Variants are the chips that have the identification, by the variant register (Bosch's BME68x and BME690 APIs).
var bme680Variants = map[byte]string{0: "BME680", 1: "BME688", bme690Variant: "BME690"}

const bme690Variant = 2

// Oversampling (data sheet, ctrl_hum and ctrl_meas): temperature 8 times, pressure 4 times, humidity twice.
const (
	bme680OsHum  = 2
	bme680OsTP   = 4<<5 | 3<<2
	bme680Forced = 1
)

type bme680Sensor struct {
	*chip
	conversion
	calib   bme680Calib
	calib90 *bme690Calib // of a BME690; nil for the others
	high    bool         // BME688, BME690: gas is elsewhere, and converted otherwise
	heat    int64        // °C, 0 is off
	heating time.Duration
	ambient float64 // °C, as last measured
}

func openBME680(ctx context.Context, c sensors.Config, buses *bus.Set) (sensors.Sensor, error) {
	ch, err := openI2C(c, buses)
	if err != nil {
		return nil, err
	}
	s := &bme680Sensor{chip: ch, ambient: 25,
		heat: c.Options["heater_temperature"].(int64), heating: c.Options["heater_time"].(time.Duration)}
	if _, err := s.identify(ctx, bme680ID, 0x61); err != nil {
		return nil, err
	}
	if err := s.write(ctx, bme680Reset, 0xB6); err != nil {
		return nil, err
	}
	if err := wait(ctx, 10*time.Millisecond); err != nil {
		return nil, err
	}
	variant, err := s.read(ctx, bme680Variant, 1)
	if err != nil {
		return nil, err
	}
	if bme680Variants[variant[0]] == "" {
		return nil, fmt.Errorf("%w: the chip is of the BME680's family, of variant %d, whose formulas this version does not have: want BME680, BME688 or BME690", sensors.ErrPermanent, variant[0])
	}
	s.high = variant[0] != 0
	block, err := s.calibration(ctx)
	if err != nil {
		return nil, err
	}
	s.calib = parseBME680Calib(block)
	if variant[0] == bme690Variant {
		c := parseBME690Calib(block)
		s.calib90 = &c
	}
	if err := plausibleBME680(block); err != nil {
		return nil, err
	}
	return s, s.write(ctx, bme680CtrlHum, bme680OsHum)
}

// calibration reads all of it, twice: no checksum says that a transfer was undisturbed.
func (s *bme680Sensor) calibration(ctx context.Context) (block [42]byte, err error) {
	for pass := range 2 {
		at, before := 0, block
		for _, part := range []struct {
			reg byte
			n   int
		}{{0x8A, 23}, {0xE1, 14}, {0x00, 5}} {
			b, err := s.read(ctx, part.reg, part.n)
			if err != nil {
				return block, err
			}
			at += copy(block[at:], b)
		}
		block[38], block[40] = 0, 0 // no part of it
		if pass == 1 && block != before {
			return block, fmt.Errorf("%w: the chip's calibration reads differently each time: check the wiring", bus.ErrTemporary)
		}
	}
	return block, nil
}

// plausibleBME680 finds a calibration that no chip has: one that is empty or missing in parts.
func plausibleBME680(b [42]byte) error {
	for name, at := range map[string]int{"T1": 31, "T2": 0, "P1": 4, "P2": 6, "P4": 10, "P5": 12, "P8": 18, "G2": 33} {
		if v := le16(b[at:]); v == 0 || v == 0xFFFF {
			return fmt.Errorf("%w: the chip's calibration has %#04x for %s: it is broken, or was disturbed", bus.ErrTemporary, v, name)
		}
	}
	if b[23] == 0 && b[24] == 0 && b[25] == 0 {
		return fmt.Errorf("%w: the chip's calibration has nothing for humidity: it is broken, or was disturbed", bus.ErrTemporary)
	}
	return nil
}

func (s *bme680Sensor) Close() error { return nil }

func (s *bme680Sensor) Sense(ctx context.Context) ([]sensors.Measurement, error) {
	// Each of 8+4+2 cycles takes 1.963 ms, switching and the gas measurement 9 times 0.477 ms, and
	// waking up 1 ms (Bosch's BME68x API, bme68x_get_meas_dur).
	takes := 14*1963*time.Microsecond + 9*477*time.Microsecond + time.Millisecond
	if s.heat != 0 {
		takes += s.heating
	}
	start := func() error { return s.trigger(ctx) }
	var b []byte
	err := s.await(ctx, takes, start, func() (ok bool, err error) {
		b, ok, err = s.result(ctx)
		return ok, err
	})
	if err != nil {
		return nil, err
	}
	return s.convert([17]byte(b))
}

// trigger sets the heater up and starts one measurement (data sheet, "Quick start"). The bytes are
// pairs of a register and its value.
func (s *bme680Sensor) trigger(ctx context.Context) error {
	// Everything is written each time, but for this: a chip that has lost it has lost power, and may be
	// another one, with another calibration.
	if v, err := s.read(ctx, bme680CtrlHum, 1); err != nil {
		return err
	} else if v[0]&7 != bme680OsHum {
		return sensors.ErrRestarted
	}
	run := byte(1 << 4) // run_gas
	if s.high {
		run = 2 << 4
	}
	if s.heat == 0 {
		return s.write(ctx, bme680CtrlGas, 8, bme680CtrlGas+1, 0, bme680Ctrl, bme680OsTP|bme680Forced)
	}
	return s.write(ctx, bme680ResHeat, s.calib.heater(float64(s.heat), s.ambient), bme680GasWait, bme680Wait(s.heating),
		bme680CtrlGas, 0, bme680CtrlGas+1, run, bme680Ctrl, bme680OsTP|bme680Forced)
}

// result returns the bytes of the measurement, and whether it has ended.
func (s *bme680Sensor) result(ctx context.Context) ([]byte, bool, error) {
	// The chip goes back to sleep by itself.
	ctrl, err := s.read(ctx, bme680Ctrl, 1)
	if err == nil && ctrl[0]&^3 != bme680OsTP {
		err = sensors.ErrRestarted
	}
	if err != nil || ctrl[0]&3 != 0 {
		return nil, false, err
	}
	b, err := s.read(ctx, bme680Field, 17)
	// new_data is bit 7, gas_measuring 6 and measuring 5.
	return b, err == nil && b[0]&0xE0 == 0x80, err
}

// convert turns a measurement's bytes into values (data sheet, memory map from 0x1D on).
func (s *bme680Sensor) convert(b [17]byte) ([]sensors.Measurement, error) {
	adcP := int(b[2])<<12 | int(b[3])<<4 | int(b[4])>>4
	adcT := int(b[5])<<12 | int(b[6])<<4 | int(b[7])>>4
	adcH := int(b[8])<<8 | int(b[9])
	if adcP == 0x80000 || adcT == 0x80000 || adcH == 0x8000 {
		return nil, sensors.ErrRestarted
	}
	var t, rh, pa float64
	if c := s.calib90; c != nil { // it fills the last four bits, too
		t = c.temperature(adcT<<4 | int(b[7]&15))
		rh, pa = c.humidity(adcH, t), c.pressure(adcP<<4|int(b[4]&15), t)
	} else {
		fine := s.calib.temperature(adcT)
		t, rh = fine/5120, s.calib.humidity(adcH, fine)
		var err error
		if pa, err = s.calib.pressure(adcP, fine); err != nil {
			return nil, err
		}
	}
	m := []sensors.Measurement{
		{Quantity: "temperature", Value: t, Unit: "°C"},
		{Quantity: "humidity", Value: rh, Unit: "%"},
		{Quantity: "pressure", Value: pa / 100, Unit: "hPa"},
	}
	s.ambient = t
	if s.heat == 0 {
		return m, nil
	}
	msb, lsb := b[13], b[14]
	if s.high {
		msb, lsb = b[15], b[16]
	}
	switch {
	case lsb&0x20 == 0: // gas_valid
		return nil, fmt.Errorf("%w: the gas was not measured", bus.ErrTemporary)
	case lsb&0x10 == 0: // heat_stab
		return nil, fmt.Errorf("the hot plate did not reach %d °C within %v: raise heater_time", s.heat, s.heating)
	}
	adcG := int(msb)<<2 | int(lsb)>>6
	ohm := s.calib.gas(adcG, lsb&15)
	if s.high {
		ohm = bme688Gas(adcG, lsb&15)
	}
	return append(m, sensors.Measurement{Quantity: "gas_resistance", Value: ohm, Unit: "Ω"}), nil
}
