package outputs

import (
	"context"
	"time"

	"holdfast/sensors"
	"holdfast/sensors/bus"
)

// gpioOutput drives a GPIO line through the kernel's character device (include/uapi/linux/gpio.h).
func gpioOutput() Driver {
	return Driver{
		Spec: sensors.Spec{
			Name: "gpio-output", Doc: "a GPIO line: a relay, a valve, a lamp",
			Buses:  []sensors.BusKind{sensors.BusGPIO},
			Claims: sensors.ClaimLines(nil, "line"),
			Options: []sensors.Option{
				{Name: "line", Kind: sensors.OptionInt, Required: true, Min: 0, Max: 511, Doc: "offset of the line in its chip: on the Pi's header the BCM number"},
				{Name: "chip", Kind: sensors.OptionString, Doc: "label of the GPIO chip; the Pi's header if not given"},
				{Name: "active_low", Kind: sensors.OptionBool, Default: false, Doc: "whether a low level is on, as with most relay boards"},
				{Name: "drive", Kind: sensors.OptionString, Default: bus.DrivePushPull, Doc: "how the line is driven",
					Allowed: []string{bus.DrivePushPull, bus.DriveOpenDrain, bus.DriveOpenSource}},
			},
			Timeout: time.Second,
		},
		Open: func(_ context.Context, c Config, buses *bus.Set, value float64) (Device, error) {
			o := bus.LineOptions{
				Offset:    int(c.Options["line"].(int64)),
				ActiveLow: c.Options["active_low"].(bool),
				Drive:     c.Options["drive"].(string),
			}
			o.Chip, _ = c.Options["chip"].(string)
			l, err := buses.Output(c.Bus, o, value != 0)
			if err != nil {
				return nil, err
			}
			return gpioLine{l}, nil
		},
	}
}

type gpioLine struct{ bus.Output }

func (l gpioLine) Set(_ context.Context, value float64) error { return l.SetValue(int(value)) }

func (l gpioLine) Get(context.Context) (float64, error) {
	v, err := l.Value()
	return float64(v), err
}
