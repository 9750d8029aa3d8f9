package chips

import (
	"context"
	"fmt"
	"time"

	"periph.io/x/conn/v3"

	"holdfast/sensors"
	"holdfast/sensors/bus"
)

// mcp9808 is the Microchip MCP9808 (data sheet DS25095A).
//
// periph's driver does not look at the ids, and reads 0 °C when it is asked before the chip's first
// conversion has ended.
func mcp9808() sensors.Driver {
	return sensors.Driver{
		Spec: sensors.Spec{
			Name: "mcp9808", Doc: "temperature, ±0.25 °C", Chip: "Microchip MCP9808", Datasheet: "DS25095A",
			Wiring: "VDD 2.7 to 5.5 V (3.3 V on a Pi); SDA, SCL with pull-ups to 3.3 V; A0, A1, A2 to GND for 0x18",
			Buses:  []sensors.BusKind{sensors.BusI2C}, Addresses: []uint16{0x18, 0x19, 0x1A, 0x1B, 0x1C, 0x1D, 0x1E, 0x1F},
			Quantities: []sensors.Quantity{{Name: "temperature", Unit: "°C", Min: -40, Max: 125}},
			Timeout:    time.Second,
		},
		Identify: identifyMCP9808,
		Open:     openMCP9808,
	}
}

// Registers (section 5.1).
const (
	mcp9808Config     = 1
	mcp9808Critical   = 4
	mcp9808Ambient    = 5
	mcp9808Maker      = 6
	mcp9808Device     = 7
	mcp9808Resolution = 8

	mcp9808Shutdown = 0x0100 // of the config register (section 5.2.1)
)

// mcp9808Mark is written to the limit of the alert output, which is switched off. Power-on clears it
// (section 5.1.2), so it shows whether the settings are still ours.
const mcp9808Mark = 124 << 4

// mcp9808Conversion is a conversion's time at the finest resolution, 250 ms (section 1, t_CONV), and
// as much again for a slow chip: there is no flag that tells its end.
const mcp9808Conversion = 550 * time.Millisecond

type mcp9808Sensor struct {
	*chip
	ready time.Time // the end of a conversion that is not read yet
}

func openMCP9808(ctx context.Context, c sensors.Config, buses *bus.Set) (sensors.Sensor, error) {
	dev, err := openI2C(c, buses)
	if err != nil {
		return nil, err
	}
	maker, err := dev.read16(ctx, mcp9808Maker)
	if err == nil {
		err = checkID("MCP9808", uint64(maker), 16, 0x0054) // section 5.1.4
	}
	if err != nil {
		return nil, err
	}
	device, err := dev.read16(ctx, mcp9808Device)
	if err == nil {
		err = checkID("MCP9808", uint64(device>>8), 8, 0x04) // section 5.1.5; the lower byte is the revision
	}
	if err != nil {
		return nil, err
	}
	config, err := dev.read16(ctx, mcp9808Config)
	if err != nil {
		return nil, err
	}
	if config&0xC0 != 0 { // section 5.1.1: the limits are locked until power-on
		return nil, fmt.Errorf("%w: its alert limits were locked by another program: switch its power off and on", sensors.ErrPermanent)
	}
	for _, w := range [][]byte{
		{mcp9808Config, mcp9808Shutdown >> 8, 0},
		{mcp9808Resolution, 3},
		{mcp9808Critical, mcp9808Mark >> 8, mcp9808Mark & 0xFF},
	} {
		if err := dev.write(ctx, w...); err != nil {
			return nil, err
		}
	}
	return &mcp9808Sensor{chip: dev}, nil
}

func (s *mcp9808Sensor) Sense(ctx context.Context) ([]sensors.Measurement, error) {
	if s.ready.IsZero() || time.Since(s.ready) > time.Second {
		if err := s.write(ctx, mcp9808Config, 0, 0); err != nil { // wakes it; alert output off
			return nil, err
		}
		s.ready = time.Now().Add(mcp9808Conversion)
	}
	if left := time.Until(s.ready); left > 0 {
		return nil, &sensors.NotYet{After: left, Why: "converting"}
	}
	s.ready = time.Time{}
	raw, err := s.read16(ctx, mcp9808Ambient)
	if err != nil {
		return nil, err
	}
	mark, err := s.read16(ctx, mcp9808Critical)
	if err != nil {
		return nil, err
	}
	if mark != mcp9808Mark {
		return nil, sensors.ErrRestarted
	}
	if err := s.write(ctx, mcp9808Config, mcp9808Shutdown>>8, 0); err != nil { // it warms itself
		return nil, err
	}
	return []sensors.Measurement{{Quantity: "temperature", Value: celsiusMCP9808(raw), Unit: "°C"}}, nil
}

// celsiusMCP9808 takes the temperature out of the register, where three flags stand before 13 bits of
// two's complement, in 1/16 °C (section 5.1.3).
func celsiusMCP9808(raw uint16) float64 { return float64(int16(raw<<3)>>3) / 16 }

func identifyMCP9808(dev conn.Conn) (string, error) {
	var b [2]byte
	if err := dev.Tx([]byte{mcp9808Maker}, b[:]); err != nil || be16(b[:]) != 0x0054 {
		return "", err
	}
	if err := dev.Tx([]byte{mcp9808Device}, b[:]); err != nil || b[0] != 0x04 {
		return "", err
	}
	return "MCP9808", nil
}
