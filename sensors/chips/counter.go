package chips

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"holdfast/sensors"
	"holdfast/sensors/bus"
)

// counter counts the pulses of a meter at a GPIO line, by the kernel's edge events
// (include/uapi/linux/gpio.h).
func counter() sensors.Driver {
	return sensors.Driver{
		Spec: sensors.Spec{
			Name: "counter", Doc: "pulses of a flow meter, rain gauge, S0 or gas meter: count and total at once, as long as pulses are rare, and at each interval with the rate",
			Chip: "anything with a contact or an open collector", Datasheet: "include/uapi/linux/gpio.h",
			Wiring: "a contact goes from the line to GND with bias: pull-up and active_low: true; S0 (open collector) likewise, + to the line; debounce 10ms for reed contacts",
			Buses:  []sensors.BusKind{sensors.BusGPIO},
			Claims: claimInputs("edges to active", "line"),
			Options: append(lineOptions(0),
				sensors.Option{Name: "scale", Kind: sensors.OptionFloat, Default: 1.0, Doc: "how much one pulse is, in unit"},
				sensors.Option{Name: "unit", Kind: sensors.OptionString, Default: "", Doc: "of the total, such as L, mm or kWh"},
				sensors.Option{Name: "per", Kind: sensors.OptionString, Default: "s", Allowed: []string{"s", "min", "h"}, Doc: "time of the rate"},
				sensors.Option{Name: "start", Kind: sensors.OptionFloat, Default: 0.0, Doc: "what the meter's display shows now, in unit: the total goes on from there whenever this is changed"},
				sensors.Option{Name: "save_every", Kind: sensors.OptionDuration, Default: time.Minute, Doc: "how often the count is kept for the next start, beside every stop: a crash or power cut forgets the pulses since then"},
			),
			Timeout: time.Second,
		},
		QuantitiesOf: func(options map[string]any) []sensors.Quantity {
			unit, _ := options["unit"].(string)
			per, _ := options["per"].(string)
			return []sensors.Quantity{{Name: "count"}, {Name: "total", Unit: unit}, {Name: "rate", Unit: unit + "/" + per}, {Name: "lost"}}
		},
		Check: func(c sensors.Config) error {
			if c.Options["scale"].(float64) == 0 {
				return errors.New("scale: is 0, and no pulse would count: want how much one pulse is, such as 0.5")
			}
			return nil
		},
		Open: openCounter,
		Own:  true, Urgent: true,
	}
}

// lineOptions are those of an input line.
func lineOptions(debounce time.Duration) []sensors.Option {
	return []sensors.Option{
		{Name: "line", Kind: sensors.OptionInt, Required: true, Min: 0, Max: 511, Doc: "offset of the line in its chip: on the Pi's header the BCM number"},
		{Name: "chip", Kind: sensors.OptionString, Doc: "label of the GPIO chip; the Pi's header if not given"},
		{Name: "active_low", Kind: sensors.OptionBool, Default: false, Doc: "whether a low level is active"},
		{Name: "bias", Kind: sensors.OptionString, Default: bus.BiasAsIs, Doc: "pull resistor",
			Allowed: []string{bus.BiasAsIs, bus.BiasNone, bus.BiasPullUp, bus.BiasPullDown}},
		{Name: "debounce", Kind: sensors.OptionDuration, Default: debounce, Doc: "how long a level has to stay before it counts: the kernel sees to that"},
	}
}

func inputLine(c sensors.Config) bus.LineOptions {
	return bus.LineOptions{
		Chip: stringOption(c, "chip"), Offset: int(c.Options["line"].(int64)), ActiveLow: c.Options["active_low"].(bool),
		Bias: stringOption(c, "bias"), Debounce: c.Options["debounce"].(time.Duration),
	}
}

// claimInputs is the Claims of a driver whose options of these names are input lines. Several may have one, if they want it
// set up in the same way (bus.Set.Edges).
func claimInputs(edges string, options ...string) func(sensors.Place) ([]sensors.Claim, error) {
	return sensors.ClaimLines(func(p sensors.Place) string {
		return describeInput(edges, inputLine(sensors.Config{Options: p.Options}))
	}, options...)
}

func describeInput(edges string, o bus.LineOptions) string {
	return fmt.Sprintf("an input for %s with active_low %v, bias %s and debounce %v", edges, o.ActiveLow, o.Bias, o.Debounce)
}

// edges counts the edges of a line to active. The kernel numbers them as they happen, so those that
// overflowed its buffer are counted as well, once the next one has arrived.
type edges struct {
	mu    sync.Mutex
	seq   uint32 // of the last edge
	count uint64
	lost  uint64 // of them, numbered by the kernel and never seen
}

func (e *edges) add(edge bus.Edge) {
	e.mu.Lock()
	defer e.mu.Unlock()
	n := edge.Seq - e.seq // also where the number begins anew at 0
	e.seq = edge.Seq
	e.count += uint64(n)
	e.lost += uint64(n - 1)
}

