package chips

import (
	"context"
	"errors"
	"fmt"
	"sync"
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
	options = append(options,
		sensors.Option{Name: "interrupt", Kind: sensors.OptionInt, Default: int64(-1), Min: -1, Max: 511, Doc: "GPIO line of the Pi that the chip's INT (or INTA) output is connected to: a change is then a reading at once; -1 for none. Sensors on other pins give the same one"},
		sensors.Option{Name: "debounce", Kind: sensors.OptionDuration, Default: defaultDebounce, Doc: "with interrupt: how long after it the pin is read"},
	)
	return sensors.Driver{
		Spec: sensors.Spec{
			Name: chip.Name, Doc: chip.Doc + ": the level of one: 1 active, 0 not",
			Chip: chip.Chip, Datasheet: chip.Datasheet, Wiring: chip.Wiring,
			Buses: []sensors.BusKind{sensors.BusI2C}, Addresses: chip.Addresses,
			Quantities: append([]sensors.Quantity{{Name: "state", Max: 1}}, eventQuantities("pressed", "released")...),
			Options:    options,
			Claims:     claimExpanderPin,
			Timeout:    time.Second,
		},
		QuantitiesOf: func(options map[string]any) []sensors.Quantity {
			q := []sensors.Quantity{{Name: "state", Max: 1}}
			if line, _ := options["interrupt"].(int64); line >= 0 {
				q = append(q, eventQuantities("pressed", "released")...)
			}
			return q
		},
		Urgent: true,
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
	if err := pins.Input(ctx, s.pin, pull); err != nil {
		return nil, restarted(err)
	}
	if line, ok := c.Options["interrupt"].(int64); ok && line >= 0 {
		return watchExpander(ctx, s, int(line), c, buses)
	}
	return s, nil
}

func (s *expanderSensor) active(ctx context.Context) (bool, error) {
	high, err := s.pins.Get(ctx, s.pin)
	if err == nil {
		err = context.Cause(ctx) // an answer that came too late
	}
	return high != s.activeLow, restarted(err)
}

func (s *expanderSensor) Sense(ctx context.Context) ([]sensors.Measurement, error) {
	active, err := s.active(ctx)
	if err != nil {
		return nil, err
	}
	return []sensors.Measurement{{Quantity: "state", Value: float64(number(active))}}, nil
}

// Close leaves the pin an input.
func (s *expanderSensor) Close() error { return nil }

// The limits of one interrupt: how often the pin is read for it, at once and a second in the long run.
const (
	interruptBurst = 20
	interruptRate  = 10
)

// watchedPin is a pin that is read as soon as the chip says that one of its inputs has changed. The interrupt is a
// level: it ends when the chip is read, and there is no other edge before that.
type watchedPin struct {
	*expanderSensor
	line       bus.Line // active while there is an interrupt
	debounce   time.Duration
	interrupts arrivals[time.Time]

	known             bool // Used by Take and Sense only, as what follows
	state             bool // as it was read last
	presses, releases uint64

	mu     sync.Mutex
	timer  *time.Timer // of the debounce; nil if none runs
	closed bool
}

// interruptLine is how the line of an interrupt is set up, but for its number.
var interruptLine = bus.LineOptions{ActiveLow: true, Bias: bus.BiasPullUp}

// claimExpanderPin is the pin for itself, and the line of the interrupt, which pins of the chip share.
func claimExpanderPin(p sensors.Place) ([]sensors.Claim, error) {
	pin, _ := sensors.ClaimPin(p)
	line, err := sensors.ClaimLines(func(sensors.Place) string { return describeInput("both edges", interruptLine) }, "interrupt")(p)
	return append(pin, line...), err
}

func watchExpander(ctx context.Context, s *expanderSensor, line int, c sensors.Config, buses *bus.Set) (sensors.Sensor, error) {
	w := &watchedPin{
		expanderSensor: s, debounce: c.Options["debounce"].(time.Duration),
		interrupts: arrivals[time.Time]{wake: c.Wake, burst: interruptBurst, rate: interruptRate},
	}
	o := interruptLine
	o.Offset = line
	var err error
	if w.line, err = buses.Edges(c.Bus, o, true, w.edge); err != nil {
		return nil, fmt.Errorf("interrupt: %w", err)
	}
	if err := s.pins.Watch(ctx, s.pin); err != nil {
		return nil, errors.Join(restarted(err), w.Close())
	}
	return w, nil
}

func (w *watchedPin) edge(e bus.Edge) {
	if e.Rising {
		w.after(w.debounce, e.Time)
	}
}

// after lets the pin be read for an interrupt at a time, once its contact is quiet.
func (w *watchedPin) after(d time.Duration, at time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.timer != nil || w.closed {
		return
	}
	w.timer = time.AfterFunc(d, func() {
		w.mu.Lock()
		w.timer = nil
		w.mu.Unlock()
		w.interrupts.add(at, at, 0)
	})
}

// Take reads the pin if there was an interrupt.
func (w *watchedPin) Take(ctx context.Context) ([]sensors.Measurement, error) {
	if since := w.interrupts.take(false); len(since) > 0 {
		return w.look(ctx, since[0])
	}
	return nil, nil
}

// look reads the pin, and returns what has changed, at the time of the interrupt.
func (w *watchedPin) look(ctx context.Context, at time.Time) (m []sensors.Measurement, _ error) {
	active, err := w.active(ctx)
	if err != nil {
		return nil, err
	}
	pending, err := w.line.Value()
	if err != nil {
		return nil, fmt.Errorf("interrupt: %w", err)
	}
	if pending == 1 { // another one since: it has no edge
		w.after(max(w.debounce, 10*time.Millisecond), time.Now())
	}
	if w.known && active != w.state {
		quantity, count := "released", &w.releases
		if active {
			quantity, count = "pressed", &w.presses
		}
		*count++
		m = append(m, sensors.Measurement{Quantity: "state", Value: float64(number(active)), Time: at},
			sensors.Measurement{Quantity: quantity, Value: float64(*count), Time: at})
	}
	w.known, w.state = true, active
	return m, nil
}

// Sense reads the pin. A change that no interrupt has told of is an event too.
func (w *watchedPin) Sense(ctx context.Context) ([]sensors.Measurement, error) {
	at := time.Now()
	if since := w.interrupts.take(true); len(since) > 0 {
		at = since[0]
	}
	m, err := w.look(ctx, at)
	if err != nil || len(m) > 0 {
		return m, err
	}
	return []sensors.Measurement{{Quantity: "state", Value: float64(number(w.state))}}, nil
}

// LeftOut is how many interrupts the pin was not read for by itself.
func (w *watchedPin) LeftOut() uint64 { return w.interrupts.leftOut() }

// Close gives the interrupt line back, and leaves the pin an input.
func (w *watchedPin) Close() error {
	err := w.line.Close()
	w.interrupts.close()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	if w.timer != nil {
		w.timer.Stop()
	}
	return err
}

// restarted adds ErrRestarted to an error of a chip that has lost its settings: supervision then opens the pin
// again at once.
func restarted(err error) error {
	if errors.Is(err, expander.ErrRestarted) {
		return fmt.Errorf("%w (%w)", sensors.ErrRestarted, err)
	}
	return err
}
