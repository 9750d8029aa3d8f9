// Package simulated is a Raspberry Pi without the Pi: chips that behave as their data sheets say,
// register by register, behind buses that the real drivers use unchanged, and a tree that stands in
// for /sys.
//
// It promises that what a driver reads follows a smooth day curve that only the seed and the time
// decide, or what a test has set, and that every fault that can be set is one that real hardware has
// shown. It does not simulate electricity, clock stretching or noise.
package simulated

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"periph.io/x/conn/v3/i2c"
	"periph.io/x/conn/v3/spi"

	"holdfast/sensors"
	"holdfast/sensors/bus"
)

// Options of a Pi.
type Options struct {
	Seed uint64 // shifts the curves
}

// Pi is one simulated machine. All methods are safe for concurrent use.
type Pi struct {
	seed uint64
	sys  *Sysfs

	mu     sync.Mutex
	chips  map[place]*Chip
	lines  map[string]*Line
	record func(Event) // of changes of lines; nil for none
}

// place is where a chip is connected.
type place struct {
	bus  string
	addr uint16 // on I2C
}

var _ bus.Simulator = (*Pi)(nil)

// New returns a Pi with nothing connected but what its /sys has. See Place and Populate.
func New(o Options) *Pi {
	return &Pi{seed: o.Seed, sys: newSysfs(o.Seed), chips: map[place]*Chip{}, lines: map[string]*Line{}}
}

// Place connects a chip of a model to a bus, at an address on I2C, and returns it. It is an error if
// something else is there. A multiplexer comes with the first chip on a channel of it.
func (p *Pi) Place(model, busName string, addr uint16) (*Chip, error) {
	m := FindModel(model)
	if m == nil {
		return nil, fmt.Errorf("simulated: no model of %s", model)
	}
	if len(m.Lines) > 0 {
		return nil, fmt.Errorf("simulated: %s is on GPIO lines: use Wire", model)
	}
	if err := p.placeMux(busName); err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	at := place{busName, addr}
	if there := p.chips[at]; there != nil {
		return nil, fmt.Errorf("simulated: %s, address %#02x: there is a %s already", busName, addr, there.Model.Name)
	}
	// Every chip is a little different, so that a mixed-up reading is seen.
	c := newChip(m, p.seed*31+uint64(len(p.chips)))
	p.chips[at] = c
	return c, nil
}

// Wire connects a chip of a model to GPIO lines, by the names of the driver's options.
func (p *Pi) Wire(model string, lines map[string]int) (*Chip, error) {
	m := FindModel(model)
	if m == nil || len(m.Lines) == 0 {
		return nil, fmt.Errorf("simulated: no model of %s on GPIO lines", model)
	}
	at := place{bus: wires(lines)}
	attached := map[string]*Line{}
	for name, offset := range lines {
		attached[name] = p.GPIO(offset)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.chips[at] != nil {
		return nil, fmt.Errorf("simulated: there is a chip on %s already", at.bus)
	}
	c := newChip(m, p.seed*31+uint64(len(p.chips)))
	c.regs.(lineChip).attach(attached)
	p.chips[at] = c
	return c, nil
}

func wires(lines map[string]int) string {
	return fmt.Sprint("gpio ", slices.Sorted(maps.Values(lines)))
}

// Populate connects what sensors are configured for, where nothing is connected yet: the driver's chip
// at its bus and address. Drivers of the kernel find their files in /sys.
func (p *Pi) Populate(drivers []sensors.Driver, configs ...sensors.Config) error {
	for _, c := range configs {
		i := slices.IndexFunc(drivers, func(d sensors.Driver) bool { return d.Name == c.Driver })
		if i < 0 {
			return fmt.Errorf("simulated: no driver %s", c.Driver)
		}
		if err := p.populate(&drivers[i], c); err != nil {
			return fmt.Errorf("sensor %s: %w", c.Name, err)
		}
	}
	return nil
}

func (p *Pi) populate(d *sensors.Driver, c sensors.Config) error {
	m := FindModel(d.Name)
	if m == nil {
		p.kernelFiles(c) // nothing is between the driver and the kernel
		return nil
	}
	if len(m.Lines) > 0 {
		lines := map[string]int{}
		for _, name := range m.Lines {
			n, _ := c.Options[name].(int64)
			lines[name] = int(n)
		}
		if p.Chip(wires(lines), 0) != nil {
			return nil
		}
		_, err := p.Wire(d.Name, lines)
		return err
	}
	addr := uint16(0)
	if d.Kind(c.Bus) == sensors.BusI2C {
		if addr = c.Address; addr == 0 {
			addr = d.Addresses[0]
		}
	}
	if p.Chip(c.Bus, addr) != nil {
		return nil // another sensor of the same chip, or what a test has put there
	}
	_, err := p.Place(d.Name, c.Bus, addr)
	return err
}

// Chip returns the chip at an address of a bus, nil if there is none. The address is 0 but on I2C.
func (p *Pi) Chip(busName string, addr uint16) *Chip {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.chips[place{busName, addr}]
}

// I2C opens a bus.
func (p *Pi) I2C(name string) (i2c.BusCloser, error) { return &i2cBus{pi: p, name: name}, nil }

// SPI opens a port.
func (p *Pi) SPI(name string) (spi.PortCloser, error) { return &spiPort{pi: p, name: name}, nil }

// UART opens a serial port. What was sent before is not received.
func (p *Pi) UART(name string, baud int) (bus.Serial, error) {
	if baud <= 0 {
		return nil, fmt.Errorf("simulated: no serial speed of %d baud", baud)
	}
	return &serial{pi: p, name: name, byteTime: 10 * time.Second / time.Duration(baud), upTo: time.Now(), answered: make(chan struct{}, 1)}, nil
}
