package sensors

import (
	"context"
	"strings"
	"time"

	"periph.io/x/conn/v3"
	"periph.io/x/conn/v3/physic"
	"periph.io/x/devices/v3/bmxx80"

	"holdfast/sensors/bus"
)

// bme280 is the Bosch BME280, or a BMP280, which has no humidity (data sheet BST-BME280-DS002).
func bme280() Driver {
	return Driver{
		Name: "bme280", Doc: "air temperature, pressure and, BME280 only, humidity",
		Chip: "Bosch BME280, BMP280", Datasheet: "BST-BME280-DS002 rev 1.6, BST-BMP280-DS001 rev 1.14",
		Wiring: "VDD and VDDIO 3.3 V; SDA, SCL with pull-ups of 4.7 kΩ (most boards have them); CSB to VDDIO for I2C; SDO low for 0x76, high for 0x77",
		Buses:  []BusKind{BusI2C}, Addresses: []uint16{0x76, 0x77},
		// Section 1: operating range. Skipped or disturbed measurements end outside of it.
		Quantities: []Quantity{{"temperature", "°C", -40, 85}, {"humidity", "%", 0, 100}, {"pressure", "hPa", 300, 1100}},
		Timeout:    2 * time.Second,
		Identify:   identifyBME280,
		Open:       openBME280,
	}
}

// regCtrlHum holds the oversampling of humidity, and zero after power was off (section 5.4.3).
const regCtrlHum = 0xF2

// regID and what it holds (section 5.4.1; BST-BMP280-DS001 section 4.3.1).
const regID = 0xD0

func identifyBME280(dev conn.Conn) (string, error) {
	var id [1]byte
	if err := dev.Tx([]byte{regID}, id[:]); err != nil {
		return "", err
	}
	switch id[0] {
	case 0x60:
		return "BME280", nil
	case 0x58:
		return "BMP280", nil
	}
	return "", nil
}

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
	var id [1]byte
	if err := s.conn.Tx(s.addr, []byte{regID}, id[:]); err != nil {
		return nil, err
	}
	if err := CheckID("BME280 or BMP280", uint64(id[0]), 8, 0x60, 0x58); err != nil {
		return nil, err
	}
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
			return nil, ErrRestarted
		}
		m = append(m, Measurement{"humidity", float64(e.Humidity) / float64(physic.PercentRH), "%"})
	}
	return m, nil
}

func (s *bme280Sensor) Close() error { return nil }
