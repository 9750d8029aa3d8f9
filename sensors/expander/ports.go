package expander

import (
	"context"
	"fmt"

	"holdfast/sensors/bus"
)

// MCP23017 is the Microchip MCP23017 (data sheet DS20001952, section 3.5: registers, IOCON.BANK = 0).
func MCP23017() Chip {
	return Chip{
		Name: "mcp23017", Doc: "I/O expander with 16 pins", Chip: "Microchip MCP23017", Datasheet: "DS20001952",
		Wiring:    "VDD 3.3 V; RESET to VDD; SDA, SCL with pull-ups to 3.3 V; A0, A1, A2 to GND for 0x20; pins 0 to 7 are GPA0 to GPA7, 8 to 15 GPB0 to GPB7; use GPA7 and GPB7 as outputs only",
		Addresses: addresses(0x20), Pins: 16, PullUps: true,
		open: func(conn *bus.Conn, addr uint16) bus.Pins {
			return newPorts(conn, addr, ports{direction: 0x00, polarity: 0x02, pullUp: 0x0C, input: 0x12, output: 0x14, pulls: true, banked: true})
		},
	}
}

// TCA9555 is the Texas Instruments TCA9555 (data sheet SCPS200, section "Register maps"), and what is
// like it: NXP PCA9555, TI TCA9535.
func TCA9555() Chip {
	return Chip{
		Name: "tca9555", Doc: "I/O expander with 16 pins", Chip: "Texas Instruments TCA9555, TCA9535, NXP PCA9555", Datasheet: "SCPS200",
		Wiring:    "VCC 3.3 V; SDA, SCL with pull-ups to 3.3 V; A0, A1, A2 to GND for 0x20; pins 0 to 7 are P00 to P07, 8 to 15 P10 to P17",
		Addresses: addresses(0x20), Pins: 16,
		open: func(conn *bus.Conn, addr uint16) bus.Pins {
			return newPorts(conn, addr, ports{direction: 0x06, polarity: 0x04, input: 0x00, output: 0x02})
		},
	}
}

func addresses(first uint16) (a []uint16) {
	for i := range uint16(8) {
		a = append(a, first+i)
	}
	return a
}

// mcp23017Bank1IOCON is where IOCON is while its BANK bit is set. With the bit clear there is
// GPINTEN of port B, which is then written again.
const mcp23017Bank1IOCON = 0x05

// Registers of an MCP23017 for its interrupt outputs (section 3.6), those of port A.
const (
	mcp23017GPINTEN = 0x04 // 1: a change of the pin is an interrupt
	mcp23017INTCON  = 0x08 // 0: a change from the level before
	mcp23017IOCON   = 0x0A
	mcp23017Outputs = 0x44 // of IOCON: both outputs are one (MIRROR), and an open drain (ODR)
)

// ports is a chip with two ports of eight pins, and a register of each kind for each port, the second
// one after the first. In direction registers 1 is an input.
type ports struct {
	exclusive
	direction, polarity, pullUp, input, output byte

	pulls  bool // there is pullUp
	banked bool // an MCP23017, whose registers may be in another order

	given [16]setting
}

// setting is what a pin was given.
type setting struct{ known, out, pull, watch bool }

func newPorts(conn *bus.Conn, addr uint16, p ports) *ports {
	p.exclusive = newExclusive(conn, addr)
	return &p
}

// Len is the number of pins.
func (*ports) Len() int { return 16 }

// Output makes a pin an output at that level. The level is written before the direction.
func (p *ports) Output(ctx context.Context, pin int, high bool) error {
	return p.configure(ctx, pin, setting{known: true, out: true}, high)
}

// Input makes a pin an input.
func (p *ports) Input(ctx context.Context, pin int, pullUp bool) error {
	return p.configure(ctx, pin, setting{known: true, pull: pullUp && p.pulls}, false)
}

