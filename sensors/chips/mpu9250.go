package chips

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"periph.io/x/conn/v3"
	"periph.io/x/conn/v3/physic"
	"periph.io/x/conn/v3/spi"

	"holdfast/sensors"
	"holdfast/sensors/bus"
)

// mpu9250 is the InvenSense MPU-9250, and the MPU-6500 and MPU-9255, which are like it (register map
// RM-MPU-9250A-00, product specification PS-MPU-9250A-01), and the MPU-6050, whose filter and temperature differ
// (RM-MPU-6000A-00).
//
// periph's driver knows SPI only, reads each byte by itself, so that two halves of a value may be of
// two measurements, and does not see that the chip has lost its settings. The magnetometer is a chip of
// its own, an AK8963 behind it, and has no driver here.
func mpu9250() sensors.Driver {
	return sensors.Driver{
		Spec: sensors.Spec{
			Name: "mpu9250", Doc: "acceleration and rotation in three directions, and the chip's temperature",
			Chip: "InvenSense MPU-9250, MPU-9255, MPU-6500, MPU-6050", Datasheet: "RM-MPU-9250A-00, PS-MPU-9250A-01, RM-MPU-6000A-00",
			Wiring: "VDD and VDDIO 3.3 V. I2C: nCS to VDDIO, AD0 low for 0x68, high for 0x69. SPI: SDI to MOSI, AD0 to MISO, nCS to a chip select (not an MPU-6050)",
			Buses:  []sensors.BusKind{sensors.BusI2C, sensors.BusSPI}, Addresses: []uint16{0x68, 0x69},
			Quantities: []sensors.Quantity{
				{Name: "acceleration_x", Unit: "m/s²", Min: -160, Max: 160}, {Name: "acceleration_y", Unit: "m/s²", Min: -160, Max: 160}, {Name: "acceleration_z", Unit: "m/s²", Min: -160, Max: 160},
				{Name: "rotation_x", Unit: "°/s", Min: -2000, Max: 2000}, {Name: "rotation_y", Unit: "°/s", Min: -2000, Max: 2000}, {Name: "rotation_z", Unit: "°/s", Min: -2000, Max: 2000},
				{Name: "temperature", Unit: "°C", Min: -40, Max: 85},
			},
			Options: []sensors.Option{
				{Name: "acceleration_range", Kind: sensors.OptionString, Default: "4", Allowed: []string{"2", "4", "8", "16"}, Doc: "largest acceleration, in g"},
				{Name: "rotation_range", Kind: sensors.OptionString, Default: "500", Allowed: []string{"250", "500", "1000", "2000"}, Doc: "largest rotation, in °/s"},
			},
			Timeout: time.Second,
		},
		Identify: identifyMPU9250,
		Open:     openMPU9250,
	}
}

// Registers (RM-MPU-9250A-00, section 3).
const (
	mpu9250Divider   = 0x19 // SMPLRT_DIV, and from there the settings are 5 bytes
	mpu9250IntStatus = 0x3A // and from there the data are 15 bytes
	mpu9250User      = 0x6A
	mpu9250Power     = 0x6B
	mpu9250ID        = 0x75

	mpu9250SPIOnly = 0x10 // I2C_IF_DIS: what is on the wires for other chips is not taken for I2C
	mpu9250Reset   = 0x80
	mpu9250Clock   = 0x01 // the best clock there is
	mpu9250New     = 0x01 // RAW_DATA_RDY_INT, which reading the register clears
)

var mpu9250IDs = map[byte]string{0x71: "MPU-9250", 0x73: "MPU-9255", 0x70: "MPU-6500", mpu6050ID: "MPU-6050"}

const mpu6050ID = 0x68

type mpu9250Sensor struct {
	*chip
	settings []byte  // divider, filter, and the ranges of gyroscope and accelerometer
	old      bool    // an MPU-6050
	user     byte    // what USER_CTRL has to hold
	accel    float64 // m/s² of a count
	gyro     float64 // °/s of a count
	reset    time.Time
	ready    bool
}

func identifyMPU9250(dev conn.Conn) (string, error) {
	var id [1]byte
	if err := dev.Tx([]byte{mpu9250ID}, id[:]); err != nil {
		return "", err
	}
	return mpu9250IDs[id[0]], nil
}

