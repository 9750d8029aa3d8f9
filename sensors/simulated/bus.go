package simulated

import (
	"errors"
	"fmt"
	"sync"
	"syscall"
	"time"

	"periph.io/x/conn/v3/i2c"
	"periph.io/x/conn/v3/physic"
)

// byteTime is how long a byte takes at 100 kHz, with its acknowledgement.
const byteTime = 90 * time.Microsecond

// Bus is an I2C bus. All methods are safe for concurrent use.
type Bus struct {
	name string

	mu    sync.Mutex
	chips map[uint16]*Chip
	hung  chan struct{} // closed when transfers go on; nil while they do
}

var _ i2c.BusCloser = (*Bus)(nil)

// Chip returns the chip at an address, for faults to be set. It panics if there is none.
func (b *Bus) Chip(addr uint16) *Chip {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.chips[addr]
	if c == nil {
		panic(fmt.Sprintf("simulated: no chip at %#02x", addr))
	}
	return c
}

// Hang makes every transfer wait, as a held clock line does, until Release.
func (b *Bus) Hang() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.hung == nil {
		b.hung = make(chan struct{})
	}
}

// Release lets transfers go on.
func (b *Bus) Release() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.hung != nil {
		close(b.hung)
		b.hung = nil
	}
}

// Tx is a write, a read, or a write and a read with a repeated start.
func (b *Bus) Tx(addr uint16, w, r []byte) error {
	b.mu.Lock()
	hung, c := b.hung, b.chips[addr]
	b.mu.Unlock()
	if hung != nil {
		<-hung
	}
	time.Sleep(time.Duration(2+len(w)+len(r)) * byteTime)
	if c == nil {
		return syscall.EREMOTEIO
	}
	return c.tx(w, r)
}

// SetSpeed does nothing.
func (b *Bus) SetSpeed(physic.Frequency) error { return nil }

func (b *Bus) String() string { return b.name }

// Close does nothing: the bus can be opened again.
func (b *Bus) Close() error { return nil }

// model is a chip's registers. Calls do not overlap.
type model interface {
	write(b []byte) error
	read(b []byte)
	reset() // as after power was off
}

// Chip is a chip on a bus, and what is wrong with it.
type Chip struct {
	mu     sync.Mutex
	model  model
	nack   bool
	absent bool
}

// Nack makes the chip refuse its address, as one that is held in reset does.
func (c *Chip) Nack(on bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.nack = on
}

// Unplug takes the chip off the bus.
func (c *Chip) Unplug() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.absent = true
}

// Replug puts the chip back, as it is after power was off.
func (c *Chip) Replug() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.absent = false
	c.model.reset()
}

// StickBusy makes a BME280 never end a measurement.
func (c *Chip) StickBusy(on bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.model.(*bme280).stuck = on
}

func (c *Chip) tx(w, r []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.nack || c.absent {
		return syscall.EREMOTEIO
	}
	if len(w) > 0 {
		if err := c.model.write(w); err != nil {
			return err
		}
	}
	if len(r) > 0 {
		c.model.read(r)
	}
	return nil
}

var errRefused = errors.New("simulated: the chip does not take these bytes")
