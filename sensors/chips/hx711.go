package chips

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"holdfast/sensors"
	"holdfast/sensors/bus"
)

// hx711 is the Avia Semiconductor HX711 (data sheet HX711, "Serial interface" and figure 2).
//
// periph's driver needs edges of periph's own pins, cannot tell that the clock was high for too long,
// which resets the chip, and returns an old conversion, with the gain of another reading.
func hx711() sensors.Driver {
	return sensors.Driver{
		Spec: sensors.Spec{
			Name: "hx711", Doc: "bridge of strain gauges, such as a scale: signal for each volt of its supply; calibrate: makes kg of it",
			Chip: "Avia Semiconductor HX711", Datasheet: "HX711",
			Wiring:     "VSUP and DVDD 2.7 to 5.5 V, but DVDD 3.3 V on a Pi; PD_SCK and DOUT to two GPIO lines; E+, E-, A+, A- to the bridge",
			Buses:      []sensors.BusKind{sensors.BusGPIO},
			Claims:     sensors.ClaimLines(nil, "clock", "data"),
			Quantities: []sensors.Quantity{{Name: "bridge", Unit: "mV/V", Min: -15.7, Max: 15.7}},
			Options: []sensors.Option{
				{Name: "clock", Kind: sensors.OptionInt, Required: true, Min: 0, Max: 511, Doc: "line of PD_SCK: on the Pi's header the BCM number"},
				{Name: "data", Kind: sensors.OptionInt, Required: true, Min: 0, Max: 511, Doc: "line of DOUT"},
				{Name: "chip", Kind: sensors.OptionString, Doc: "label of the GPIO chip; the Pi's header if not given"},
				{Name: "input", Kind: sensors.OptionString, Default: "A128", Allowed: []string{"A128", "A64", "B32"}, Doc: "channel and gain: A128 measures up to 3.9 mV/V, A64 7.8, B32 15.6"},
			},
			Timeout: time.Second,
		},
		Check: func(c sensors.Config) error {
			if c.Options["clock"] == c.Options["data"] {
				return errors.New("clock and data: two lines are needed")
			}
			return nil
		},
		Open: openHX711,
	}
}

// hx711Inputs are the gains, and how many pulses of a reading choose them for the next conversion
// (table 3).
var hx711Inputs = map[string]struct{ gain, pulses int }{"A128": {128, 25}, "B32": {32, 26}, "A64": {64, 27}}

const (
	// hx711High is how long the clock may be high: 50 µs (T3 of figure 2), and at 60 the chip is reset.
	hx711High = 50 * time.Microsecond
	// hx711Next is how long the next conversion takes at most: 100 ms, and the oscillator's tolerance.
	// After a reset, or with another input, it is 400 ms (output settling time, table "Key electrical
	// characteristics").
	hx711Next = 250 * time.Millisecond
	// hx711Patience is how long a chip that is there may take, with all that.
	hx711Patience = time.Second
	// hx711Tries is how often a reading may be disturbed, by other work of the machine or by restarts.
	hx711Tries = 10
)

var errClockHigh = fmt.Errorf("%w: the clock was high for more than %v because the machine is busy: the chip has restarted", bus.ErrTemporary, hx711High)

type hx711Sensor struct {
	clock  bus.Output
	data   bus.Line
	gain   int
	pulses int

	asked  time.Time // since when a conversion is waited for; zero between readings
	chosen time.Time // when the input was last chosen, by a reading that does not count
	tries  int       // that did not count, in a row
}

