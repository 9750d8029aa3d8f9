package chips

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"holdfast/sensors"
	"holdfast/sensors/bus"
)

// scd4x is the Sensirion SCD40, SCD41 and SCD43 (data sheet "SCD4x", sections 3.4 to 3.10: commands).
//
// periph's driver holds the bus for seconds, counts a failed question for "not ready", and gives the
// temperature in the wrong scale where it sets it.
func scd4x() sensors.Driver {
	return sensors.Driver{
		Spec: sensors.Spec{
			Name: "scd4x", Doc: "carbon dioxide, air temperature and humidity, every 5 s",
			Chip: "Sensirion SCD40, SCD41, SCD43", Datasheet: "SCD4x data sheet",
			Wiring: "VDD 2.4 to 5.5 V, 205 mA at times (3.3 V on a Pi); SDA, SCL with pull-ups to 3.3 V; the address is fixed",
			Buses:  []sensors.BusKind{sensors.BusI2C}, Addresses: []uint16{0x62},
			Quantities: []sensors.Quantity{{Name: "co2", Unit: "ppm", Min: 1, Max: 40000}, {Name: "temperature", Unit: "°C", Min: -45, Max: 130}, {Name: "humidity", Unit: "%", Max: 100}},
			Options: []sensors.Option{
				{Name: "altitude", Kind: sensors.OptionInt, Min: 0, Max: 3000, Doc: "height above the sea, in m; without it the one that is stored in the chip"},
				{Name: "ambient_pressure", Kind: sensors.OptionInt, Min: 700, Max: 1200, Doc: "of the air, in hPa, in place of altitude; where it is known better than by the height"},
				{Name: "temperature_offset", Kind: sensors.OptionFloat, Min: 0, Max: 20, Doc: "what the chip reads too much in its housing, in °C, is taken off temperature, and humidity is corrected; without it the one that is stored in the chip, 4 when it is new"},
				{Name: "self_calibration", Kind: sensors.OptionBool, Doc: "whether the chip takes the lowest CO2 of a week for fresh air; without it as stored in the chip"},
			},
			Timeout: time.Second,
		},
		Check: func(c sensors.Config) error {
			_, altitude := c.Options["altitude"].(int64)
			if _, pressure := c.Options["ambient_pressure"].(int64); pressure && altitude {
				return errors.New("ambient_pressure: altitude is given, too, and the chip takes one of them: remove it")
			}
			return nil
		},
		Identify: identifySensirion("SCD4x", 1, time.Millisecond, 0xE4, 0xB8), // data ready: also while it measures
		Open:     openSCD4x,
	}
}

// Commands (section 3.5 and on).
const (
	scd4xStart       = 0x21B1
	scd4xRead        = 0xEC05
	scd4xStop        = 0x3F86
	scd4xReady       = 0xE4B8
	scd4xWake        = 0x36F6 // of an SCD41 and SCD43 that were powered down
	scd4xAltitude    = 0x2427
	scd4xPressure    = 0xE000
	scd4xOffset      = 0x241D
	scd4xCalibration = 0x2416
	scd4xSerial      = 0x3682
)

const (
	scd4xWakeTime = 30 * time.Millisecond
	scd4xStopTime = 500 * time.Millisecond
	scd4xInterval = 5 * time.Second
	scd4xBrief    = time.Millisecond // how long most commands take
)

type scd4xSensor struct {
	*chip
	options map[string]any
	until   time.Time // before it there is no use in asking
	started bool
	failed  time.Time // without a measurement until then something is wrong
}

// openSCD4x wakes the chip, which another program may have powered down, and stops a measurement that runs: only then
// it takes other commands. It needs half a second, which Sense waits for.
func openSCD4x(ctx context.Context, c sensors.Config, buses *bus.Set) (sensors.Sensor, error) {
	dev, err := openI2C(c, buses)
	if err != nil {
		return nil, err
	}
	s := &scd4xSensor{chip: dev, options: c.Options}
	// The call that wakes it is not acknowledged (section 3.11.4), and refused by a chip that measures.
	if err := s.command(ctx, scd4xWake); err != nil && !errors.Is(err, bus.ErrAbsent) {
		return nil, err
	}
	if err := wait(ctx, scd4xWakeTime); err != nil {
		return nil, err
	}
	if err := s.command(ctx, scd4xStop); err != nil {
		return nil, err
	}
	s.until = time.Now().Add(scd4xStopTime)
	return s, nil
}

