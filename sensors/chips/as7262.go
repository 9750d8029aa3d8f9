package chips

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"holdfast/sensors"
	"holdfast/sensors/bus"
)

// as7262 is the ams AS7262 (data sheet AS7262, v1-01).
//
// periph's driver waits with timers of its own, in steps of 5 ms for each byte, and does not look which
// chip it is.
func as7262() sensors.Driver {
	q := []sensors.Quantity{{Name: "temperature", Unit: "°C", Min: -40, Max: 125}}
	for _, band := range as7262Bands {
		q = append(q, sensors.Quantity{Name: band, Unit: "µW/cm²", Max: 100000})
	}
	return sensors.Driver{
		Spec: sensors.Spec{
			Name: "as7262", Doc: "light in six colours: 450, 500, 550, 570, 600 and 650 nm",
			Chip: "ams AS7262", Datasheet: "AS7262 data sheet, v1-01",
			Wiring: "VDD1 and VDD2 2.7 to 3.6 V; I2C_ENB high; RX is SCL, TX is SDA, with pull-ups to 3.3 V; the board's flash memory must be fitted; the address is fixed",
			Buses:  []sensors.BusKind{sensors.BusI2C}, Addresses: []uint16{0x49},
			Quantities: q,
			Options: []sensors.Option{
				{Name: "gain", Kind: sensors.OptionString, Default: "16", Allowed: []string{"1", "3.7", "16", "64"}, Doc: "of the light sensors"},
				{Name: "integration", Kind: sensors.OptionInt, Default: int64(50), Min: 1, Max: 255, Doc: "time of a measurement, in steps of 2.8 ms"},
			},
			Timeout: 2 * time.Second,
		},
		Open: openAS7262,
	}
}

var as7262Bands = []string{"violet", "blue", "green", "yellow", "orange", "red"}

// What I2C itself knows are three registers; all others are reached through them ("I2C virtual
// register access").
const (
	as7262Status   = 0x00
	as7262Write    = 0x01
	as7262Read     = 0x02
	as7262Occupied = 0x02 // TX_VALID: the last byte was not taken yet
	as7262Answered = 0x01 // RX_VALID: there is a byte to be read
)

// Virtual registers.
const (
	as7262Hardware    = 0x01 // 0x3E in an AS7262
	as7262Control     = 0x04
	as7262Integration = 0x05
	as7262Temperature = 0x06
	as7262LED         = 0x07
	as7262Colours     = 0x14 // six calibrated values, IEEE 754, the upper bytes first

	as7262Once    = 0x0C // BANK: measure all six colours once
	as7262HasData = 0x02
)

type as7262Sensor struct {
	*chip
	control byte
	steps   byte
	started time.Time // of a measurement that is not read yet
}

func openAS7262(ctx context.Context, c sensors.Config, buses *bus.Set) (sensors.Sensor, error) {
	dev, err := openI2C(c, buses)
	if err != nil {
		return nil, err
	}
	gain := map[string]byte{"1": 0, "3.7": 1, "16": 2, "64": 3}[c.Options["gain"].(string)]
	s := &as7262Sensor{chip: dev, control: as7262Once | gain<<4, steps: byte(c.Options["integration"].(int64))}
	id, err := s.get(ctx, as7262Hardware)
	if err == nil {
		err = checkID("AS7262", uint64(id), 8, 0x3E)
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}

// length is how long both halves of a measurement take.
func (s *as7262Sensor) length() time.Duration {
	return 2 * time.Duration(s.steps) * 2800 * time.Microsecond
}

func (s *as7262Sensor) Sense(ctx context.Context) ([]sensors.Measurement, error) {
	if s.started.IsZero() || time.Since(s.started) > 2*s.length()+2*time.Second {
		for _, v := range [][2]byte{{as7262LED, 0}, {as7262Integration, s.steps}, {as7262Control, s.control}} {
			if err := s.set(ctx, v[0], v[1]); err != nil {
				return nil, err
			}
		}
		s.started = time.Now()
		return nil, &sensors.NotYet{After: s.length(), Why: "measuring"}
	}
	control, err := s.get(ctx, as7262Control)
	if err != nil {
		return nil, err
	}
	if control&0x3C != s.control {
		return nil, sensors.ErrRestarted
	}
	if control&as7262HasData == 0 {
		if time.Since(s.started) > 2*s.length()+time.Second {
			return nil, fmt.Errorf("%w: the measurement does not end", bus.ErrTemporary)
		}
		return nil, &sensors.NotYet{After: s.length()/10 + time.Millisecond, Why: "measuring"}
	}
	s.started = time.Time{}
	m := make([]sensors.Measurement, 0, 7)
	for i, band := range as7262Bands {
		var b [4]byte
		for j := range b {
			if b[j], err = s.get(ctx, byte(as7262Colours+4*i+j)); err != nil {
				return nil, err
			}
		}
		m = append(m, sensors.Measurement{Quantity: band, Value: float64(math.Float32frombits(binary.BigEndian.Uint32(b[:]))), Unit: "µW/cm²"})
	}
	t, err := s.get(ctx, as7262Temperature)
	if err != nil {
		return nil, err
	}
	if control, err = s.get(ctx, as7262Control); err != nil { // the power may have gone since
		return nil, err
	}
	if control&0x3C != s.control {
		return nil, sensors.ErrRestarted
	}
	return append(m, sensors.Measurement{Quantity: "temperature", Value: float64(int8(t)), Unit: "°C"}), nil
}

// until waits for a bit of the status.
func (s *as7262Sensor) until(ctx context.Context, bit, want byte) error {
	return poll(ctx, time.Millisecond, func() (bool, error) {
		status, err := s.read(ctx, as7262Status, 1)
		return err == nil && status[0]&bit == want, err
	})
}

func (s *as7262Sensor) set(ctx context.Context, reg, v byte) error {
	for _, b := range []byte{reg | 0x80, v} {
		if err := s.until(ctx, as7262Occupied, 0); err != nil {
			return err
		}
		if err := s.write(ctx, as7262Write, b); err != nil {
			return err
		}
	}
	return s.until(ctx, as7262Occupied, 0)
}

func (s *as7262Sensor) get(ctx context.Context, reg byte) (byte, error) {
	status, err := s.read(ctx, as7262Status, 1)
	if err != nil {
		return 0, err
	}
	if status[0]&as7262Answered != 0 { // left over from a read that was cut off
		if _, err := s.read(ctx, as7262Read, 1); err != nil {
			return 0, err
		}
	}
	if err := s.until(ctx, as7262Occupied, 0); err != nil {
		return 0, err
	}
	if err := s.write(ctx, as7262Write, reg); err != nil {
		return 0, err
	}
	if err := s.until(ctx, as7262Answered, as7262Answered); err != nil {
		return 0, err
	}
	b, err := s.read(ctx, as7262Read, 1)
	if err != nil {
		return 0, err
	}
	return b[0], nil
}
