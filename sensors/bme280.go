package sensors

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"periph.io/x/conn/v3/physic"
	"periph.io/x/devices/v3/bmxx80"

	"holdfast/sensors/bus"
)

// bme280 is the Bosch BME280, or a BMP280, which has no humidity (data sheet BST-BME280-DS002).
func bme280() Driver {
	return Driver{
		Name: "bme280", Doc: "Bosch BME280 and BMP280: air temperature, pressure and, BME280 only, humidity",
		Bus: BusI2C, Addresses: []uint16{0x76, 0x77},
		Quantities: []Quantity{{"temperature", "°C"}, {"humidity", "%"}, {"pressure", "hPa"}},
		Timeout:    2 * time.Second,
		Open:       openBME280,
	}
}

// regCtrlHum holds the oversampling of humidity, and zero after power was off (section 5.4.3).
const regCtrlHum = 0xF2

type bme280Sensor struct {
	conn  *bus.Conn
	addr  uint16
	dev   *bmxx80.Dev
	humid bool
}

func openBME280(ctx context.Context, c Config, buses *bus.Set) (Sensor, error) {
	b, err := buses.I2C(c.Bus)
	if err != nil {
		return nil, err
	}
	s := &bme280Sensor{conn: b.Conn(), addr: c.Address}
	s.conn.Begin(ctx)
	opts := bmxx80.DefaultOpts
	if s.dev, err = bmxx80.NewI2C(s.conn, c.Address, &opts); err != nil {
		return nil, s.conn.Cause(err)
	}
	s.humid = strings.HasPrefix(s.dev.String(), "BME280")
	return s, nil
}

func (s *bme280Sensor) Sense(ctx context.Context) ([]Measurement, error) {
	s.conn.Begin(ctx)
	var e physic.Env
	if err := s.dev.Sense(&e); err != nil {
		return nil, s.conn.Cause(err)
	}
	m := []Measurement{
		{"temperature", e.Temperature.Celsius(), "°C"},
		{"pressure", float64(e.Pressure) / float64(100*physic.Pascal), "hPa"},
	}
	if s.humid {
		// periph sets this register only once. If the chip lost power since then, the measurement of
		// humidity was skipped, and what periph made of it is no humidity.
		v := make([]byte, 1)
		if err := s.conn.Tx(s.addr, []byte{regCtrlHum}, v); err != nil {
			return nil, err
		}
		if v[0]&7 != byte(bmxx80.DefaultOpts.Humidity) {
			return nil, errors.New("the chip has lost its settings: its power was interrupted")
		}
		m = append(m, Measurement{"humidity", float64(e.Humidity) / float64(physic.PercentRH), "%"})
	}
	// Section 1.1: operating range. Skipped or disturbed measurements end outside of it.
	for _, r := range []struct{ value, low, high float64 }{
		{m[0].Value, -40, 85}, {m[1].Value, 300, 1100},
	} {
		if r.value < r.low || r.value > r.high {
			return nil, fmt.Errorf("implausible: %.2f, want %v to %v", r.value, r.low, r.high)
		}
	}
	return m, nil
}

func (s *bme280Sensor) Close() error { return nil }
