package chips

import (
	"context"
	"math"
	"time"

	"periph.io/x/conn/v3/physic"
	"periph.io/x/conn/v3/spi"

	"holdfast/sensors"
	"holdfast/sensors/bus"
)

// adxl345 is the Analog Devices ADXL345 (data sheet ADXL345, section "Register map").
//
// periph's driver gives counts that it calls g, swaps them where it takes them together, ignores
// errors of transfers, and cannot be read over I2C.
func adxl345() sensors.Driver {
	return sensors.Driver{
		Spec: sensors.Spec{
			Name: "adxl345", Doc: "acceleration in three directions, up to 16 g",
			Chip: "Analog Devices ADXL345", Datasheet: "ADXL345",
			Wiring: "VS and VDD I/O 3.3 V. I2C: CS to VDD I/O, SDO low for 0x53, high for 0x1D. SPI: SDA to MOSI, SDO to MISO, CS to a chip select",
			Buses:  []sensors.BusKind{sensors.BusI2C, sensors.BusSPI}, Addresses: []uint16{0x53, 0x1D},
			Quantities: []sensors.Quantity{{Name: "acceleration_x", Unit: "m/s²", Min: -160, Max: 160}, {Name: "acceleration_y", Unit: "m/s²", Min: -160, Max: 160}, {Name: "acceleration_z", Unit: "m/s²", Min: -160, Max: 160}},
			Timeout:    time.Second,
		},
		Identify: identifyByte("ADXL345", adxl345ID, 0xE5),
		Open:     openADXL345,
	}
}

const (
	adxl345ID     = 0x00
	adxl345Rate   = 0x2C // BW_RATE, and from there to the data are 12 bytes
	adxl345Power  = 0x2D
	adxl345Source = 0x30
	adxl345Format = 0x31

	adxl345Hz100   = 0x0A
	adxl345Measure = 0x08
	adxl345Full    = 0x0B // full resolution, ±16 g: 3.9 mg, 256 counts per g, at every range
	adxl345Ready   = 0x80 // DATA_READY, which reading the data clears
)

// adxl345Most is the largest value of 13 bits, which stands for all beyond, in m/s².
const adxl345Most = 4095.0 / 256 * standardGravity

type adxl345Sensor struct{ *chip }

func openADXL345(ctx context.Context, c sensors.Config, buses *bus.Set) (sensors.Sensor, error) {
	// A read has bit 7 set, and bit 6 for more than one byte.
	dev, err := openEither(c, buses, 5*physic.MegaHertz, spi.Mode3, 0xC0)
	if err != nil {
		return nil, err
	}
	s := &adxl345Sensor{dev}
	if err := s.setUp(ctx); err != nil {
		dev.Close()
		return nil, err
	}
	return s, nil
}

func (s *adxl345Sensor) setUp(ctx context.Context) error {
	if _, err := s.identify(ctx, adxl345ID, 0xE5); err != nil {
		return err
	}
	for _, w := range [][]byte{
		{adxl345Power, 0}, // standby, to be configured
		{adxl345Rate, adxl345Hz100},
		{adxl345Format, adxl345Full},
		{adxl345Power, adxl345Measure},
	} {
		if err := s.write(ctx, w...); err != nil {
			return err
		}
	}
	_, err := s.data(ctx) // from before; it clears DATA_READY
	return err
}

func (s *adxl345Sensor) Sense(ctx context.Context) ([]sensors.Measurement, error) {
	return afterShock(func() ([]sensors.Measurement, error) { return s.sample(ctx) })
}

func (s *adxl345Sensor) sample(ctx context.Context) ([]sensors.Measurement, error) {
	if _, err := s.data(ctx); err != nil { // the data there may be old
		return nil, err
	}
	var b []byte
	err := poll(ctx, 2*time.Millisecond, func() (bool, error) {
		source, err := s.read(ctx, adxl345Source, 1)
		if err != nil || source[0]&adxl345Ready == 0 {
			return false, err
		}
		b, err = s.data(ctx)
		return true, err
	})
	if err != nil {
		return nil, err
	}
	x, y, z := decodeADXL345([6]byte(b))
	for _, v := range []float64{x, y, z} {
		if math.Abs(v) >= adxl345Most {
			return nil, overRange("the acceleration is beyond 16 g", "the chip measures no more")
		}
	}
	return []sensors.Measurement{{Quantity: "acceleration_x", Value: x, Unit: "m/s²"}, {Quantity: "acceleration_y", Value: y, Unit: "m/s²"}, {Quantity: "acceleration_z", Value: z, Unit: "m/s²"}}, nil
}

// data reads the settings and the data in one transfer, so that they belong together.
func (s *adxl345Sensor) data(ctx context.Context) ([]byte, error) {
	b, err := s.read(ctx, adxl345Rate, 12)
	if err != nil {
		return nil, err
	}
	if err := s.silent(b[1]); err != nil {
		return nil, err
	}
	if b[0] != adxl345Hz100 || b[1] != adxl345Measure || b[5] != adxl345Full {
		return nil, sensors.ErrRestarted
	}
	return b[6:], nil
}

// decodeADXL345 returns m/s².
func decodeADXL345(b [6]byte) (x, y, z float64) {
	axis := func(i int) float64 { return float64(int16(le16(b[i:]))) / 256 * standardGravity }
	return axis(0), axis(2), axis(4)
}
