package chips

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"holdfast/sensors"
	"holdfast/sensors/bus"
)

// The limits of one line: a hand, a door and a bouncing contact are far below them.
const (
	edgeBurst = 100
	edgeRate  = 10 // a second, in the long run: each is written to the disk at once
)

// defaultDebounce is what contacts need: they bounce for 1 to 5 ms.
const defaultDebounce = 5 * time.Millisecond

// gpioInput watches a GPIO line through the kernel's character device (include/uapi/linux/gpio.h).
func gpioInput() sensors.Driver {
	return sensors.Driver{
		Spec: sensors.Spec{
			Name: "gpio-input", Doc: "a GPIO line, at each edge at once and at each interval: 1 active (pressed), 0 not (released)",
			Chip: "a switch, button, touch key or logic output", Datasheet: "include/uapi/linux/gpio.h",
			Wiring:     "0 V or 3.3 V at the line, never more; a contact goes to GND with bias: pull-up and active_low: true; a touch key (TTP223) has an output of its own",
			Buses:      []sensors.BusKind{sensors.BusGPIO},
			Claims:     claimInputs("both edges", "line", "chord"),
			Quantities: append([]sensors.Quantity{{Name: "state", Max: 1}, {Name: "activations"}}, eventQuantities("pressed", "released", "long", "double", "chord")...),
			Options: append(lineOptions(defaultDebounce),
				sensors.Option{Name: "edges", Kind: sensors.OptionBool, Default: false, Doc: "report also how often the line became active since the last reading, edges that were left out included"},
				sensors.Option{Name: "long", Kind: sensors.OptionDuration, Default: time.Duration(0), Doc: "how long the line is active for a long press, such as 2s: counted in long at that moment; 0s for none"},
				sensors.Option{Name: "double", Kind: sensors.OptionDuration, Default: time.Duration(0), Doc: "how soon a press has to follow the one before for a double press, such as 400ms: counted in double; 0s for none"},
				sensors.Option{Name: "chord", Kind: sensors.OptionInts, Min: 0, Max: 511, Doc: "other lines of the chip, with the same settings, such as [27, 22]: counted in chord when they and this one are all active"},
			),
			Timeout: time.Second,
		},
		QuantitiesOf: func(options map[string]any) []sensors.Quantity {
			q := append([]sensors.Quantity{{Name: "state", Max: 1}}, eventQuantities("pressed", "released")...)
			if on, _ := options["edges"].(bool); on {
				q = append(q, sensors.Quantity{Name: "activations"})
			}
			for _, name := range []string{"long", "double"} {
				if d, _ := options[name].(time.Duration); d > 0 {
					q = append(q, eventQuantities(name)...)
				}
			}
			if lines, _ := options["chord"].([]int64); len(lines) > 0 {
				q = append(q, eventQuantities("chord")...)
			}
			return q
		},
		Check: checkGPIOInput,
		Open:  openGPIOInput,
		Own:   true, Urgent: true,
	}
}

// eventQuantities count what has happened since the line was opened.
func eventQuantities(names ...string) (q []sensors.Quantity) {
	for _, name := range names {
		q = append(q, sensors.Quantity{Name: name})
	}
	return q
}

func checkGPIOInput(c sensors.Config) error {
	for _, name := range []string{"long", "double"} {
		if d := c.Options[name].(time.Duration); d != 0 && (d < 50*time.Millisecond || d > time.Minute) {
			return fmt.Errorf("%s: got %v, want 50ms to 1m, or 0s for none", name, d)
		}
	}
	_, err := chordLines(c)
	return err
}

func chordLines(c sensors.Config) (offsets []int, err error) {
	lines, _ := c.Options["chord"].([]int64)
	if len(lines) > 8 {
		return nil, errors.New("chord: want at most 8 lines")
	}
	for _, n := range lines {
		if n == c.Options["line"].(int64) || slices.Contains(offsets, int(n)) {
			return nil, fmt.Errorf("chord: line %d is there twice: want other lines than line, each once", n)
		}
		offsets = append(offsets, int(n))
	}
	return offsets, nil
}

// pressed is what a line has come to at one moment. Each event has all of it, so that the newest one tells what those
// that were left out before it have changed.
type pressed struct {
	at                                     time.Time
	active                                 bool
	presses, releases, long, double, chord uint64 // since the line was opened
}

// gpioInputSensor is a button, or what is like one: its line, and those that make a chord with it.
type gpioInputSensor struct {
	options map[string]any
	lines   []bus.Line // its own first
	events  arrivals[pressed]
	told    pressed // by the last event that was taken. Used by Take and Sense only
	differs bool    // the line had another level than its edges say, at the last look
	edgesAt uint32  // the last edge then

	mu       sync.Mutex
	now      pressed
	seq      uint32 // of the last edge
	lost     uint64 // edges that the kernel has numbered, and that never came
	began    time.Time
	pressing *time.Timer // until a press is a long one
	others   []bool      // whether each line of lines[1:] is active
}

func openGPIOInput(_ context.Context, c sensors.Config, buses *bus.Set) (_ sensors.Sensor, err error) {
	chord, err := chordLines(c)
	if err != nil {
		return nil, err
	}
	s := &gpioInputSensor{options: c.Options, others: make([]bool, len(chord)), events: arrivals[pressed]{wake: c.Wake, burst: edgeBurst, rate: edgeRate}}
	s.mu.Lock() // edges wait until it is known what is before them
	defer s.mu.Unlock()
	open := func(offset int, edge func(bus.Edge)) (active bool, err error) {
		o := inputLine(c)
		o.Offset = offset
		l, err := buses.Edges(c.Bus, o, true, edge)
		if err != nil {
			return false, err
		}
		s.lines = append(s.lines, l)
		v, err := l.Value()
		return v == 1, err
	}
	s.now.active, err = open(inputLine(c).Offset, s.edge)
	for i, offset := range chord {
		if err == nil {
			s.others[i], err = open(offset, func(e bus.Edge) { s.otherEdge(i, e) })
		}
	}
	if err != nil {
		s.mu.Unlock() // an edge may be under way
		err = errors.Join(err, s.Close())
		s.mu.Lock()
		return nil, err
	}
	s.told = s.now
	return s, nil
}

