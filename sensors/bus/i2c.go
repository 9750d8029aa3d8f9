package bus

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"

	"periph.io/x/conn/v3/i2c"
	"periph.io/x/conn/v3/physic"
)

// I2C is an open bus.
type I2C struct {
	name string
	bus  i2c.BusCloser
	gone func()
	mu   sync.Mutex // held during a transfer

	pinsMu sync.Mutex
	pins   map[uint16]Pins // by address
}

func (b *I2C) tx(addr uint16, w, r []byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	err := b.bus.Tx(addr, w, r)
	if err == nil {
		return nil
	}
	if errors.Is(err, syscall.ENODEV) || textOf(err, syscall.ENODEV) {
		b.gone()
		b.bus.Close()
	}
	return fmt.Errorf("%s, address %#02x: %w", b.name, addr, classify(err))
}

// Conn is one sensor's connection to a bus, in the shape that periph's drivers want. It is for one
// goroutine at a time.
type Conn struct {
	bus *I2C
	ctx context.Context
	err error // of the last transfer since Begin
}

var _ i2c.Bus = (*Conn)(nil)

// Conn returns a connection whose transfers fail until Begin.
func (b *I2C) Conn() *Conn { return &Conn{bus: b, ctx: ended} }

var ended = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

// Begin allows transfers until ctx ends: a driver that waits for a chip without a limit of its own
// ends with it.
func (c *Conn) Begin(ctx context.Context) { c.ctx, c.err = ctx, nil }

// Tx writes w to the chip and reads r from it, in one transfer.
func (c *Conn) Tx(addr uint16, w, r []byte) error {
	err := context.Cause(c.ctx)
	if err == nil {
		err = c.bus.tx(addr, w, r)
	}
	c.err = err
	return err
}

// Cause is a driver's error, or instead of it the error of the transfer that made the driver give up.
func (c *Conn) Cause(err error) error {
	if err != nil && c.err != nil {
		return c.err
	}
	return err
}

// SetSpeed is refused: the speed of a bus is the device tree's, and its other chips' business.
func (c *Conn) SetSpeed(physic.Frequency) error { return errors.New("bus: the speed is fixed") }

func (c *Conn) String() string { return c.bus.name }
