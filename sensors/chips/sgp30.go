package chips

import (
	"context"
	"errors"
	"time"

	"holdfast/sensors"
	"holdfast/sensors/bus"
)

// sgp30 is the Sensirion SGP30 (data sheet "SGP30", section 6: I2C).
//
// periph's driver blocks for 20 s, checks no checksum, and repeats its last values for ever when the
// chip is gone.
func sgp30() sensors.Driver {
	return sensors.Driver{
		Spec: sensors.Spec{
			Name: "sgp30", Doc: "total volatile organic compounds, and the CO2 that goes with them",
			Chip: "Sensirion SGP30", Datasheet: "SGP30 data sheet",
			Wiring: "VDD 1.62 to 1.98 V: use a board with a regulator; SDA, SCL with level shifters or pull-ups to 1.8 V; the address is fixed",
			Buses:  []sensors.BusKind{sensors.BusI2C}, Addresses: []uint16{0x58},
			Quantities: []sensors.Quantity{{Name: "tvoc", Unit: "ppb", Max: 60000}, {Name: "eco2", Unit: "ppm", Min: 400, Max: 60000}},
			Timeout:    time.Second,
		},
		Check: func(c sensors.Config) error {
			if c.Every > sgp30Interval {
				return errors.New("every: the chip's baseline needs a measurement each second: set every: 1s, and report: to publish less often")
			}
			return nil
		},
		Every:    time.Second,
		Identify: identifySensirion("SGP30", 3, time.Millisecond, 0x36, 0x82),
		Open:     openSGP30,
	}
}

// Commands (section 6.3) and how long they take at most (section 6.3, table 10).
const (
	sgp30Init        = 0x2003
	sgp30Measure     = 0x2008
	sgp30Baseline    = 0x2015
	sgp30Feature     = 0x202F
	sgp30SetBaseline = 0x201E
	sgp30Serial      = 0x3682

	sgp30Time     = 12 * time.Millisecond
	sgp30Interval = time.Second
	// sgp30WarmUp is how long the chip returns 400 ppm and 0 ppb, whatever there is (section 6.3).
	sgp30WarmUp = 15 * time.Second
	// sgp30Patience is how long it may have no baseline after that.
	sgp30Patience = 30 * time.Second
)

// The chip learns for 12 hours what clean air is. Its baseline is good for a week, and is written back after that time only
// if the chip has learned; it is remembered every hour (data sheet, "Set and get baseline").
const (
	sgp30Learns  = 12 * time.Hour
	sgp30Keeps   = 7 * 24 * time.Hour
	sgp30SaveFor = time.Hour
)

type sgp30Sensor struct {
	*chip
	config  sensors.Config
	warm    time.Time
	based   bool      // the chip had a baseline
	learned time.Time // from when on its baseline is worth to be remembered
	saved   time.Time
}

func openSGP30(ctx context.Context, c sensors.Config, buses *bus.Set) (sensors.Sensor, error) {
	dev, err := openI2C(c, buses)
	if err != nil {
		return nil, err
	}
	s := &sgp30Sensor{chip: dev, config: c}
	if _, err := askSensirion(ctx, s.chip, sensirion(sgp30Serial), 3, time.Millisecond); err != nil {
		return nil, err
	}
	feature, err := askSensirion(ctx, s.chip, sensirion(sgp30Feature), 1, 10*time.Millisecond)
	if err == nil { // the product type, in the upper four bits; an SGPC3 has 1
		err = checkID("SGP30", uint64(feature[0])>>12|0x30, 8, 0x30)
	}
	if err != nil {
		return nil, err
	}
	if err := s.write(ctx, sensirion(sgp30Init)...); err != nil {
		return nil, err
	}
	if err := wait(ctx, 10*time.Millisecond); err != nil {
		return nil, err
	}
	s.warm, s.saved = time.Now().Add(sgp30WarmUp), time.Now()
	s.learned = time.Now().Add(sgp30Learns)
	if b, age := recall(c, 4); b != nil && age <= sgp30Keeps {
		// It is read as eCO2 and TVOC, and written as TVOC and eCO2.
		eco2, tvoc := be16(b), be16(b[2:])
		if err := s.write(ctx, sensirion(sgp30SetBaseline, tvoc, eco2)...); err != nil {
			return nil, err
		}
		if err := wait(ctx, 10*time.Millisecond); err != nil {
			return nil, err
		}
		s.learned = time.Now()
	}
	return s, nil
}

func (s *sgp30Sensor) Sense(ctx context.Context) ([]sensors.Measurement, error) {
	words, err := askSensirion(ctx, s.chip, sensirion(sgp30Measure), 2, sgp30Time)
	if err != nil {
		return nil, err
	}
	if time.Now().Before(s.warm) {
		return nil, &sensors.NotYet{After: sgp30Interval, Why: "warming up"}
	}
	// A chip that has lost its power measures nothing any more, and returns clean air for ever. Its
	// baseline tells.
	base, err := askSensirion(ctx, s.chip, sensirion(sgp30Baseline), 2, 10*time.Millisecond)
	if err != nil {
		return nil, err
	}
	switch zero := base[0] == 0 && base[1] == 0; {
	case zero && (s.based || time.Since(s.warm) > sgp30Patience):
		return nil, sensors.ErrRestarted
	case zero:
		return nil, &sensors.NotYet{After: sgp30Interval, Why: "warming up"}
	case !s.based: // the measurement before may still be of the time without
		s.based = true
		return nil, &sensors.NotYet{After: sgp30Interval, Why: "warming up"}
	}
	if now := time.Now(); now.After(s.learned) && now.Sub(s.saved) >= sgp30SaveFor {
		s.saved = now
		remember(s.config, []byte{byte(base[0] >> 8), byte(base[0]), byte(base[1] >> 8), byte(base[1])})
	}
	return []sensors.Measurement{{Quantity: "eco2", Value: float64(words[0]), Unit: "ppm"}, {Quantity: "tvoc", Value: float64(words[1]), Unit: "ppb"}}, nil
}