// edge takes an edge of the line.
func (s *gpioInputSensor) edge(e bus.Edge) {
	s.mu.Lock()
	defer s.mu.Unlock()
	missing := uint64(e.Seq - s.seq - 1)
	s.seq = e.Seq
	if missing > 0 {
		s.lost += missing
		// They went to and fro.
		first, second := &s.now.presses, &s.now.releases
		if s.now.active {
			first, second = second, first
		}
		*first += (missing + 1) / 2
		*second += missing / 2
	}
	s.move(e.Rising, e.Time)
}

// move takes a new level. Called with mu held.
func (s *gpioInputSensor) move(active bool, at time.Time) {
	s.now.active, s.now.at = active, at
	if s.pressing != nil {
		s.pressing.Stop()
		s.pressing = nil
	}
	if !active {
		s.now.releases++
		s.events.add(at, s.now, 0)
		return
	}
	s.now.presses++
	if within := s.duration("double"); within > 0 {
		if !s.began.IsZero() && at.Sub(s.began) <= within {
			s.now.double++
			s.began = time.Time{} // a third press is none
		} else {
			s.began = at
		}
	}
	s.strike()
	s.events.add(at, s.now, 0)
	if long := s.duration("long"); long > 0 {
		press := s.now.presses
		// A release that the kernel has seen before the time is over may take a moment to come.
		s.pressing = time.AfterFunc(long-time.Since(at)+10*time.Millisecond, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.now.active && s.now.presses == press {
				s.now.long++
				s.now.at = at.Add(long)
				s.events.add(s.now.at, s.now, 0)
			}
		})
	}
}

func (s *gpioInputSensor) duration(name string) time.Duration {
	d, _ := s.options[name].(time.Duration)
	return d
}

// otherEdge takes an edge of a line of the chord.
func (s *gpioInputSensor) otherEdge(i int, e bus.Edge) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.others[i] = e.Rising; e.Rising && s.strike() {
		s.now.at = e.Time
		s.events.add(e.Time, s.now, 0)
	}
}

// strike counts a chord that a line has completed. Called with mu held.
func (s *gpioInputSensor) strike() bool {
	if len(s.others) == 0 || !s.now.active || slices.Contains(s.others, false) {
		return false
	}
	s.now.chord++
	return true
}

// Take returns what has happened.
func (s *gpioInputSensor) Take(context.Context) ([]sensors.Measurement, error) {
	return s.take(false), nil
}

func (s *gpioInputSensor) take(now bool) (all []sensors.Measurement) {
	edges, _ := s.options["edges"].(bool)
	for _, e := range s.events.take(now) {
		add := func(quantity string, v uint64) {
			all = append(all, sensors.Measurement{Quantity: quantity, Value: float64(v), Time: e.at})
		}
		if e.presses != s.told.presses || e.releases != s.told.releases {
			add("state", number(e.active))
			if edges {
				add("activations", e.presses-s.told.presses)
			}
		}
		for _, c := range []struct {
			quantity string
			is, was  uint64
		}{
			{"pressed", e.presses, s.told.presses}, {"released", e.releases, s.told.releases}, {"long", e.long, s.told.long},
			{"double", e.double, s.told.double}, {"chord", e.chord, s.told.chord},
		} {
			if c.is != c.was {
				add(c.quantity, c.is)
			}
		}
		s.told = e
	}
	return all
}

func number(active bool) uint64 {
	if active {
		return 1
	}
	return 0
}

// Sense returns what has happened, and the level. Edges are called one after the other, so none comes in between.
func (s *gpioInputSensor) Sense(ctx context.Context) ([]sensors.Measurement, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	for _, l := range s.lines[1:] {
		if _, err := l.Value(); err != nil {
			return s.take(true), err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	v, err := s.lines[0].Value()
	if err != nil {
		return s.take(true), err
	}
	active := v == 1
	switch {
	case active == s.now.active:
		s.differs = false
	case !s.differs || s.edgesAt != s.seq:
		// An edge is on its way, and has its own time.
		s.differs, s.edgesAt = true, s.seq
		return s.take(true), &sensors.NotYet{After: 10 * time.Millisecond, Why: "an edge is on its way"}
	default: // the interrupt was missed
		s.differs = false
		s.lost++
		s.move(active, time.Now())
	}
	m := append(s.take(true), sensors.Measurement{Quantity: "state", Value: float64(number(active))})
	if on, _ := s.options["edges"].(bool); on {
		m = append(m, sensors.Measurement{Quantity: "activations"})
	}
	return m, nil
}

// LeftOut is how many events the limit dropped, and how many edges the kernel.
func (s *gpioInputSensor) LeftOut() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.events.leftOut() + s.lost
}

// Close gives the lines back. Called without mu held: an edge may be under way.
func (s *gpioInputSensor) Close() (err error) {
	for _, l := range s.lines {
		err = errors.Join(err, l.Close())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events.close()
	if s.pressing != nil {
		s.pressing.Stop()
	}
	return err
}
