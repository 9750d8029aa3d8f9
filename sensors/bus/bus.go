// Package bus opens and shares what sensors are connected to: I2C buses, GPIO lines and the kernel's
// sysfs, real or simulated.
//
// It promises: a bus is opened once, however many sensors use it; transfers on one bus do not overlap;
// an error that the kernel gave keeps its meaning (ErrAbsent, ErrBusy, ErrPermission, ErrTemporary),
// also through a driver that turns errors into text. It is the only importer of periph's host
// packages, and never runs their probing of the whole machine.
//
// It does not schedule, retry or time anything: a transfer that the kernel does not end keeps its bus
// until it does.
package bus

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"sync"

	"periph.io/x/conn/v3/i2c"
	"periph.io/x/host/v3/sysfs"
)

// Simulator stands in for the hardware of buses that are called "simulated" or "simulated-N".
type Simulator interface {
	I2C(name string) (i2c.BusCloser, error)
	// Line opens a GPIO line as an input.
	Line(name string, offset int) (Line, error)
	Sysfs() fs.FS
}

// Set is all buses of a process. All methods are safe for concurrent use.
type Set struct {
	simulator Simulator

	mu    sync.Mutex
	buses map[string]*I2C
}

// NewSet returns the real buses, and those of a simulator unless it is nil.
func NewSet(s Simulator) *Set { return &Set{simulator: s, buses: map[string]*I2C{}} }

func isSimulated(name string) bool { return strings.HasPrefix(name, "simulated") }

var errNoSimulator = errors.New("bus: nothing is simulated here")

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
	b := &I2C{name: name, bus: raw, gone: func() { s.forget(name) }}
	s.buses[name] = b
	return b, nil
}

func (s *Set) openI2C(name string) (i2c.BusCloser, error) {
	if isSimulated(name) {
		if s.simulator == nil {
			return nil, errNoSimulator
		}
		return s.simulator.I2C(name)
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
func (s *Set) forget(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.buses, name)
}

// Sysfs returns the tree of /sys that belongs to a bus name; an empty name is the machine's own.
func (s *Set) Sysfs(name string) (fs.FS, error) {
	if !isSimulated(name) {
		return sysTree{os.DirFS("/sys")}, nil
	}
	if s.simulator == nil {
		return nil, errNoSimulator
	}
	return s.simulator.Sysfs(), nil
}

// Close closes every bus that is not in the middle of a transfer.
func (s *Set) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var err error
	for name, b := range s.buses {
		if b.mu.TryLock() {
			err = errors.Join(err, b.bus.Close())
			b.mu.Unlock()
		}
		delete(s.buses, name)
	}
	return err
}