func openHX711(ctx context.Context, c sensors.Config, buses *bus.Set) (sensors.Sensor, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	line := func(option, bias string) bus.LineOptions {
		o := bus.LineOptions{Offset: int(c.Options[option].(int64)), Bias: bias}
		o.Chip, _ = c.Options["chip"].(string)
		return o
	}
	in := hx711Inputs[c.Options["input"].(string)]
	s := &hx711Sensor{gain: in.gain, pulses: in.pulses}
	var err error
	// Without a chip the line is high, as if it were never ready.
	if s.data, err = buses.Input(c.Bus, line("data", bus.BiasPullUp)); err != nil {
		return nil, err
	}
	if s.clock, err = buses.Output(c.Bus, line("clock", ""), false); err != nil {
		return nil, errors.Join(err, s.data.Close())
	}
	if err := s.restart(ctx); err != nil { // another program may have stopped in the middle of a reading
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// restart powers the chip down and up.
func (s *hx711Sensor) restart(ctx context.Context) error {
	if err := s.clock.SetValue(1); err != nil {
		return err
	}
	return errors.Join(wait(ctx, 2*hx711High), s.clock.SetValue(0))
}

func (s *hx711Sensor) Sense(ctx context.Context) ([]sensors.Measurement, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	if s.asked.IsZero() || time.Since(s.asked) > 2*hx711Patience {
		s.asked, s.chosen = time.Now(), time.Time{}
	}
	busy, err := s.data.Value()
	switch {
	case err != nil:
		return nil, err
	case busy != 0 && time.Since(s.asked) > hx711Patience:
		return nil, fmt.Errorf("%w: DOUT stays high: check wiring and supply", bus.ErrAbsent)
	case busy != 0:
		return nil, &sensors.NotYet{After: 20 * time.Millisecond, Why: "converting"}
	}
	raw, err := s.shift()
	if errors.Is(err, errClockHigh) {
		if s.tries++; s.tries < hx711Tries {
			if err := s.restart(ctx); err != nil {
				return nil, err
			}
			return nil, s.again(time.Time{})
		}
	}
	if err != nil {
		return nil, err
	}
	// What waited may be of another input, because the power was away. Only a conversion that comes
	// right after its input was chosen counts; one that comes late comes from a chip that has restarted.
	if s.chosen.IsZero() || time.Since(s.chosen) > hx711Next {
		if s.tries++; s.tries >= hx711Tries {
			return nil, fmt.Errorf("%w: the chip restarts again and again: check its supply", bus.ErrTemporary)
		}
		return nil, s.again(time.Now())
	}
	s.asked, s.tries = time.Time{}, 0
	if raw == 1<<23-1 || raw == -1<<23 {
		return nil, overRange("the signal is beyond the range", "check the bridge's wiring, or choose an input with less gain")
	}
	return []sensors.Measurement{{Quantity: "bridge", Value: bridgeHX711(raw, s.gain), Unit: "mV/V"}}, nil
}

// again waits for another conversion.
func (s *hx711Sensor) again(chosen time.Time) error {
	s.asked, s.chosen = time.Now(), chosen
	return &sensors.NotYet{After: 20 * time.Millisecond, Why: "converting"}
}

// shift clocks a conversion out, and chooses the input of the next one.
func (s *hx711Sensor) shift() (int32, error) {
	runtime.LockOSThread() // a switch between threads would take long
	defer runtime.UnlockOSThread()
	var raw uint32
	for i := range s.pulses {
		begun := time.Now()
		if err := s.clock.SetValue(1); err != nil {
			return 0, err
		}
		if err := s.clock.SetValue(0); err != nil {
			return 0, err
		}
		if time.Since(begun) > hx711High {
			return 0, errClockHigh
		}
		if i >= 24 {
			continue
		}
		bit, err := s.data.Value()
		if err != nil {
			return 0, err
		}
		raw = raw<<1 | uint32(bit)
	}
	// The 25th pulse pulls DOUT up. A line that stays low has no chip.
	if v, err := s.data.Value(); err != nil || v == 0 {
		return 0, errors.Join(err, fmt.Errorf("%w: DOUT stays low: check wiring", bus.ErrAbsent))
	}
	return int32(raw<<8) >> 8, nil
}

// Close gives the lines back, with the clock low: the chip goes on converting.
func (s *hx711Sensor) Close() error { return errors.Join(s.clock.Close(), s.data.Close()) }

// bridgeHX711 is the signal for each volt of the supply: full scale is ±0.5 of it, divided by the gain
// ("Analog inputs").
func bridgeHX711(raw int32, gain int) float64 { return float64(raw) / (1 << 23) * 500 / float64(gain) }
