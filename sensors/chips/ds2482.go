package chips

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"strings"
	"time"

	"holdfast/sensors"
	"holdfast/sensors/bus"
)

// ds2482 is the Maxim DS18B20 behind a DS2482 or DS2483, a bridge from I2C to 1-Wire (data sheets
// DS18B20 and DS2482-100; "Memory", "Configuration register" and "Command set" are their sections).
//
// periph's two drivers go on after errors of single transfers, keep a bridge that has failed, and
// cannot tell a measured 85 °C from the one after power-on.
func ds2482() sensors.Driver {
	return sensors.Driver{
		Spec: sensors.Spec{
			Name: "ds2482", Doc: "temperature of a DS18B20 on a bridge from I2C to 1-Wire; for 1-Wire on a GPIO line see ds18b20",
			Chip: "Maxim DS2482-100, DS2482-800, DS2483 with DS18B20", Datasheet: "DS2482-100, DS18B20",
			Wiring: "bridge: VCC 3.3 V; SDA, SCL with pull-ups; AD0, AD1 to GND for 0x18. DS18B20: DQ to IO, VDD to 3.3 V (with VDD to GND a reading holds the bus for 750 ms)",
			Buses:  []sensors.BusKind{sensors.BusI2C}, Addresses: []uint16{0x18, 0x19, 0x1A, 0x1B},
			Quantities: []sensors.Quantity{{Name: "temperature", Unit: "°C", Min: -55, Max: 125}},
			Options: []sensors.Option{
				{Name: "id", Kind: sensors.OptionString, Doc: "the sensor's number, such as 28-0316a2795bff; needed if there are several"},
				{Name: "channel", Kind: sensors.OptionInt, Min: 0, Max: 7, Doc: "1-Wire channel of a DS2482-800"},
			},
			Claims: func(p sensors.Place) ([]sensors.Claim, error) {
				what := "the only 1-Wire thermometer"
				if id, _ := p.Options["id"].(string); id != "" {
					what = "1-Wire thermometer " + id
				}
				if n, ok := p.Options["channel"].(int64); ok {
					what += fmt.Sprintf(" at channel %d", n)
				}
				return []sensors.Claim{{What: what + " of the bridge on " + p.On(), Option: "id"}}, nil
			},
			Timeout: 2 * time.Second,
		},
		Check: func(c sensors.Config) error {
			if id, ok := c.Options["id"].(string); ok {
				_, err := parseROM(id)
				return err
			}
			return nil
		},
		Open: openDS2482,
	}
}

// Commands of the DS18B20.
const (
	ds18b20Convert = 0x44
	ds18b20Write   = 0x4E // three bytes of the scratchpad: TH, TL and configuration
	ds18b20Read    = 0xBE // all nine
	ds18b20Supply  = 0xB4 // answers 0 if it lives on the data line
)

// ds18b20Mark is written to the alarm limits TH and TL, which are not used otherwise, and not to the EEPROM.
// At power-on they are loaded from there, so the mark tells a measured 85 °C from the 85 °C of power-on.
var ds18b20Mark = [2]byte{0x7E, 0x81}

// ds18b20Bits12 is the resolution of 1/16 °C, and ds18b20Time what a conversion takes with it at most.
const (
	ds18b20Bits12 = 0x7F
	ds18b20Time   = 750 * time.Millisecond
)

type ds2482Sensor struct {
	*oneWire
	rom      [8]byte
	parasite bool
	started  time.Time // of a conversion that is not read yet
}

func openDS2482(ctx context.Context, c sensors.Config, buses *bus.Set) (sensors.Sensor, error) {
	dev, err := openI2C(c, buses)
	if err != nil {
		return nil, err
	}
	channel := -1
	if n, ok := c.Options["channel"].(int64); ok {
		channel = int(n)
	}
	s := &ds2482Sensor{oneWire: &oneWire{dev, channel}}
	if err := s.setUp(ctx); err != nil {
		return nil, err
	}
	if id, ok := c.Options["id"].(string); ok {
		s.rom, err = parseROM(id)
	} else {
		s.rom, err = s.only(ctx)
	}
	if err != nil {
		return nil, err
	}
	if err := s.choose(ctx, ds18b20Write, ds18b20Mark[0], ds18b20Mark[1], ds18b20Bits12); err != nil {
		return nil, err
	}
	pad, err := s.scratchpad(ctx)
	if err != nil {
		return nil, err
	}
	if [2]byte(pad[2:]) != ds18b20Mark || pad[4] != ds18b20Bits12 {
		return nil, fmt.Errorf("%w: %s does not keep its settings: it is no DS18B20", sensors.ErrPermanent, romName(s.rom))
	}
	if err := s.choose(ctx, ds18b20Supply); err != nil {
		return nil, err
	}
	supply, err := s.in(ctx)
	s.parasite = supply&1 == 0
	return s, err
}

