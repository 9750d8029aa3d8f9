package chips

import (
	"context"
	"fmt"
	"time"

	"holdfast/sensors"
	"holdfast/sensors/bus"
)

// sht3x is the Sensirion SHT30, SHT31 or SHT35 (data sheet "SHT3x-DIS", version 7): ±0.2 °C and ±2 %
// with an SHT31.
func sht3x() sensors.Driver {
	return sensors.Driver{
		Spec: sensors.Spec{
			Name: "sht3x", Doc: "air temperature and humidity",
			Chip: "Sensirion SHT30, SHT31, SHT35", Datasheet: "SHT3x-DIS, version 7",
			Wiring: "VDD 3.3 V (2.15 to 5.5 V); SDA, SCL with pull-ups to 3.3 V; ADDR low 0x44, high 0x45; nRESET may stay open",
			Buses:  []sensors.BusKind{sensors.BusI2C}, Addresses: []uint16{0x44, 0x45},
			Quantities: []sensors.Quantity{{Name: "temperature", Unit: "°C", Min: -40, Max: 125}, {Name: "humidity", Unit: "%", Max: 100}},
			Timeout:    time.Second,
		},
		Identify: identifySensirion("SHT3x", 1, time.Millisecond, 0xF3, 0x2D),
		Open: func(ctx context.Context, c sensors.Config, buses *bus.Set) (sensors.Sensor, error) {
			s, err := openI2C(c, buses)
			if err != nil {
				return nil, err
			}
			if err := breakSensirion(ctx, s); err != nil {
				return nil, err
			}
			// Every answer has a CRC, so reading the status shows whether this is a chip of this kind.
			if _, err := askSensirion(ctx, s, []byte{0xF3, 0x2D}, 1, time.Millisecond); err != nil {
				return nil, fmt.Errorf("sht3x status: %w", err)
			}
			return sht3xSensor{s}, nil
		},
	}
}

type sht3xSensor struct{ *chip }

// Sense takes a single shot of high repeatability without clock stretching (section
// "Measurement commands for single shot"), which needs up to 15.5 ms (section "Timing specification"). The chip forgets a measurement that was read, so
// what it returns is always of this one.
func (s sht3xSensor) Sense(ctx context.Context) ([]sensors.Measurement, error) {
	words, err := askSensirion(ctx, s.chip, []byte{0x24, 0x00}, 2, 16*time.Millisecond)
	if err != nil {
		return nil, err
	}
	return airSensirion(words, 0, 100), nil
}

func (s sht3xSensor) Close() error { return nil }
