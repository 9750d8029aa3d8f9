package bus

import (
	"errors"
	"fmt"

	"github.com/warthog618/go-gpiocdev"
)

// Output is an open GPIO line that is driven.
type Output interface {
	Line
	SetValue(active int) error
}

// Drives of an output line.
const (
	DrivePushPull   = "push-pull"
	DriveOpenDrain  = "open-drain"
	DriveOpenSource = "open-source"
)

// Output opens a line as an output that is at once active or not: the level is given to the kernel
// with the request, so that the other one never appears.
func (s *Set) Output(name string, o LineOptions, active bool) (Output, error) {
	value := 0
	if active {
		value = 1
	}
	if sim, err := s.simulates(name); sim != nil || err != nil {
		return simulatedLine(sim, err, o, func(sim LineSimulator) (Output, error) { return sim.Output(o, active) })
	}
	opts := append(o.request(), gpiocdev.AsOutput(value))
	switch o.Drive {
	case DriveOpenDrain:
		opts = append(opts, gpiocdev.AsOpenDrain)
	case DriveOpenSource:
		opts = append(opts, gpiocdev.AsOpenSource)
	}
	return requested(o, opts)
}

// LineSimulator is the part of a Simulator that has GPIO lines.
type LineSimulator interface {
	Input(o LineOptions) (Line, error)
	Output(o LineOptions, active bool) (Output, error)
	Edges(o LineOptions, both bool, edge func(Edge)) (Line, error)
}

func simulatedLine[L Line](sim LineSimulator, err error, o LineOptions, open func(LineSimulator) (L, error)) (l L, _ error) {
	if err != nil {
		return l, err
	}
	if l, err = open(sim); err != nil {
		return l, fmt.Errorf("simulated, line %d: %w", o.Offset, classify(err))
	}
	return l, nil
}

// Consumer is how the kernel calls us where it lists who holds a line.
const Consumer = "holdfast"

// request is the part of a request that holds for every line.
func (o LineOptions) request() []gpiocdev.LineReqOption {
	opts := []gpiocdev.LineReqOption{gpiocdev.WithConsumer(Consumer)}
	if o.ActiveLow {
		opts = append(opts, gpiocdev.AsActiveLow)
	}
	switch o.Bias {
	case BiasNone:
		opts = append(opts, gpiocdev.WithBiasDisabled)
	case BiasPullUp:
		opts = append(opts, gpiocdev.WithPullUp)
	case BiasPullDown:
		opts = append(opts, gpiocdev.WithPullDown)
	}
	if o.Debounce > 0 {
		opts = append(opts, gpiocdev.WithDebounce(o.Debounce))
	}
	return opts
}

// requested asks the kernel for a line.
func requested(o LineOptions, opts []gpiocdev.LineReqOption) (Output, error) {
	labels := headers
	if o.Chip != "" {
		labels = []string{o.Chip}
	}
	chip, err := findChip(labels)
	if err != nil {
		return nil, err
	}
	l, err := gpiocdev.RequestLine(chip, o.Offset, opts...)
	var old gpiocdev.ErrUapiIncompatibility
	if errors.As(err, &old) && o.Debounce > 0 {
		return nil, fmt.Errorf("%s, line %d: %w: the kernel is older than Linux 5.10 and cannot debounce: set debounce: 0s", chip, o.Offset, err)
	}
	if err != nil {
		return nil, fmt.Errorf("%s, line %d: %w", chip, o.Offset, classify(err))
	}
	return l, nil
}
