package chips

import (
	"context"
	"time"

	"holdfast/sensors"
	"holdfast/sensors/bus"
)

// gpioInput reads a GPIO line through the kernel's character device (include/uapi/linux/gpio.h).
func gpioInput() sensors.Driver {
	return sensors.Driver{
		Spec: sensors.Spec{
			Name: "gpio-input", Doc: "the level of a GPIO line: 1 active, 0 not",
			Chip: "a switch, button or logic output", Datasheet: "include/uapi/linux/gpio.h",
			Wiring:     "0 V or 3.3 V at the line, never more; a contact goes to GND with bias: pull-up and active_low: true",
			Buses:      []sensors.BusKind{sensors.BusGPIO},
			Quantities: []sensors.Quantity{{Name: "state", Max: 1}, {Name: "activations"}},
			Options: append(lineOptions(),
				sensors.Option{Name: "edges", Kind: sensors.OptionBool, Default: false, Doc: "report also how often the line became active since the last reading: what was shorter than the interval is seen too"},
			),
			Timeout: time.Second,
		},
		QuantitiesOf: func(options map[string]any) []sensors.Quantity {
			q := []sensors.Quantity{{Name: "state", Max: 1}}
			if on, _ := options["edges"].(bool); on {
				q = append(q, sensors.Quantity{Name: "activations"})
			}
			return q
		},
		Open: openGPIOInput,
	}
}

type gpioInputSensor struct {
	bus.Line
	edges *edges // nil if they are not wanted
	seen  uint64
}

func openGPIOInput(_ context.Context, c sensors.Config, buses *bus.Set) (sensors.Sensor, error) {
	s := &gpioInputSensor{}
	var err error
	if c.Options["edges"].(bool) {
		s.edges = &edges{}
		s.Line, err = buses.Edges(c.Bus, inputLine(c), false, s.edges.add)
	} else {
		s.Line, err = buses.Input(c.Bus, inputLine(c))
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}

func (s *gpioInputSensor) Sense(ctx context.Context) ([]sensors.Measurement, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	v, err := s.Value()
	if err != nil {
		return nil, err
	}
	m := []sensors.Measurement{{Quantity: "state", Value: float64(v)}}
	if s.edges != nil {
		count, _ := s.edges.now()
		m = append(m, sensors.Measurement{Quantity: "activations", Value: float64(count - s.seen)})
		s.seen = count
	}
	return m, nil
}