func openMPU9250(ctx context.Context, c sensors.Config, buses *bus.Set) (sensors.Sensor, error) {
	dev, err := openEither(c, buses, physic.MegaHertz, spi.Mode3, 0x80)
	if err != nil {
		return nil, err
	}
	s := &mpu9250Sensor{chip: dev}
	fs := map[string]byte{"2": 0, "4": 1, "8": 2, "16": 3, "250": 0, "500": 1, "1000": 2, "2000": 3}
	a, g := fs[c.Options["acceleration_range"].(string)], fs[c.Options["rotation_range"].(string)]
	s.accel = float64(int(2)<<a) / (1 << 15) * standardGravity
	s.gyro = float64(int(250)<<g) / (1 << 15)
	// 100 samples a second out of 1000, and a filter of 41 Hz for both (sections 4.4 to 4.8).
	s.settings = []byte{9, 3, g << 3, a << 3, 3}
	if s.Duplex() == conn.Full {
		s.user = mpu9250SPIOnly
	}
	id, err := s.identify(ctx, mpu9250ID, 0x71, 0x73, 0x70, mpu6050ID)
	if s.old = id == mpu6050ID; s.old {
		s.settings = s.settings[:4] // one filter for both, and the fifth register is another
	}
	if err == nil {
		err = s.write(ctx, mpu9250Power, mpu9250Reset)
	}
	if err != nil {
		dev.Close()
		return nil, err
	}
	s.reset = time.Now()
	return s, nil
}

func (s *mpu9250Sensor) Sense(ctx context.Context) ([]sensors.Measurement, error) {
	// Start-up takes 100 ms, and the gyroscope as long as 35 more (PS-MPU-9250A-01, section 3).
	if left := 100*time.Millisecond - time.Since(s.reset); left > 0 {
		return nil, &sensors.NotYet{After: left, Why: "starting"}
	}
	if !s.ready {
		return nil, s.start(ctx)
	}
	return afterShock(func() ([]sensors.Measurement, error) { return s.sample(ctx) })
}

func (s *mpu9250Sensor) sample(ctx context.Context) ([]sensors.Measurement, error) {
	b, err := s.read(ctx, mpu9250IntStatus, 15) // the data there may be old
	if err == nil {
		err = s.silent(b[0])
	}
	if err != nil {
		return nil, err
	}
	err = poll(ctx, 2*time.Millisecond, func() (bool, error) {
		var err error
		b, err = s.read(ctx, mpu9250IntStatus, 15)
		return err == nil && b[0]&mpu9250New != 0, err
	})
	if err == nil {
		err = s.check(ctx)
	}
	if err != nil {
		return nil, err
	}
	return s.decode([14]byte(b[1:]))
}

func (s *mpu9250Sensor) start(ctx context.Context) error {
	power, err := s.read(ctx, mpu9250Power, 1)
	if err != nil {
		return err
	}
	if power[0]&mpu9250Reset != 0 {
		if time.Since(s.reset) > time.Second {
			return fmt.Errorf("%w: the chip's reset does not end", bus.ErrTemporary)
		}
		return &sensors.NotYet{After: 10 * time.Millisecond, Why: "starting"}
	}
	if err := s.write(ctx, mpu9250Power, mpu9250Clock); err != nil {
		return err
	}
	if s.user != 0 {
		if err := s.write(ctx, mpu9250User, s.user); err != nil {
			return err
		}
	}
	for i, v := range s.settings {
		if err := s.write(ctx, mpu9250Divider+byte(i), v); err != nil {
			return err
		}
	}
	s.ready = true
	return &sensors.NotYet{After: 50 * time.Millisecond, Why: "starting"}
}

// check finds a chip that has lost its settings since they were written.
func (s *mpu9250Sensor) check(ctx context.Context) error {
	b, err := s.read(ctx, mpu9250Divider, len(s.settings))
	if err == nil && !bytes.Equal(b, s.settings) {
		err = sensors.ErrRestarted
	}
	return err
}

// decode takes the values out of registers 0x3B to 0x48.
func (s *mpu9250Sensor) decode(b [14]byte) ([]sensors.Measurement, error) {
	m := make([]sensors.Measurement, 0, 7)
	for i, axis := range []string{"x", "y", "z"} {
		a, g := int16(be16(b[2*i:])), int16(be16(b[8+2*i:]))
		for _, v := range []int16{a, g} {
			if v == 32767 || v == -32768 {
				return nil, overRange("a value is beyond its range", "choose a larger acceleration_range or rotation_range")
			}
		}
		m = append(m, sensors.Measurement{Quantity: "acceleration_" + axis, Value: float64(a) * s.accel, Unit: "m/s²"}, sensors.Measurement{Quantity: "rotation_" + axis, Value: float64(g) * s.gyro, Unit: "°/s"})
	}
	t := float64(int16(be16(b[6:])))
	if s.old {
		t = t/340 + 36.53 // RM-MPU-6000A-00, section 4.18
	} else {
		t = t/333.87 + 21 // PS-MPU-9250A-01, section 3.4.2
	}
	return append(m, sensors.Measurement{Quantity: "temperature", Value: t, Unit: "°C"}), nil
}
