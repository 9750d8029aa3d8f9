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
		Quantities: []Quantity{{"state", "", 0, 1}, {Name: "activations"}},
		QuantitiesOf: func(options map[string]any) []Quantity {
			q := []Quantity{{"state", "", 0, 1}}
			if on, _ := options["edges"].(bool); on {
				q = append(q, Quantity{Name: "activations"})
			}
			return q
		},
		Options: append(lineOptions(),
			Option{Name: "edges", Kind: OptionBool, Default: false, Doc: "report also how often the line became active since the last reading: what was shorter than the interval is seen too"},
		),
		Timeout: time.Second,
		Open:    openGPIOInput,
	}
}

type gpioInputSensor struct {
	bus.Line
	edges *edges // nil if they are not wanted
	seen  uint64
}

func openGPIOInput(_ context.Context, c Config, buses *bus.Set) (Sensor, error) {
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

func (s *gpioInputSensor) Sense(ctx context.Context) ([]Measurement, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	v, err := s.Value()
	if err != nil {
		return nil, err
	}
	m := []Measurement{{"state", float64(v), ""}}
	if s.edges != nil {
		count, _ := s.edges.now()
		m = append(m, Measurement{"activations", float64(count - s.seen), ""})
		s.seen = count
	}
	return m, nil
}
