package chips

import (
	"context"
	"fmt"
	"time"

	"periph.io/x/conn/v3"

	"holdfast/sensors"
	"holdfast/sensors/bus"
)

// sht4x is the Sensirion SHT40, SHT41 or SHT45 (data sheet "SHT4x"): ±0.2 °C and ±1.8 % with an SHT40.
func sht4x() sensors.Driver {
	return sensors.Driver{
		Spec: sensors.Spec{
			Name: "sht4x", Doc: "air temperature and humidity",
			Chip: "Sensirion SHT40, SHT41, SHT45", Datasheet: "SHT4x, version 4",
			Wiring: "VDD 3.3 V (1.08 to 3.6 V); SDA, SCL with pull-ups to 3.3 V; the address is that of the part: -AD 0x44, -BD 0x45, -CD 0x46",
			Buses:  []sensors.BusKind{sensors.BusI2C}, Addresses: []uint16{0x44, 0x45, 0x46},
			Quantities: []sensors.Quantity{{Name: "temperature", Unit: "°C", Min: -40, Max: 125}, {Name: "humidity", Unit: "%", Max: 100}},
			Timeout:    time.Second,
			// To a chip of another kind the command is the number of a register that it does not have.
		},
		Identify: func(dev conn.Conn) (string, error) {
			var b [6]byte
			if err := dev.Tx([]byte{0x89}, nil); err != nil {
				return "", err
			}
			time.Sleep(2 * time.Millisecond)
			if err := dev.Tx(nil, b[:]); err != nil {
				return "", nil // it took the byte and has no answer
			}
			if words, err := wordsSensirion(b[:]); err != nil || words[0] == 0 && words[1] == 0 {
				return "", nil
			}
			return "SHT4x", nil
		},
		Open: func(ctx context.Context, c sensors.Config, buses *bus.Set) (sensors.Sensor, error) {
			s, err := openI2C(c, buses)
			if err != nil {
				return nil, err
			}
			// The serial number (section "Command overview", 0x89): two words with a CRC each.
			if _, err := askSensirion(ctx, s, []byte{0x89}, 2, time.Millisecond); err != nil {
				return nil, fmt.Errorf("sht4x serial number: %w", err)
			}
			return sht4xSensor{s}, nil
		},
	}
}

type sht4xSensor struct{ *chip }

// Sense uses high precision (section "Command overview", 0xFD), which needs up to 8.3 ms (section
// "Timings").
func (s sht4xSensor) Sense(ctx context.Context) ([]sensors.Measurement, error) {
	words, err := askSensirion(ctx, s.chip, []byte{0xFD}, 2, 9*time.Millisecond)
	if err != nil {
		return nil, err
	}
	return airSensirion(words, -6, 125), nil
}

func (s sht4xSensor) Close() error { return nil }
