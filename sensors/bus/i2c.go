package bus

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"periph.io/x/conn/v3/i2c"
	"periph.io/x/conn/v3/physic"
	"periph.io/x/host/v3/sysfs"
)

// I2C is an open bus.
type I2C struct {
	name   string
	bus    i2c.BusCloser
	gone   func()
	told   func(Transfer) // may be nil
	lock   chan struct{}  // full during a transfer: a channel, so that who waits for it can give up
	holder atomic.Uint32  // address of the transfer that runs, or ran last

	pinsMu sync.Mutex
	pins   map[uint16]Pins // by address

	locks sync.Map // by address: *sync.Mutex
}

// ChipLock is for users of one chip that change registers which they share.
func (b *I2C) ChipLock(addr uint16) sync.Locker {
	l, _ := b.locks.LoadOrStore(addr, new(sync.Mutex))
	return l.(*sync.Mutex)
}

// I2C returns a bus by its name in the configuration: "i2c-1" is /dev/i2c-1.
func (s *Set) I2C(name string) (*I2C, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if b := s.buses[name]; b != nil {
		return b, nil
	}
	raw, err := s.openI2C(name)
	if err != nil {
		return nil, err
	}
	b := &I2C{name: name, bus: raw, told: s.Trace, lock: make(chan struct{}, 1)}
	b.gone = func() { s.forget(name, b) }
	s.buses[name] = b
	return b, nil
}

func (s *Set) openI2C(name string) (i2c.BusCloser, error) {
	if sim, err := s.simulates(name); sim != nil || err != nil {
		if err != nil {
			return nil, err
		}
		return sim.I2C(name)
	}
	n, err := strconv.Atoi(strings.TrimPrefix(name, "i2c-"))
	if err != nil {
		return nil, fmt.Errorf("bus: %q is no I2C bus", name)
	}
	device := fmt.Sprintf("/dev/i2c-%d", n)
	if _, err := os.Stat(device); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s does not exist: enable I2C with raspi-config, or choose another bus", ErrAbsent, device)
	}
	b, err := sysfs.NewI2C(n)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", device, classify(err))
	}
	return b, nil
}

// forget has the bus opened anew for its next user: an adapter that was unplugged comes back as
// another device.
func (s *Set) forget(name string, b *I2C) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.buses[name] == b {
		delete(s.buses, name)
	}
}

func (b *I2C) tx(ctx context.Context, addr uint16, w, r []byte) error {
	select {
	case b.lock <- struct{}{}:
	case <-ctx.Done():
		return fmt.Errorf("%s: %w: held by a transfer to another chip, address %#02x: %w", b.name, ErrTemporary, b.holder.Load(), context.Cause(ctx))
	}
	b.holder.Store(uint32(addr))
	err := b.bus.Tx(addr, w, r)
	if b.told != nil {
		b.told(Transfer{b.name, addr, w, r, err})
	}
	<-b.lock
	if err == nil {
		return nil
	}
	if errors.Is(err, syscall.ENODEV) || textOf(err, syscall.ENODEV) {
		b.gone()
		b.bus.Close()
	}
	return fmt.Errorf("%s, address %#02x: %w", b.name, addr, classify(err))
}

// Conn is one sensor's connection to an I2C bus, in the shape that periph's drivers want.
type Conn struct {
	link
	bus *I2C
}

var _ i2c.Bus = (*Conn)(nil)

// Conn returns a connection whose transfers fail until Begin.
func (b *I2C) Conn() *Conn { return &Conn{newLink(b.name), b} }

// Tx writes w to the chip and reads r from it, in one transfer.
func (c *Conn) Tx(addr uint16, w, r []byte) error {
	return c.do(func(ctx context.Context) error { return c.bus.tx(ctx, addr, w, r) })
}

// SetSpeed is refused: the speed of a bus is the device tree's, and its other chips' business.
func (c *Conn) SetSpeed(physic.Frequency) error { return errors.New("bus: the speed is fixed") }
