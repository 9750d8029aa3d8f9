// Package expander drives the pins of I/O expanders on I2C: MCP23017, TCA9555 and PCF8574.
//
// It promises: a pin that becomes an output has its level before it drives, so that the other level
// never appears; no pin but the one that is meant changes level or direction, also those that another
// program has set; an error keeps the meaning that the bus gave it; and a chip that has lost its
// settings with its power is found by the next access to one of its pins (ErrRestarted).
//
// It does not wait for changes: Watch sets up the chip's interrupt output, which is connected to a GPIO line like any
// other.
package expander

import (
	"context"
	"fmt"
	"sync"

	"holdfast/sensors/bus"
)

// ErrRestarted means that the chip has other settings than it was given: its power was interrupted, or
// another program uses it. The pin has to be opened anew, with Output or Input.
var ErrRestarted = fmt.Errorf("%w: the chip has lost its settings: its power was interrupted", bus.ErrTemporary)

// Chip is a kind of expander.
type Chip struct {
	Name, Doc, Chip, Datasheet, Wiring string

	Addresses []uint16 // the default one first
	Pins      int
	PullUps   bool // the chip has pull-ups that can be switched
	open      func(conn *bus.Conn, addr uint16) bus.Pins
}

// Open returns the pins of the chip at an address of a bus, shared by all who use it.
func (c Chip) Open(buses *bus.Set, name string, addr uint16) (bus.Pins, error) {
	return buses.Pins(name, addr, func(conn *bus.Conn) bus.Pins { return c.open(conn, addr) })
}

// exclusive lets one access after the other go to a chip. Who waits for it ends with its context.
type exclusive struct {
	conn *bus.Conn
	addr uint16
	turn chan struct{}
}

func newExclusive(conn *bus.Conn, addr uint16) exclusive {
	return exclusive{conn, addr, make(chan struct{}, 1)}
}

// begin waits for the chip. Call the function that it returns at the end.
func (e *exclusive) begin(ctx context.Context) (func(), error) {
	select {
	case e.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	e.conn.Begin(ctx)
	return sync.OnceFunc(func() { <-e.turn }), nil
}

func (e *exclusive) get(reg byte) (byte, error) {
	var b [1]byte
	err := e.conn.Tx(e.addr, []byte{reg}, b[:])
	return b[0], err
}

func (e *exclusive) put(reg, v byte) error { return e.conn.Tx(e.addr, []byte{reg, v}, nil) }

// bit has one bit of a register set or not, and leaves the others. Nothing is written if it is already
// so.
func (e *exclusive) bit(reg byte, mask byte, set bool) error {
	was, err := e.get(reg)
	if err != nil {
		return err
	}
	v := was &^ mask
	if set {
		v |= mask
	}
	if v == was {
		return nil
	}
	return e.put(reg, v)
}
