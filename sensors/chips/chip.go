package chips

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"periph.io/x/conn/v3"
	"periph.io/x/conn/v3/physic"
	"periph.io/x/conn/v3/spi"

	"holdfast/sensors"
	"holdfast/sensors/bus"
)

// chip is a chip on an I2C bus or an SPI port, for drivers that talk to its registers themselves. No
// transfer begins after the end of a call's ctx.
type chip struct {
	*bus.Device
	name     string // for errors
	readFlag byte   // on SPI, what a register's address has when it is read
}

// openI2C connects to the chip of a configured sensor. It transfers nothing.
func openI2C(c sensors.Config, buses *bus.Set) (*chip, error) {
	dev, err := buses.I2CDevice(c.Bus, c.Address)
	if err != nil {
		return nil, err
	}
	return &chip{Device: dev, name: strings.ToUpper(c.Driver)}, nil
}

// openEither connects to a chip that can be on I2C or on SPI, where the upper bits of a register's
// address tell reads from writes. It transfers nothing.
func openEither(c sensors.Config, buses *bus.Set, f physic.Frequency, m spi.Mode, readFlag byte) (*chip, error) {
	if bus.KindOf(c.Bus) != bus.SPIKind {
		return openI2C(c, buses)
	}
	dev, err := buses.SPIDevice(c.Bus, f, m)
	if err != nil {
		return nil, err
	}
	return &chip{Device: dev, name: strings.ToUpper(c.Driver), readFlag: readFlag}, nil
}

// tx writes w and reads n bytes, in one transfer.
func (c *chip) tx(ctx context.Context, w []byte, n int) ([]byte, error) {
	c.Begin(ctx)
	r := make([]byte, n)
	if err := c.Tx(w, r); err != nil {
		return nil, err
	}
	return r, nil
}

// read reads n bytes from a register on.
func (c *chip) read(ctx context.Context, reg byte, n int) ([]byte, error) {
	if c.Duplex() == conn.Full {
		w := make([]byte, n+1)
		w[0] = reg | c.readFlag
		r, err := c.tx(ctx, w, n+1)
		if err != nil {
			return nil, err
		}
		return r[1:], nil
	}
	return c.tx(ctx, []byte{reg}, n)
}

// silent returns the error for a byte that no chip has driven: on SPI a missing chip reads as ones. It is
// for registers that never hold them.
func (c *chip) silent(b byte) error {
	if b != 0xFF || c.Duplex() != conn.Full {
		return nil
	}
	return fmt.Errorf("%s: %w: only ones are read: check wiring", c, bus.ErrAbsent)
}

// read16 reads a register of two bytes, the upper one first.
func (c *chip) read16(ctx context.Context, reg byte) (uint16, error) {
	b, err := c.read(ctx, reg, 2)
	if err != nil {
		return 0, err
	}
	return be16(b), nil
}

// write writes a register and its values, or a command.
func (c *chip) write(ctx context.Context, b ...byte) error {
	if c.Duplex() == conn.Full {
		b[0] &= 0x7F
	}
	_, err := c.tx(ctx, b, 0)
	return err
}

// identify checks that an id register of one byte holds one of the values of the chip, and returns it.
func (c *chip) identify(ctx context.Context, reg byte, want ...byte) (byte, error) {
	b, err := c.read(ctx, reg, 1)
	if err != nil {
		return 0, err
	}
	ids := make([]uint64, len(want))
	for i, w := range want {
		ids[i] = uint64(w)
	}
	return b[0], checkID(c.name, uint64(b[0]), 8, ids...)
}

func be16(b []byte) uint16 { return uint16(b[0])<<8 | uint16(b[1]) }
func le16(b []byte) uint16 { return uint16(b[1])<<8 | uint16(b[0]) }

// overRange is the error for an input that the chip's range cannot hold.
func overRange(what string, remedy string, args ...any) error {
	return &rangeError{what + ": " + fmt.Sprintf(remedy, args...)}
}

// rangeError is of class ErrPermanent: a person has to choose another range.
type rangeError struct{ text string }

func (e *rangeError) Error() string { return fmt.Sprintf("%v: %s", sensors.ErrPermanent, e.text) }
func (e *rangeError) Unwrap() error { return sensors.ErrPermanent }

// shockTime is how long an accelerometer may be beyond its range in a reading: a knock is over by then.
const shockTime = 100 * time.Millisecond

// afterShock takes samples until one is in the range. One knock, however hard, is no reason to give the chip up; what
// lasts is.
func afterShock(sample func() ([]sensors.Measurement, error)) ([]sensors.Measurement, error) {
	end := time.Now().Add(shockTime)
	for {
		m, err := sample()
		if beyond := (*rangeError)(nil); !errors.As(err, &beyond) || !time.Now().Before(end) {
			return m, err
		}
	}
}

// identifyByte identifies a chip by one register of one byte.
func identifyByte(name string, reg, want byte) func(conn.Conn) (string, error) {
	return func(dev conn.Conn) (string, error) {
		var b [1]byte
		if err := dev.Tx([]byte{reg}, b[:]); err != nil || b[0] != want {
			return "", err
		}
		return name, nil
	}
}

// wait sleeps, or ends with ctx.
func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	return context.Cause(ctx)
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
