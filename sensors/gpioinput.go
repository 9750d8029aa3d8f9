package sensors

import (
	"context"
	"time"

	"holdfast/sensors/bus"
)

// gpioInput reads a GPIO line through the kernel's character device (include/uapi/linux/gpio.h).
func gpioInput() Driver {
	return Driver{
		Name: "gpio-input", Doc: "the level of a GPIO line: 1 active, 0 not",
		Chip: "a switch, button or logic output", Datasheet: "include/uapi/linux/gpio.h",
		Wiring:     "0 V or 3.3 V at the line, never more; a contact goes to GND with bias: pull-up and active_low: true",
		Buses:      []BusKind{BusGPIO},
		Quantities: []Quantity{{"state", "", 0, 1}},
		Options: []Option{
			{Name: "line", Kind: OptionInt, Required: true, Min: 0, Max: 511, Doc: "offset of the line in its chip: on the Pi's header the BCM number"},
			{Name: "chip", Kind: OptionString, Doc: "label of the GPIO chip; the Pi's header if not given"},
			{Name: "active_low", Kind: OptionBool, Default: false, Doc: "whether a low level is active"},
			{Name: "bias", Kind: OptionString, Default: bus.BiasAsIs, Doc: "pull resistor",
				Allowed: []string{bus.BiasAsIs, bus.BiasNone, bus.BiasPullUp, bus.BiasPullDown}},
			{Name: "debounce", Kind: OptionDuration, Default: time.Duration(0), Doc: "how long a level has to stay"},
		},
		Timeout: time.Second,
		Open:    openGPIOInput,
	}
}

type gpioInputSensor struct{ bus.Line }

func openGPIOInput(_ context.Context, c Config, buses *bus.Set) (Sensor, error) {
	o := bus.LineOptions{
		Offset:    int(c.Options["line"].(int64)),
		ActiveLow: c.Options["active_low"].(bool),
		Bias:      c.Options["bias"].(string),
		Debounce:  c.Options["debounce"].(time.Duration),
	}
	o.Chip, _ = c.Options["chip"].(string)
	l, err := buses.Input(c.Bus, o)
	if err != nil {
		return nil, err
	}
	return gpioInputSensor{l}, nil
}

func (s gpioInputSensor) Sense(ctx context.Context) ([]Measurement, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	v, err := s.Value()
	if err != nil {
		return nil, err
	}
	return []Measurement{{"state", float64(v), ""}}, nil
}
