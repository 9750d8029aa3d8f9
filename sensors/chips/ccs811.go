package chips

import (
	"context"
	"errors"
	"fmt"
	"time"

	"holdfast/sensors"
	"holdfast/sensors/bus"
)

// ccs811 is the ScioSense (ams) CCS811 (data sheet DS000459).
//
// periph's driver does not look whether there is a new result, nor at the chip's error flag, and
// clears the upper bits of results that are out of range.
func ccs811() sensors.Driver {
	return sensors.Driver{
		Spec: sensors.Spec{
			Name: "ccs811", Doc: "total volatile organic compounds, and the CO2 that goes with them",
			Chip: "ScioSense (ams) CCS811", Datasheet: "DS000459",
			Wiring: "VDD 1.8 to 3.6 V; SDA, SCL with pull-ups to 3.3 V; nWAKE to GND; ADDR low 0x5A, high 0x5B; it stretches the clock: set dtparam=i2c_arm_baudrate=10000 up to the Pi 3",
			Buses:  []sensors.BusKind{sensors.BusI2C}, Addresses: []uint16{0x5A, 0x5B},
			Quantities: []sensors.Quantity{{Name: "tvoc", Unit: "ppb", Max: 32768}, {Name: "eco2", Unit: "ppm", Min: 400, Max: 32768}},
			Timeout:    time.Second,
		},
		Identify: identifyByte("CCS811", ccs811ID, 0x81),
		Open:     openCCS811,
	}
}

// Registers (table 10, application register map).
const (
	ccs811Status = 0x00
	ccs811Mode   = 0x01
	ccs811Result = 0x02
	ccs811ID     = 0x20
	ccs811Error  = 0xE0
	ccs811Start  = 0xF4
	ccs811Reset  = 0xFF
)

// Bits of the status register.
const (
	ccs811Application = 0x80 // FW_MODE
	ccs811Valid       = 0x10 // APP_VALID
	ccs811Ready       = 0x08
	ccs811Failed      = 0x01
)

// ccs811EverySecond is drive mode 1, one measurement a second.
const ccs811EverySecond = 0x10

type ccs811Sensor struct {
	*chip
	failed time.Time // without a measurement until then something is wrong
}

func openCCS811(ctx context.Context, c sensors.Config, buses *bus.Set) (sensors.Sensor, error) {
	dev, err := openI2C(c, buses)
	if err != nil {
		return nil, err
	}
	s := &ccs811Sensor{chip: dev}
	if _, err := s.identify(ctx, ccs811ID, 0x81); err != nil {
		return nil, err
	}
	// Back to the boot loader, from whatever mode another program has left it in.
	if err := s.write(ctx, ccs811Reset, 0x11, 0xE5, 0x72, 0x8A); err != nil {
		return nil, err
	}
	if err := wait(ctx, 2*time.Millisecond); err != nil { // t_START after reset
		return nil, err
	}
	status, err := s.read(ctx, ccs811Status, 1)
	if err != nil {
		return nil, err
	}
	if status[0]&ccs811Valid == 0 {
		return nil, fmt.Errorf("%w: the chip has no valid firmware: status %#02x", sensors.ErrPermanent, status[0])
	}
	if err := s.write(ctx, ccs811Start); err != nil {
		return nil, err
	}
	if err := wait(ctx, time.Millisecond); err != nil { // t_APP_START
		return nil, err
	}
	if err := s.write(ctx, ccs811Mode, ccs811EverySecond); err != nil {
		return nil, err
	}
	s.failed = time.Now().Add(5 * time.Second)
	return s, nil
}

func (s *ccs811Sensor) Sense(ctx context.Context) ([]sensors.Measurement, error) {
	b, err := s.read(ctx, ccs811Status, 1)
	if err != nil {
		return nil, err
	}
	if err := s.check(ctx, b[0]); err != nil {
		return nil, err
	}
	if b[0]&ccs811Ready == 0 {
		return nil, s.notYet()
	}
	b, err = s.read(ctx, ccs811Result, 5) // eCO2, TVOC, status
	if err != nil {
		return nil, err
	}
	if err := s.check(ctx, b[4]); err != nil {
		return nil, err
	}
	if be16(b) == 0 { // the first result after the start
		return nil, s.notYet()
	}
	s.failed = time.Now().Add(5 * time.Second)
	return []sensors.Measurement{{Quantity: "eco2", Value: float64(be16(b)), Unit: "ppm"}, {Quantity: "tvoc", Value: float64(be16(b[2:])), Unit: "ppb"}}, nil
}

func (s *ccs811Sensor) notYet() error {
	if time.Now().After(s.failed) {
		return errors.New("the chip measures nothing for 5 s")
	}
	return &sensors.NotYet{After: 100 * time.Millisecond, Why: "measuring"}
}

// check finds errors in a status.
func (s *ccs811Sensor) check(ctx context.Context, status byte) error {
	if status&ccs811Application == 0 {
		return sensors.ErrRestarted
	}
	if status&ccs811Failed == 0 {
		return nil
	}
	id, err := s.read(ctx, ccs811Error, 1)
	if err != nil {
		return err
	}
	for bit, text := range []string{"a wrong register was written", "a wrong register was read", "the mode is wrong",
		"the sensor's resistance is out of range", "the heater's current is out of range", "the heater has no voltage"} {
		if id[0]&(1<<bit) != 0 {
			return errors.New("the chip reports: " + text)
		}
	}
	return fmt.Errorf("the chip reports error %#02x", id[0])
}