func (s *ds2482Sensor) Sense(ctx context.Context) ([]sensors.Measurement, error) {
	if s.started.IsZero() || time.Since(s.started) > 2*ds18b20Time {
		if err := s.selects(ctx); err != nil {
			return nil, err
		}
		if err := s.convert(ctx); err != nil {
			return nil, err
		}
		s.started = time.Now()
	}
	// The data sheet's time is the longest there is: the chip's own oscillator counts in it.
	if left := ds18b20Time - time.Since(s.started); left > 0 {
		if !s.parasite {
			return nil, &sensors.NotYet{After: left, Why: "converting"}
		}
		// Others on the bus would take its supply away.
		if err := wait(ctx, left); err != nil {
			return nil, err
		}
	}
	s.started = time.Time{}
	if err := s.selects(ctx); err != nil {
		return nil, err
	}
	pad, err := s.scratchpad(ctx)
	if err != nil {
		return nil, err
	}
	if [2]byte(pad[2:]) != ds18b20Mark || pad[4] != ds18b20Bits12 {
		return nil, sensors.ErrRestarted
	}
	return []sensors.Measurement{{Quantity: "temperature", Value: celsiusDS18B20(le16(pad[:])), Unit: "°C"}}, nil
}

// convert starts a conversion of this sensor.
func (s *ds2482Sensor) convert(ctx context.Context) error {
	if err := s.match(ctx); err != nil {
		return err
	}
	if s.parasite {
		if err := s.strongPullUp(ctx); err != nil {
			return err
		}
	}
	return s.out(ctx, ds18b20Convert)
}

// choose sends a command to this sensor alone.
func (s *ds2482Sensor) choose(ctx context.Context, b ...byte) error {
	if err := s.match(ctx); err != nil {
		return err
	}
	return s.out(ctx, b...)
}

func (s *ds2482Sensor) match(ctx context.Context) error {
	if err := s.reset(ctx); err != nil {
		return err
	}
	return s.out(ctx, append([]byte{oneWireMatch}, s.rom[:]...)...)
}

func (s *ds2482Sensor) scratchpad(ctx context.Context) (pad [9]byte, err error) {
	if err := s.choose(ctx, ds18b20Read); err != nil {
		return pad, err
	}
	ones, zeros := true, true
	for i := range pad {
		if pad[i], err = s.in(ctx); err != nil {
			return pad, err
		}
		ones, zeros = ones && pad[i] == 0xFF, zeros && pad[i] == 0
	}
	if zeros { // whose checksum is right
		return pad, errShort
	}
	if ones { // no chip pulls the line down
		return pad, fmt.Errorf("%w: %s is not on the 1-Wire bus: check its wiring, or the id", bus.ErrAbsent, romName(s.rom))
	}
	return pad, checkSum("the scratchpad", uint32(pad[8]), uint32(crcMaxim(pad[:8])))
}

// only searches for the one DS18B20.
func (s *ds2482Sensor) only(ctx context.Context) ([8]byte, error) {
	var found []string
	var rom [8]byte
	err := s.search(ctx, func(r [8]byte) {
		if r[0] == ds18b20Family {
			rom = r
			found = append(found, romName(r))
		}
	})
	switch {
	case err != nil:
		return rom, err
	case len(found) == 0:
		return rom, fmt.Errorf("%w: no DS18B20 on the 1-Wire bus: check its wiring", bus.ErrAbsent)
	case len(found) > 1:
		return rom, fmt.Errorf("%w: several sensors on the bus: set id to one of %q", sensors.ErrPermanent, found)
	}
	return rom, nil
}

const ds18b20Family = 0x28

// romName is how Linux calls a sensor: family and serial number, the upper bytes first.
func romName(rom [8]byte) string {
	return fmt.Sprintf("%02x-%012x", rom[0], binary.LittleEndian.Uint64(rom[:])<<8>>16)
}

func parseROM(id string) (rom [8]byte, err error) {
	serial, ok := strings.CutPrefix(id, "28-")
	b, err := hex.DecodeString(serial)
	if !ok || err != nil || len(b) != 6 {
		return rom, fmt.Errorf("id: got %q, want one such as 28-0316a2795bff", id)
	}
	rom[0] = ds18b20Family
	for i, v := range b {
		rom[6-i] = v
	}
	rom[7] = crcMaxim(rom[:7])
	return rom, nil
}

// celsiusDS18B20 is the temperature of the scratchpad's first two bytes, in 1/16 °C (table 1).
func celsiusDS18B20(raw uint16) float64 { return math.Ldexp(float64(int16(raw)), -4) }
