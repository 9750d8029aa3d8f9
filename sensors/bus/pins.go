package bus

import (
	"context"
	"fmt"
)

// Pins are the pins of an I/O expander on an I2C bus, by number from 0 (its data sheet's order: port A
// or 0 first). All methods are safe for concurrent use and end with ctx; an error keeps the meaning
// that the bus gave it. A pin that was not opened keeps its direction and level.
//
// After an error nothing is known of the pins: who had one opens it anew, with Output or Input, which
// write everything that the pin needs, because the chip may have lost its power.
type Pins interface {
	// Len is the number of pins.
	Len() int
	// Output makes a pin an output at that level, without the other level in between: the level is
	// written before the direction.
	Output(ctx context.Context, pin int, high bool) error
	// Set changes the level of an output.
	Set(ctx context.Context, pin int, high bool) error
	// Input makes a pin an input, with a pull-up if the chip has one to switch.
	Input(ctx context.Context, pin int, pullUp bool) error
	// Watch has the chip's interrupt output, an open drain that pulls low, tell of changes of an input. Get then ends
	// the interrupt.
	Watch(ctx context.Context, pin int) error
	// Get reads the level at a pin, and checks that the pin still has the direction it was given.
	Get(ctx context.Context, pin int) (high bool, err error)
}

// Pins returns the expander at an address of a bus. It is made once by open, however many outputs and
// sensors have pins of it, so that writes to its shared registers do not overlap.
func (s *Set) Pins(name string, addr uint16, open func(*Conn) Pins) (Pins, error) {
	b, err := s.I2C(name)
	if err != nil {
		return nil, err
	}
	b.pinsMu.Lock()
	defer b.pinsMu.Unlock()
	p := b.pins[addr]
	if p == nil {
		if b.pins == nil {
			b.pins = map[uint16]Pins{}
		}
		p = open(b.Conn())
		b.pins[addr] = p
	}
	return p, nil
}

// CheckPin is the error for a pin that a chip does not have.
func CheckPin(p Pins, pin int) error {
	if pin < 0 || pin >= p.Len() {
		return fmt.Errorf("pin %d: the chip has pins 0 to %d", pin, p.Len()-1)
	}
	return nil
}
