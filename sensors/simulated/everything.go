package simulated

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"holdfast/sensors/bus"
)

// Everything returns a Pi with one chip of every model: on I2C where it can be, on the first of the
// buses i2c-1, i2c-2 and so on with a free address of its; otherwise on an SPI or serial port of its
// own. Chips on GPIO lines are not connected: nothing could find them.
func Everything(o Options) (*Pi, error) {
	p := New(o)
	spi, serial := 0, 0
	for _, m := range Models() {
		var err error
		switch {
		case slices.Contains(m.Buses, bus.I2CKind):
			name, addr := p.free(m)
			_, err = p.Place(m.Name, name, addr)
		case slices.Contains(m.Buses, bus.SPIKind):
			_, err = p.Place(m.Name, fmt.Sprintf("spi-%d.%d", spi/2, spi%2), 0)
			spi++
		case slices.Contains(m.Buses, bus.UARTKind):
			_, err = p.Place(m.Name, fmt.Sprintf("/dev/ttyUSB%d", serial), 0)
			serial++
		}
		if err != nil {
			return nil, err
		}
	}
	return p, nil
}

func (p *Pi) free(m *Model) (name string, addr uint16) {
	for i := 1; ; i++ {
		name = fmt.Sprintf("i2c-%d", i)
		for _, addr := range m.Addresses {
			if p.Chip(name, addr) == nil {
				return name, addr
			}
		}
	}
}

// Names returns the buses and ports that something is connected to.
func (p *Pi) Names() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	names := map[string]bool{}
	for at := range p.chips {
		if bus.KindOf(at.bus) != bus.None {
			names[at.bus] = true
		}
	}
	order := func(a string) int {
		return slices.Index([]bus.Kind{bus.I2CKind, bus.SPIKind, bus.UARTKind}, bus.KindOf(a))
	}
	return slices.SortedFunc(maps.Keys(names), func(a, b string) int {
		return cmp.Or(cmp.Compare(order(a), order(b)), cmp.Compare(len(a), len(b)), cmp.Compare(a, b))
	})
}

// Connected returns every chip with its place, for tests.
func (p *Pi) Connected() map[string]*Chip {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := map[string]*Chip{}
	for at, c := range p.chips {
		all[fmt.Sprintf("%s %#02x", at.bus, at.addr)] = c
	}
	return all
}

// Chips returns the header's lines, as a Pi 4 has them.
func (p *Pi) Chips() []bus.GPIOChip {
	c := bus.GPIOChip{Name: "gpiochip0", Label: "pinctrl-bcm2711"}
	for i := range 28 {
		l := bus.GPIOLine{Offset: i, Name: fmt.Sprintf("GPIO%d", i)}
		line := p.GPIO(i)
		line.mu.Lock()
		if line.opened != nil {
			l.Consumer, l.Output = "holdfast", line.opened.driven
		}
		line.mu.Unlock()
		c.Lines = append(c.Lines, l)
	}
	return []bus.GPIOChip{c}
}
