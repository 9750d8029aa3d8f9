package chips

import (
	"context"
	"time"

	"holdfast/sensors"
	"holdfast/sensors/bus"
)

// hdc302x is the Texas Instruments HDC3020, HDC3021 and HDC3022 (data sheet SNAS778).
//
// periph's driver measures all the time, blocks for two seconds when it is made, and panics when it is
// halted twice. Here the chip sleeps between measurements.
func hdc302x() sensors.Driver {
	return sensors.Driver{
		Spec: sensors.Spec{
			Name: "hdc302x", Doc: "air temperature and humidity",
			Chip: "Texas Instruments HDC3020, HDC3021, HDC3022", Datasheet: "SNAS778",
			Wiring: "VDD 1.62 to 5.5 V (3.3 V on a Pi); SDA, SCL with pull-ups to 3.3 V; ADDR and ADDR1 to GND for 0x44",
			Buses:  []sensors.BusKind{sensors.BusI2C}, Addresses: []uint16{0x44, 0x45, 0x46, 0x47},
			Quantities: []sensors.Quantity{{Name: "temperature", Unit: "°C", Min: -45, Max: 130}, {Name: "humidity", Unit: "%", Max: 100}},
			Timeout:    time.Second,
		},
		Identify: identifyHDC302x,
		Open:     openHDC302x,
	}
}

type hdc302xSensor struct{ *chip }

func openHDC302x(ctx context.Context, c sensors.Config, buses *bus.Set) (sensors.Sensor, error) {
	dev, err := openI2C(c, buses)
	if err != nil {
		return nil, err
	}
	// Another program may have left it measuring; it takes no other commands then.
	if err := dev.write(ctx, 0x30, 0x93); err != nil { // exit auto measurement mode
		return nil, err
	}
	b, err := dev.tx(ctx, []byte{0x37, 0x81}, 3) // manufacturer id
	if err != nil {
		return nil, err
	}
	id, err := wordsSensirion(b)
	if err == nil {
		err = checkID("HDC302x", uint64(id[0]), 16, 0x3000)
	}
	if err != nil {
		return nil, err
	}
	return &hdc302xSensor{dev}, nil
}

func (s *hdc302xSensor) Sense(ctx context.Context) ([]sensors.Measurement, error) {
	// Trigger on demand, lowest noise.
	words, err := askSensirion(ctx, s.chip, sensirion(0x2400), 2, 15*time.Millisecond)
	if err != nil {
		return nil, err
	}
	return airSensirion(words, 0, 100), nil // the same conversion (section on data conversion)
}
