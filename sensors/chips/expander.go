package chips

import (
	"context"
	"errors"
	"fmt"
	"time"

	"holdfast/sensors"
	"holdfast/sensors/bus"
	"holdfast/sensors/expander"
)

// The rows for one pin of an I/O expander as an input. Pins as outputs are in package outputs.
//
// periph's drivers write directions before levels, keep levels in memory that the chip may have lost,
// and do not read anything back.

func mcp23017() sensors.Driver { return expanderPin(expander.MCP23017()) }
func pcf8574() sensors.Driver  { return expanderPin(expander.PCF8574()) }
func tca9555() sensors.Driver  { return expanderPin(expander.TCA9555()) }

func expanderPin(chip expander.Chip) sensors.Driver {
	options := []sensors.Option{
		{Name: "pin", Kind: sensors.OptionInt, Required: true, Min: 0, Max: float64(chip.Pins - 1), Doc: "of the chip, in the order of its data sheet"},
		{Name: "active_low", Kind: sensors.OptionBool, Default: false, Doc: "whether a low level is active, as with a contact to GND"},
	}
	if chip.PullUps {
		options = append(options, sensors.Option{Name: "pull_up", Kind: sensors.OptionBool, Default: false, Doc: "whether the chip pulls the pin up, with 100 kΩ"})
	}
	return sensors.Driver{
		Spec: sensors.Spec{
			Name: chip.Name, Doc: chip.Doc + ": the level of one: 1 active, 0 not",
			Chip: chip.Chip, Datasheet: chip.Datasheet, Wiring: chip.Wiring,
			Buses: []sensors.BusKind{sensors.BusI2C}, Addresses: chip.Addresses,
			Quantities: []sensors.Quantity{{Name: "state", Max: 1}},
			Options:    options,
			Timeout:    time.Second,
		},
		Open: func(ctx context.Context, c sensors.Config, buses *bus.Set) (sensors.Sensor, error) {
			return openExpander(ctx, chip, c, buses)
		},
	}
}

type expanderSensor struct {
	pins      bus.Pins
	pin       int
	activeLow bool
}

func openExpander(ctx context.Context, chip expander.Chip, c sensors.Config, buses *bus.Set) (sensors.Sensor, error) {
	pins, err := chip.Open(buses, c.Bus, c.Address)
	if err != nil {
		return nil, err
	}
	s := &expanderSensor{pins, int(c.Options["pin"].(int64)), c.Options["active_low"].(bool)}
	pull, _ := c.Options["pull_up"].(bool)
	return s, restarted(pins.Input(ctx, s.pin, pull))
}

func (s *expanderSensor) Sense(ctx context.Context) ([]sensors.Measurement, error) {
	high, err := s.pins.Get(ctx, s.pin)
	if err == nil {
		err = context.Cause(ctx) // an answer that came too late
	}
	if err != nil {
		return nil, restarted(err)
	}
	state := 0.0
	if high != s.activeLow {
		state = 1
	}
	return []sensors.Measurement{{Quantity: "state", Value: state}}, nil
}

// Close leaves the pin an input.
func (s *expanderSensor) Close() error { return nil }

// restarted adds ErrRestarted to an error of a chip that has lost its settings: supervision then opens the pin
// again at once.
func restarted(err error) error {
	if errors.Is(err, expander.ErrRestarted) {
		return fmt.Errorf("%w (%w)", sensors.ErrRestarted, err)
	}
	return err
}