func (s *scd4xSensor) Sense(ctx context.Context) ([]sensors.Measurement, error) {
	if left := time.Until(s.until); left > 0 {
		return nil, &sensors.NotYet{After: left, Why: "starting"}
	}
	if !s.started {
		err := s.start(ctx)
		if errors.Is(err, bus.ErrAbsent) && time.Since(s.until) < scd4xStopTime { // it is still stopping
			return nil, &sensors.NotYet{After: scd4xStopTime / 10, Why: "starting"}
		}
		if err != nil {
			return nil, err
		}
		return nil, &sensors.NotYet{After: scd4xInterval, Why: "measuring"}
	}
	ready, err := askSensirion(ctx, s.chip, sensirion(scd4xReady), 1, scd4xBrief)
	if err != nil {
		return nil, err
	}
	if ready[0]&0x7FF == 0 { // section 3.8.2
		if time.Now().After(s.failed) {
			return nil, errors.New("the chip measures nothing: its power was interrupted, or it is broken")
		}
		return nil, &sensors.NotYet{After: scd4xInterval / 20, Why: "measuring"}
	}
	words, err := askSensirion(ctx, s.chip, sensirion(scd4xRead), 3, scd4xBrief) // which empties the chip's buffer
	if err != nil {
		return nil, err
	}
	s.failed = time.Now().Add(3 * scd4xInterval)
	co2, t, h := decodeSCD4x([3]uint16(words))
	return []sensors.Measurement{{Quantity: "co2", Value: co2, Unit: "ppm"}, {Quantity: "temperature", Value: t, Unit: "°C"}, {Quantity: "humidity", Value: h, Unit: "%"}}, nil
}

func (s *scd4xSensor) start(ctx context.Context) error {
	// There is no id; nothing else answers this with three right checksums.
	if _, err := askSensirion(ctx, s.chip, sensirion(scd4xSerial), 3, scd4xBrief); err != nil {
		return err
	}
	if m, ok := s.options["altitude"].(int64); ok {
		if err := s.command(ctx, scd4xAltitude, uint16(m)); err != nil {
			return err
		}
	}
	if hPa, ok := s.options["ambient_pressure"].(int64); ok {
		if err := s.command(ctx, scd4xPressure, uint16(hPa)); err != nil {
			return err
		}
	}
	if celsius, ok := s.options["temperature_offset"].(float64); ok {
		if err := s.command(ctx, scd4xOffset, uint16(math.Round(celsius*65535/175))); err != nil { // section 3.7.1
			return err
		}
	}
	if on, ok := s.options["self_calibration"].(bool); ok {
		v := uint16(0)
		if on {
			v = 1
		}
		if err := s.command(ctx, scd4xCalibration, v); err != nil {
			return err
		}
	}
	if err := s.command(ctx, scd4xStart); err != nil {
		return err
	}
	s.started, s.failed = true, time.Now().Add(3*scd4xInterval)
	return nil
}

// Close leaves the chip measuring: the next to open it stops it.
func (s *scd4xSensor) command(ctx context.Context, command uint16, words ...uint16) error {
	if err := s.write(ctx, sensirion(command, words...)...); err != nil {
		return fmt.Errorf("command %#04x: %w", command, err)
	}
	return wait(ctx, scd4xBrief)
}

// decodeSCD4x returns ppm, °C and % (section 3.6.2).
func decodeSCD4x(w [3]uint16) (co2, celsius, percent float64) {
	return float64(w[0]), float64(w[1])*175/65535 - 45, float64(w[2]) * 100 / 65535
}