func (e *edges) now() (count, lost uint64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.count, e.lost
}

// The readings of single pulses: five may come at once, and then one in each interval beside that of the slot. A meter
// that runs so makes few readings more than its interval says, and a rain gauge one for each drop.
const counterBurst = 5

type counterSensor struct {
	edges
	pulses arrivals[pulse] // every one of them is in the count
	line   bus.Line
	config sensors.Config
	before uint64 // pulses of earlier processes
	base   uint64 // pulses when the meter's display showed start

	lastCount uint64
	lastAt    time.Time
	saved     uint64
	savedAt   time.Time
}

func openCounter(_ context.Context, c sensors.Config, buses *bus.Set) (sensors.Sensor, error) {
	s := &counterSensor{config: c, lastAt: time.Now(), savedAt: time.Now()}
	if b := hostOf(c).Recall(c.Name); len(b) == 8 {
		s.before = binary.BigEndian.Uint64(b)
	}
	s.saved = s.before
	s.base = startedAt(c, s.before)
	var err error
	s.pulses = arrivals[pulse]{wake: c.Wake, burst: counterBurst, rate: 1 / max(c.Every, time.Second).Seconds()}
	if s.line, err = buses.Edges(c.Bus, inputLine(c), false, s.pulse); err != nil {
		return nil, err
	}
	return s, nil
}

// startedAt returns at which count the meter showed start. That is kept beside the count, with start, and where this is
// another one now the meter shows it now. A count that was kept without it is of a version that began at 0.
func startedAt(c sensors.Config, count uint64) (base uint64) {
	name, start := c.Name+"/start", math.Float64bits(c.Options["start"].(float64))
	if b := hostOf(c).Recall(name); len(b) == 16 {
		if base = binary.BigEndian.Uint64(b[8:]); binary.BigEndian.Uint64(b) == start {
			return min(base, count) // a crash may have forgotten pulses
		}
		base = count
	}
	hostOf(c).Remember(name, binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, start), base))
	return base
}

// pulse is a pulse, and the count with it.
type pulse struct {
	at    time.Time
	count uint64 // since the line was opened
}

func (s *counterSensor) pulse(e bus.Edge) {
	s.add(e)
	count, _ := s.now()
	s.pulses.add(e.Time, pulse{e.Time, count}, 0)
}

// Take returns the count at each pulse.
func (s *counterSensor) Take(context.Context) (all []sensors.Measurement, _ error) {
	for _, p := range s.pulses.take(false) {
		for _, m := range s.total(p.count) {
			m.Time = p.at
			all = append(all, m)
		}
	}
	return all, nil
}

// LeftOut is 0: each pulse is in the count of the next reading.
func (s *counterSensor) LeftOut() uint64 { return 0 }

func (s *counterSensor) total(fresh uint64) []sensors.Measurement {
	options := s.config.Options
	total := s.before + fresh
	return []sensors.Measurement{
		{Quantity: "count", Value: float64(total)},
		{Quantity: "total", Value: options["start"].(float64) + float64(total-s.base)*options["scale"].(float64), Unit: stringOption(s.config, "unit")},
	}
}

func (s *counterSensor) Sense(ctx context.Context) ([]sensors.Measurement, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	if _, err := s.line.Value(); err != nil { // whether the line is still there
		return nil, err
	}
	pulses, _ := s.Take(ctx)
	s.pulses.drop() // it is in the count
	now := time.Now()
	fresh, lost := s.now()
	options := s.config.Options
	scale, unit, per := options["scale"].(float64), stringOption(s.config, "unit"), stringOption(s.config, "per")
	rate := 0.0
	if d := now.Sub(s.lastAt); d > 0 {
		times := map[string]time.Duration{"s": time.Second, "min": time.Minute, "h": time.Hour}
		rate = float64(fresh-s.lastCount) * scale * float64(times[per]) / float64(d)
	}
	s.lastCount, s.lastAt = fresh, now
	if now.Sub(s.savedAt) >= options["save_every"].(time.Duration) {
		s.save(now)
	}
	return append(append(pulses, s.total(fresh)...),
		sensors.Measurement{Quantity: "rate", Value: rate, Unit: unit + "/" + per},
		sensors.Measurement{Quantity: "lost", Value: float64(lost)},
	), nil
}

// save keeps the count, if it has changed: flash is spared while a meter stands still.
func (s *counterSensor) save(now time.Time) {
	fresh, _ := s.now()
	s.savedAt = now
	if total := s.before + fresh; total != s.saved {
		hostOf(s.config).Remember(s.config.Name, binary.BigEndian.AppendUint64(nil, total))
		s.saved = total
	}
}

func (s *counterSensor) Close() error {
	err := s.line.Close() // no edge comes after it
	s.pulses.close()
	s.save(time.Now())
	return err
}
