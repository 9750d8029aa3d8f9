package bus

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/warthog618/go-gpiocdev"
)

// Lister is a Simulator that can tell what it has.
type Lister interface {
	Names() []string
	Chips() []GPIOChip
}

// GPIOChip is a GPIO chip and what its lines are used for.
type GPIOChip struct {
	Name  string // "gpiochip0"
	Label string // what it is found by
	Lines []GPIOLine
}

// GPIOLine is one line of a chip. Nothing of it is changed by looking.
type GPIOLine struct {
	Offset   int
	Name     string // of the device tree, such as "GPIO17"
	Consumer string // the program that holds it; empty if none does
	Output   bool
}

// Names returns the I2C buses, SPI ports and serial ports that there are, in this order. Opening none
// of them, it is safe.
func (s *Set) Names() ([]string, error) {
	if s.everything {
		l, ok := s.simulator.(Lister)
		if !ok {
			return nil, errNoSimulator
		}
		return l.Names(), nil
	}
	var all []string
	for _, kind := range []struct{ glob, prefix, name string }{
		{"/dev/i2c-*", "/dev/i2c-", "i2c-"}, {"/dev/spidev*", "/dev/spidev", "spi-"},
		{"/dev/serial[01]", "", ""}, {"/dev/ttyUSB*", "", ""}, {"/dev/ttyACM*", "", ""},
	} {
		found, err := filepath.Glob(kind.glob)
		if err != nil {
			return nil, err
		}
		slices.SortFunc(found, func(a, b string) int { return len(a) - len(b) })
		for _, f := range found {
			all = append(all, kind.name+strings.TrimPrefix(f, kind.prefix))
		}
	}
	return all, nil
}

// Chips returns the GPIO chips and who holds their lines.
func (s *Set) Chips() ([]GPIOChip, error) {
	if s.everything {
		l, ok := s.simulator.(Lister)
		if !ok {
			return nil, errNoSimulator
		}
		return l.Chips(), nil
	}
	var all []GPIOChip
	var failed error
	for _, name := range gpiocdev.Chips() {
		c, err := gpiocdev.NewChip(name)
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("%s: %w", name, classify(err)))
			continue
		}
		chip := GPIOChip{Name: name, Label: c.Label}
		for i := range c.Lines() {
			info, err := c.LineInfo(i)
			if err != nil {
				failed = errors.Join(failed, fmt.Errorf("%s, line %d: %w", name, i, classify(err)))
				break
			}
			l := GPIOLine{Offset: i, Name: info.Name, Output: info.Config.Direction == gpiocdev.LineDirectionOutput}
			if info.Used {
				if l.Consumer = info.Consumer; l.Consumer == "" {
					l.Consumer = "the kernel"
				}
			}
			chip.Lines = append(chip.Lines, l)
		}
		c.Close()
		all = append(all, chip)
	}
	return all, failed
}

// Bound returns the kernel driver that has an address of an I2C bus, empty if none has. User space must
// not touch it then.
func (s *Set) Bound(name string, addr uint16) string {
	sys, err := s.Sysfs(name)
	if err != nil {
		return ""
	}
	// Documentation/i2c/i2c-sysfs.rst: devices are called BUS-ADDRESS.
	dir := fmt.Sprintf("bus/i2c/devices/%s-%04x", strings.TrimPrefix(name, "i2c-"), addr)
	if _, err := fs.Stat(sys, dir+"/driver"); err != nil {
		return ""
	}
	kind, err := ReadFile(sys, dir+"/name")
	if err != nil {
		return "unknown"
	}
	return kind
}
