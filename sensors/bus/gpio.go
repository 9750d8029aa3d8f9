package bus

import (
	"fmt"
	"slices"
	"time"

	"github.com/warthog618/go-gpiocdev"
)

// Line is an open GPIO line.
type Line interface {
	Value() (int, error) // 1 is active
	Close() error
}

// Biases of an input line.
const (
	BiasAsIs     = "as-is"
	BiasNone     = "disabled"
	BiasPullUp   = "pull-up"
	BiasPullDown = "pull-down"
)

// LineOptions say how a line is to be set up.
type LineOptions struct {
	Chip      string // label of the GPIO chip; empty means the Pi's header
	Offset    int    // of the line in the chip: the BCM number
	ActiveLow bool
	Bias      string        // one of the Bias constants; empty means as it is
	Debounce  time.Duration // how long a level has to stay; 0 means no wait
	Drive     string        // of an output, one of the Drive constants; empty means push-pull
}

// headers are the labels of the chips that the 40-pin header of a Pi is wired to. Numbers of chips
// change with kernels (the Pi 5's moved from gpiochip4 to gpiochip0), labels do not.
var headers = []string{"pinctrl-rp1", "pinctrl-bcm2711", "pinctrl-bcm2835"}

// IsHeader reports whether a GPIO chip's label is that of a chip that the Pi's header is wired to.
func IsHeader(label string) bool { return slices.Contains(headers, label) }

// Input opens a line as an input. It never drives it.
func (s *Set) Input(name string, o LineOptions) (Line, error) {
	if sim, err := s.simulates(name); sim != nil || err != nil {
		return simulatedLine(sim, err, o, func(sim LineSimulator) (Line, error) { return sim.Input(o) })
	}
	return requested(o, append(o.request(), gpiocdev.AsInput))
}

// findChip returns the name of the first chip that has one of the labels.
func findChip(labels []string) (string, error) {
	var seen []string
	for _, name := range gpiocdev.Chips() {
		c, err := gpiocdev.NewChip(name)
		if err != nil {
			return "", fmt.Errorf("%s: %w", name, classify(err))
		}
		label := c.Label
		c.Close()
		if slices.Contains(labels, label) {
			return name, nil
		}
		seen = append(seen, label)
	}
	return "", fmt.Errorf("%w: no GPIO chip is labelled %q: there are %q", ErrAbsent, labels, seen)
}
