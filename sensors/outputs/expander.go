package outputs

import (
	"context"
	"time"

	"holdfast/sensors"
	"holdfast/sensors/bus"
	"holdfast/sensors/expander"
)

// expanderOutput drives one pin of an I/O expander.
func expanderOutput(chip expander.Chip) Driver {
	return Driver{
		Spec: sensors.Spec{
			Name: chip.Name, Doc: chip.Doc + ": one of them: a relay, a valve, a lamp", Wiring: chip.Wiring,
			Buses: []sensors.BusKind{sensors.BusI2C}, Addresses: chip.Addresses, Options: []sensors.Option{
				{Name: "pin", Kind: sensors.OptionInt, Required: true, Min: 0, Max: float64(chip.Pins - 1), Doc: "of the chip, in the order of its data sheet"},
				{Name: "active_low", Kind: sensors.OptionBool, Default: false, Doc: "whether a low level is on, as with most relay boards"},
			},
			Claims:  sensors.ClaimPin,
			Timeout: time.Second,
		},
		Model: chip.Name,
		Open: func(ctx context.Context, c Config, buses *bus.Set, value float64) (Device, error) {
			pins, err := chip.Open(buses, c.Bus, c.Address)
			if err != nil {
				return nil, err
			}
			p := &expanderPin{pins, int(c.Options["pin"].(int64)), c.Options["active_low"].(bool)}
			return p, pins.Output(ctx, p.pin, p.high(value))
		},
	}
}

type expanderPin struct {
	pins      bus.Pins
	pin       int
	activeLow bool
}

func (p *expanderPin) high(value float64) bool { return (value != 0) != p.activeLow }

func (p *expanderPin) Set(ctx context.Context, value float64) error {
	return p.pins.Set(ctx, p.pin, p.high(value))
}

func (p *expanderPin) Get(ctx context.Context) (float64, error) {
	high, err := p.pins.Get(ctx, p.pin)
	if high != p.activeLow {
		return 1, err
	}
	return 0, err
}

// Close leaves the pin as it is.
func (p *expanderPin) Close() error { return nil }
