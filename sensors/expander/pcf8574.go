package expander

import (
	"context"
	"errors"
	"fmt"

	"holdfast/sensors/bus"
)

// PCF8574 is the Texas Instruments or NXP PCF8574 and PCF8574A (data sheet SCPS068, sections
// "Quasi-bidirectional I/O" and "Device functional modes").
func PCF8574() Chip {
	return Chip{
		Name: "pcf8574", Doc: "I/O expander with 8 pins, which are high only weakly", Chip: "Texas Instruments, NXP PCF8574, PCF8574A", Datasheet: "SCPS068",
		Wiring:    "VCC 3.3 V; SDA, SCL with pull-ups to 3.3 V; A0, A1, A2 to GND for 0x20 (PCF8574A: 0x38); outputs sink 25 mA and source 0.1 mA: connect loads to VCC",
		Addresses: append(addresses(0x20), addresses(0x38)...), Pins: 8,
		open: func(conn *bus.Conn, addr uint16) bus.Pins { return &quasi{exclusive: newExclusive(conn, addr)} },
	}
}

// quasi is a chip whose pins have one bit each, and no direction: 0 pulls down, 1 pulls up weakly and
// is an input as well. The bits can be written and the levels read, but not the bits.
type quasi struct {
	exclusive
	known bool // the bits
	bits  byte // as they were written; of pins that were not opened, their level at the first access
	given [8]setting
}

// Len is the number of pins.
func (*quasi) Len() int { return 8 }

// Output makes a pin an output at that level.
func (q *quasi) Output(ctx context.Context, pin int, high bool) error {
	return q.give(ctx, pin, setting{known: true, out: true}, high)
}

// Input makes a pin an input. It always has a weak pull-up.
func (q *quasi) Input(ctx context.Context, pin int, _ bool) error {
	return q.give(ctx, pin, setting{known: true}, true)
}

func (q *quasi) give(ctx context.Context, pin int, s setting, high bool) error {
	end, err := q.start(ctx, pin)
	if err != nil {
		return err
	}
	defer end()
	q.given[pin] = setting{}
	if _, err := q.levels(); err != nil && !errors.Is(err, ErrRestarted) {
		return err
	}
	if err := q.write(pin, high); err != nil {
		return err
	}
	q.given[pin] = s
	return nil
}

// Set changes the level of an output.
func (q *quasi) Set(ctx context.Context, pin int, high bool) error {
	end, err := q.start(ctx, pin)
	if err != nil {
		return err
	}
	defer end()
	if _, err := q.levels(); err != nil {
		return err
	}
	if !q.given[pin].out {
		return fmt.Errorf("pin %d is no output: %w", pin, ErrRestarted)
	}
	return q.write(pin, high)
}

// Watch has nothing to set up: the chip's interrupt output tells of every input.
func (q *quasi) Watch(_ context.Context, pin int) error { return bus.CheckPin(q, pin) }

// Get reads the level at a pin.
func (q *quasi) Get(ctx context.Context, pin int) (high bool, err error) {
	end, err := q.start(ctx, pin)
	if err != nil {
		return false, err
	}
	defer end()
	levels, err := q.levels()
	if err == nil && !q.given[pin].known {
		err = fmt.Errorf("pin %d is not open: %w", pin, ErrRestarted)
	}
	return levels>>pin&1 != 0, err
}

func (q *quasi) start(ctx context.Context, pin int) (func(), error) {
	if err := bus.CheckPin(q, pin); err != nil {
		return nil, err
	}
	return q.begin(ctx)
}

// levels reads the pins. An output that was pulled down and is high shows that the chip has restarted:
// then every bit is 1, and every pin has to be opened anew.
func (q *quasi) levels() (byte, error) {
	var b [1]byte
	if err := q.conn.Tx(q.addr, nil, b[:]); err != nil {
		return 0, err
	}
	for pin, s := range q.given {
		if mask := byte(1) << pin; s.out && q.bits&mask == 0 && b[0]&mask != 0 {
			q.known, q.given = false, [8]setting{}
			q.bits = b[0]
			return b[0], ErrRestarted
		}
	}
	if !q.known {
		q.bits = b[0]
	}
	return b[0], nil
}

// write writes all bits. If that fails nothing is known of the one pin.
func (q *quasi) write(pin int, high bool) error {
	v := q.bits &^ (1 << pin)
	if high {
		v |= 1 << pin
	}
	if err := q.conn.Tx(q.addr, []byte{v}, nil); err != nil {
		q.given[pin] = setting{}
		return err
	}
	q.bits, q.known = v, true
	return nil
}
