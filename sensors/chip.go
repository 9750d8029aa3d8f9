package sensors

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"holdfast/sensors/bus"
)

// chip is a chip at an address of an I2C bus, for drivers that talk to its registers themselves. The
// ctx of a call limits it: no transfer begins after its end, no wait outlasts it.
type chip struct {
	conn *bus.Conn
	addr uint16
}

// openI2C connects to the chip of a configured sensor. It transfers nothing.
func openI2C(c Config, buses *bus.Set) (*chip, error) {
	b, err := buses.I2C(c.Bus)
	if err != nil {
		return nil, err
	}
	return &chip{b.Conn(), c.Address}, nil
}

// tx writes w and reads n bytes, in one transfer.
func (c *chip) tx(ctx context.Context, w []byte, n int) ([]byte, error) {
	c.conn.Begin(ctx)
	r := make([]byte, n)
	if err := c.conn.Tx(c.addr, w, r); err != nil {
		return nil, err
	}
	return r, nil
}

// read reads n bytes from a register on.
func (c *chip) read(ctx context.Context, reg byte, n int) ([]byte, error) {
	return c.tx(ctx, []byte{reg}, n)
}

// read16 reads a register of two bytes, the upper one first.
func (c *chip) read16(ctx context.Context, reg byte) (uint16, error) {
	b, err := c.read(ctx, reg, 2)
	if err != nil {
		return 0, err
	}
	return uint16(b[0])<<8 | uint16(b[1]), nil
}

// write writes bytes: a register and its values, or a command.
func (c *chip) write(ctx context.Context, b ...byte) error {
	_, err := c.tx(ctx, b, 0)
	return err
}

// identify checks that an id register holds one of the values of the chip, and returns it.
func (c *chip) identify(ctx context.Context, reg byte, want ...byte) (byte, error) {
	b, err := c.read(ctx, reg, 1)
	if err != nil {
		return 0, err
	}
	return b[0], wrongID(b[0], want...)
}

func wrongID[T byte | uint16 | uint32](got T, want ...T) error {
	all := make([]uint64, len(want))
	for i, w := range want {
		all[i] = uint64(w)
	}
	return CheckID("chip of the configured kind", uint64(got), 8*binary.Size(got), all...)
}

// wait sleeps, or ends with ctx.
func wait(ctx context.Context, d time.Duration) error {
	if !sleep(ctx, time.Now().Add(d)) {
		return context.Cause(ctx)
	}
	return nil
}

// poll asks until the chip is ready, or ctx ends.
func poll(ctx context.Context, every time.Duration, ready func() (bool, error)) error {
	for {
		if ok, err := ready(); ok || err != nil {
			return err
		}
		if err := wait(ctx, every); err != nil {
			return fmt.Errorf("not ready in time: %w", err)
		}
	}
}

// implausible is a value outside of what the chip can measure: skipped and disturbed measurements end there.
func implausible(what string, v, low, high float64, unit string) error {
	if v >= low && v <= high {
		return nil
	}
	return OutOfRange(what, v, unit, low, high)
}
