// Package bus opens and shares what sensors are connected to: I2C buses, SPI and serial ports, GPIO
// lines and the kernel's sysfs, real or simulated.
//
// It promises: an I2C bus is opened once, however many sensors use it; transfers on one bus do not
// overlap; an error that the kernel gave keeps its meaning (ErrAbsent, ErrBusy, ErrPermission,
// ErrTemporary), also through a driver that turns errors into text. It is the only importer of periph's
// host packages, and never runs their probing of the whole machine.
//
// It does not schedule, retry or time anything: a transfer that the kernel does not end keeps its bus
// until it does.
package bus

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"sync"

	"periph.io/x/conn/v3/i2c"
	"periph.io/x/conn/v3/spi"
)

// Simulator stands in for the hardware, bus by bus.
type Simulator interface {
	I2C(name string) (i2c.BusCloser, error)
	SPI(name string) (spi.PortCloser, error)
	UART(name string, baud int) (Serial, error)
	LineSimulator
	Sysfs() fs.FS // WriteFS if it can be written to
}

// Serial is an open serial port, 8N1.
type Serial interface {
	// Read waits until at least a byte is there, or ctx ends.
	Read(ctx context.Context, p []byte) (int, error)
	Write(p []byte) (int, error)
	Flush() error // forgets what was received and not read
	Close() error
}

// Set is all buses of a process. All methods are safe for concurrent use.
type Set struct {
	// Trace, if set before the first use, is called with every transfer.
	Trace func(Transfer)

	simulator  Simulator
	everything bool // is simulated, whatever its name

	mu    sync.Mutex
	buses map[string]*I2C
	edges map[string]*sharedLine // by place
}

// NewSet returns the real buses, and those of a simulator, unless it is nil, under the names that are
// simulated ones.
func NewSet(s Simulator) *Set { return &Set{simulator: s, buses: map[string]*I2C{}} }

// NewSimulatedSet returns the buses of a simulator under all names: i2c-1 is then a simulated bus too.
func NewSimulatedSet(s Simulator) *Set {
	return &Set{simulator: s, everything: true, buses: map[string]*I2C{}}
}

// simulates returns the simulator if the bus of that name is one of its.
func (s *Set) simulates(name string) (Simulator, error) {
	if !s.everything && !IsSimulated(name) {
		return nil, nil
	}
	if s.simulator == nil {
		return nil, errNoSimulator
	}
	return s.simulator, nil
}

// Sysfs returns the tree of /sys that belongs to a bus name; an empty name is the machine's own.
func (s *Set) Sysfs(name string) (fs.FS, error) {
	sim, err := s.simulates(name)
	if sim == nil {
		return sysTree{os.DirFS("/sys")}, err
	}
	return sim.Sysfs(), nil
}

// Close closes every bus that is not in the middle of a transfer.
func (s *Set) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var err error
	for name, b := range s.buses {
		if delete(s.buses, name); name != b.wires.name {
			continue // a channel
		}
		select {
		case b.lock <- struct{}{}:
			err = errors.Join(err, b.bus.Close())
			<-b.lock
		default:
		}
	}
	return err
}
