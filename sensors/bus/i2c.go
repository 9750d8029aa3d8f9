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

// I2C is an open bus, or a channel of a multiplexer on one.
type I2C struct {
	name string
	*wires
	channel channel // none on the bus itself

	pinsMu sync.Mutex
	pins   map[uint16]Pins // by address

	locks sync.Map // by address: *sync.Mutex
}

// wires are those of a bus, which the channels of its multiplexers share.
type wires struct {
	name   string
	bus    i2c.BusCloser
	gone   func()
	trace  func(Transfer) // may be nil
	lock   chan struct{}  // full during a transfer: a channel, so that who waits for it can give up
	holder atomic.Uint32  // address of the transfer that runs, or ran last
	lost   bool           // the adapter was gone at the last transfer
	muxes  map[uint16]muxState
}

// ChipLock is for users of one chip that change registers which they share.
func (b *I2C) ChipLock(addr uint16) sync.Locker {
	l, _ := b.locks.LoadOrStore(addr, new(sync.Mutex))
	return l.(*sync.Mutex)
}

// I2C returns a bus by its name in the configuration: "i2c-1" is /dev/i2c-1, and "i2c-1/0x70/3" channel
// 3 of the multiplexer at address 0x70 on it.
func (s *Set) I2C(name string) (*I2C, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	parent, ch, err := channelOf(name)
	if err != nil {
		return nil, err
	}
	w, err := s.open(parent)
	if err != nil {
		return nil, err
	}
	b := s.buses[name]
	if b == nil || b.wires != w { // the adapter was unplugged, and is another device now
		b = &I2C{name: name, wires: w, channel: ch}
		s.buses[name] = b
	}
	return b, nil
}

// open returns the wires of that name. Called with mu held.
func (s *Set) open(name string) (*wires, error) {
	if b := s.buses[name]; b != nil {
		return b.wires, nil
	}
	raw, err := s.openI2C(name)
	if err != nil {
		return nil, err
	}
	w := &wires{name: name, bus: raw, trace: s.Trace, lock: make(chan struct{}, 1), muxes: map[uint16]muxState{}}
	w.gone = func() { s.forget(name, w) }
	s.buses[name] = &I2C{name: name, wires: w}
	return w, nil
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

// forget closes the bus, which its next user opens anew: an adapter that was unplugged comes back as
// another device.
func (s *Set) forget(name string, w *wires) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if b := s.buses[name]; b != nil && b.wires == w {
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
	err := b.route(b.channel, addr)
	if err == nil {
		if err = b.transfer(addr, w, r); err != nil {
			if b.channel.mux != 0 { // its power may have gone with the chip's
				b.muxes[b.channel.mux] = muxUnknown
			}
			err = fmt.Errorf("%s, address %#02x: %w", b.name, addr, classify(err))
		}
	}
	lost := b.lost
	<-b.lock
	if lost {
		b.gone()
		b.bus.Close()
	}
	return err
}

// transfer is one on the wires. Called with the lock held.
func (w *wires) transfer(addr uint16, out, in []byte) error {
	err := w.bus.Tx(addr, out, in)
	w.lost = err != nil && (errors.Is(err, syscall.ENODEV) || textOf(err, syscall.ENODEV))
	if w.trace != nil {
		w.trace(Transfer{w.name, addr, out, in, err})
	}
	return err
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
