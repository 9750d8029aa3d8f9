package chips

import (
	"context"
	"fmt"
	"math"
	"time"

	"holdfast/sensors"
	"holdfast/sensors/bus"
)

// sgp40 is the Sensirion SGP40 (data sheet "SGP40", version 1.2), an indoor air quality sensor. Its raw
// signal is proportional to the logarithm of the sensing layer's resistance, in ticks without a unit.
// The VOC index is made of it by Sensirion's published algorithm (vocindex.go), which wants a reading
// every 1 to 10 s.
func sgp40() sensors.Driver {
	return sensors.Driver{
		Spec: sensors.Spec{
			Name: "sgp40", Doc: "volatile organic compounds in air: raw signal, and VOC index (1 to 500, 100 is the usual air of the last day)",
			Chip: "Sensirion SGP40", Datasheet: "SGP40, version 1.2",
			Wiring: "VDD and VDDH 3.3 V (1.7 to 3.6 V); SDA, SCL with pull-ups to 3.3 V",
			Buses:  []sensors.BusKind{sensors.BusI2C}, Addresses: []uint16{0x59},
			Quantities: []sensors.Quantity{{Name: "voc_raw", Unit: "ticks", Max: 65535}, {Name: "voc_index", Unit: "1", Min: 1, Max: 500}},
			Options: []sensors.Option{
				{Name: "climate", Kind: sensors.OptionString, Default: "fixed", Allowed: []string{"fixed", "sht3x", "sht4x"},
					Doc: "where temperature and humidity for the compensation come from: the two options below, or a chip on the same bus"},
				{Name: "climate_address", Kind: sensors.OptionInt, Default: int64(0x44), Min: 0x44, Max: 0x46, Hex: true, Doc: "I2C address of that chip"},
				{Name: "temperature", Kind: sensors.OptionFloat, Default: 25.0, Min: -45, Max: 130, Doc: "of the air, in °C, if fixed"},
				{Name: "humidity", Kind: sensors.OptionFloat, Default: 50.0, Min: 0, Max: 100, Doc: "of the air, in %, if fixed"},
			},
			Timeout: 2 * time.Second,
			// Section "Get serial number".
		},
		Identify: identifySensirion("SGP40", 3, time.Millisecond, 0x36, 0x82),
		Open:     openSGP40,
	}
}

// The index goes on where it was if the chip was not read for at most ten minutes: longer, and the air may be another
// (Sensirion's gas-index-algorithm, get and set states). It is remembered when the chip is closed, and every five minutes.
const (
	sgp40Keeps = 10 * time.Minute
	sgp40Saves = 5 * time.Minute
)

type sgp40Sensor struct {
	*chip
	config  sensors.Config
	saved   time.Time
	climate func(context.Context) (t, rh float64, err error)
	index   *vocIndex // nil if readings are too far apart for it
}

func openSGP40(ctx context.Context, c sensors.Config, buses *bus.Set) (sensors.Sensor, error) {
	ch, err := openI2C(c, buses)
	if err != nil {
		return nil, err
	}
	s := &sgp40Sensor{chip: ch, config: c, saved: time.Now()}
	// Serial number, then self test (section on measurement commands): 0xD4xx is good, 0x4Bxx is not.
	if _, err := askSensirion(ctx, ch, []byte{0x36, 0x82}, 3, time.Millisecond); err != nil {
		return nil, fmt.Errorf("sgp40 serial number: %w", err)
	}
	test, err := askSensirion(ctx, ch, []byte{0x28, 0x0E}, 1, 320*time.Millisecond)
	if err != nil {
		return nil, fmt.Errorf("sgp40 self test: %w", err)
	}
	if test[0]>>8 != 0xD4 {
		return nil, fmt.Errorf("%w: sgp40 self test: got %#04x, want 0xd400: the heater or the sensing layer is broken", sensors.ErrPermanent, test[0])
	}
	fixedT, fixedRH := c.Options["temperature"].(float64), c.Options["humidity"].(float64)
	there := c
	there.Address = uint16(c.Options["climate_address"].(int64))
	air, err := openI2C(there, buses)
	if err != nil {
		return nil, err
	}
	var measure func(context.Context) ([]sensors.Measurement, error)
	switch c.Options["climate"].(string) {
	case "sht3x":
		if err := breakSensirion(ctx, air); err != nil {
			return nil, err
		}
		measure = sht3xSensor{air}.Sense
	case "sht4x":
		measure = sht4xSensor{air}.Sense
	}
	s.climate = func(ctx context.Context) (float64, float64, error) {
		if measure == nil {
			return fixedT, fixedRH, nil
		}
		m, err := measure(ctx)
		if err != nil {
			return 0, 0, fmt.Errorf("climate: %w", err)
		}
		return m[0].Value, m[1].Value, nil
	}
	if c.Every >= time.Second && c.Every <= 10*time.Second {
		s.index = newVOCIndex(c.Every.Seconds())
		if b, age := recall(c, vocStateSize); b != nil && age <= sgp40Keeps {
			s.index.restore(b)
		}
	}
	return s, nil
}

func (s *sgp40Sensor) Sense(ctx context.Context) ([]sensors.Measurement, error) {
	t, rh, err := s.climate(ctx)
	if err != nil {
		return nil, err
	}
	// measure_raw_signal (section on measurement commands), which needs up to 30 ms.
	words, err := askSensirion(ctx, s.chip, sgp40Command(t, rh), 1, 30*time.Millisecond)
	if err != nil {
		return nil, err
	}
	if words[0] == 0 || words[0] == math.MaxUint16 {
		return nil, fmt.Errorf("%w: the raw signal is %d, its limit: the sensing layer is broken, or poisoned", sensors.ErrImplausible, words[0])
	}
	m := []sensors.Measurement{{Quantity: "voc_raw", Value: float64(words[0]), Unit: "ticks"}}
	if s.index != nil {
		v := s.index.next(words[0])
		if time.Since(s.saved) >= sgp40Saves {
			s.save()
		}
		if v > 0 { // none in the first 45 s
			m = append(m, sensors.Measurement{Quantity: "voc_index", Value: float64(v), Unit: "1"})
		}
	}
	return m, nil
}

// save remembers the index, once there is one.
func (s *sgp40Sensor) save() {
	s.saved = time.Now()
	if s.index != nil && s.index.initialized {
		remember(s.config, s.index.state())
	}
}

func (s *sgp40Sensor) Close() error {
	s.save()
	return nil
}

// sgp40Command is the command of a measurement in air of t °C and rh % (section on measurement commands: 25 °C and
// 50 % are 0x6666 and 0x8000).
func sgp40Command(t, rh float64) []byte {
	ticks := func(v float64) uint16 { return uint16(math.Round(min(max(v, 0), 1) * 65535)) }
	return appendSensirion(appendSensirion([]byte{0x26, 0x0F}, ticks(rh/100)), ticks((t+45)/175))
}