func (p *ports) configure(ctx context.Context, pin int, s setting, high bool) error {
	port, mask, end, err := p.start(ctx, pin)
	if err != nil {
		return err
	}
	defer end()
	p.given[pin] = setting{}
	if p.banked {
		if err := p.put(mcp23017Bank1IOCON, 0); err != nil {
			return err
		}
		if watched := p.watched(1); watched != 0 {
			if err := p.put(mcp23017GPINTEN+1, watched); err != nil {
				return err
			}
		}
	}
	if s.out {
		if err := p.bit(p.output+port, mask, high); err != nil {
			return err
		}
	}
	if p.pulls {
		if err := p.bit(p.pullUp+port, mask, s.pull); err != nil {
			return err
		}
	}
	if err := p.bit(p.polarity+port, mask, false); err != nil { // not inverted
		return err
	}
	if err := p.bit(p.direction+port, mask, !s.out); err != nil {
		return err
	}
	p.given[pin] = s
	// What was written is read back: another chip, or none, does not hold it.
	if err := p.check(pin, port, mask); err != nil {
		p.given[pin] = setting{}
		return err
	}
	if s.out {
		latch, err := p.get(p.output + port)
		if err == nil && latch&mask != 0 != high {
			err = fmt.Errorf("%w: the level is not kept: another chip answers at this address", bus.ErrTemporary)
		}
		return err
	}
	return nil
}

// Watch lets changes of an input be interrupts. Both ports share one interrupt.
func (p *ports) Watch(ctx context.Context, pin int) error {
	port, mask, end, err := p.start(ctx, pin)
	if err != nil {
		return err
	}
	defer end()
	if s := p.given[pin]; !s.known || s.out {
		return fmt.Errorf("pin %d is no input: %w", pin, ErrRestarted)
	}
	if p.banked {
		outputs, err := p.get(mcp23017IOCON)
		if err == nil && outputs != mcp23017Outputs {
			err = p.put(mcp23017IOCON, mcp23017Outputs)
		}
		if err != nil {
			return err
		}
		if err := p.bit(mcp23017INTCON+port, mask, false); err != nil {
			return err
		}
		if err := p.bit(mcp23017GPINTEN+port, mask, true); err != nil {
			return err
		}
	}
	p.given[pin].watch = true
	return nil
}

// watched are the pins of a port whose changes are interrupts.
func (p *ports) watched(port int) (mask byte) {
	for i, s := range p.given[8*port : 8*port+8] {
		if s.watch {
			mask |= 1 << i
		}
	}
	return mask
}

// Set changes the level of an output.
func (p *ports) Set(ctx context.Context, pin int, high bool) error {
	port, mask, end, err := p.start(ctx, pin)
	if err != nil {
		return err
	}
	defer end()
	if !p.given[pin].out {
		return fmt.Errorf("pin %d is no output: %w", pin, ErrRestarted)
	}
	if err := p.check(pin, port, mask); err != nil {
		return err
	}
	return p.bit(p.output+port, mask, high)
}

// Get reads the level at a pin.
func (p *ports) Get(ctx context.Context, pin int) (high bool, err error) {
	port, mask, end, err := p.start(ctx, pin)
	if err != nil {
		return false, err
	}
	defer end()
	if !p.given[pin].known {
		return false, fmt.Errorf("pin %d is not open: %w", pin, ErrRestarted)
	}
	var levels [2]byte
	if p.given[pin].watch { // both ports: the interrupt ends when the one that has it is read
		err = p.conn.Tx(p.addr, []byte{p.input}, levels[:])
	} else {
		levels[port], err = p.get(p.input + port)
	}
	if err == nil { // after the level: the power may have gone in between
		err = p.check(pin, port, mask)
	}
	return levels[port]&mask != 0, err
}

func (p *ports) start(ctx context.Context, pin int) (port, mask byte, end func(), err error) {
	if err := bus.CheckPin(p, pin); err != nil {
		return 0, 0, nil, err
	}
	end, err = p.begin(ctx)
	return byte(pin / 8), 1 << (pin % 8), end, err
}

// check finds a pin that does not have what it was given.
func (p *ports) check(pin int, port, mask byte) error {
	given := p.given[pin]
	direction, err := p.get(p.direction + port)
	if err != nil {
		return err
	}
	if direction&mask == 0 != given.out {
		return ErrRestarted
	}
	if given.watch && p.banked {
		enabled, err := p.get(mcp23017GPINTEN + port)
		if err != nil {
			return err
		}
		if enabled&mask == 0 {
			return ErrRestarted
		}
	}
	if !p.pulls {
		return nil
	}
	pull, err := p.get(p.pullUp + port)
	if err == nil && pull&mask != 0 != given.pull {
		err = ErrRestarted
	}
	return err
}
