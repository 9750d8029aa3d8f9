package outputs

import (
	"context"
	"fmt"
	"time"

	"holdfast/sensors"
)

// channel is what makes pulses: a kernel PWM or a channel of a PCA9685. width is from 0 to the period.
type channel interface {
	setWidth(ctx context.Context, width time.Duration) error
	width(ctx context.Context) (time.Duration, error)
	Close() error
}

// share is an output whose value is the part of a period in which it is on.
type share struct {
	channel
	period    time.Duration
	activeLow bool
}

func (s *share) Set(ctx context.Context, value float64) error {
	return s.setWidth(ctx, shareWidth(value, s.period, s.activeLow))
}

func shareWidth(value float64, period time.Duration, activeLow bool) time.Duration {
	if activeLow {
		value = 1 - value
	}
	return time.Duration(value*float64(period) + 0.5)
}

func (s *share) Get(ctx context.Context) (float64, error) {
	w, err := s.width(ctx)
	value := float64(w) / float64(s.period)
	if s.activeLow {
		value = 1 - value
	}
	return value, err
}

// position is a servo: an angle decides about the pulse's width.
type position struct {
	channel
	angle              float64
	minPulse, maxPulse time.Duration
}

// servoPeriod is what analogue servos want.
const servoPeriod = 20 * time.Millisecond

func servoOptions(more ...sensors.Option) []sensors.Option {
	return append(more,
		sensors.Option{Name: "angle", Kind: sensors.OptionFloat, Default: 180.0, Min: 1, Max: 360, Doc: "range of the servo in degrees: values go from 0 to it"},
		sensors.Option{Name: "min_pulse", Kind: sensors.OptionDuration, Default: 1000 * time.Microsecond, Doc: "pulse at 0 degrees, at least 300us"},
		sensors.Option{Name: "max_pulse", Kind: sensors.OptionDuration, Default: 2000 * time.Microsecond, Doc: "pulse at the greatest angle, at most 3ms"},
	)
}

func servoRange(options map[string]any) (low, high float64, unit string) {
	return 0, options["angle"].(float64), " degrees"
}

// servoPulses refuses pulses that would harm a servo.
func servoPulses(options map[string]any) error {
	low, high := options["min_pulse"].(time.Duration), options["max_pulse"].(time.Duration)
	if low < 300*time.Microsecond || high > 3*time.Millisecond || low >= high {
		return fmt.Errorf("min_pulse %v and max_pulse %v: want 300us or more, 3ms or less, and the first to be the shorter one", low, high)
	}
	return nil
}

func newPosition(c Config) position {
	return position{
		angle:    c.Options["angle"].(float64),
		minPulse: c.Options["min_pulse"].(time.Duration), maxPulse: c.Options["max_pulse"].(time.Duration),
	}
}

func (p *position) widthAt(value float64) time.Duration {
	return p.minPulse + time.Duration(value/p.angle*float64(p.maxPulse-p.minPulse)+0.5)
}

func (p *position) Set(ctx context.Context, value float64) error {
	return p.setWidth(ctx, p.widthAt(value))
}

func (p *position) Get(ctx context.Context) (float64, error) {
	w, err := p.width(ctx)
	return float64(w-p.minPulse) / float64(p.maxPulse-p.minPulse) * p.angle, err
}
