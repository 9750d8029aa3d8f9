// Package scan finds what is connected to a machine.
//
// It promises to change nothing: of an unknown chip it reads one byte, which also the plainest chip
// allows; identification registers are read only as the driver's row does it; a chip that answers a
// bare read is never sent more than a register's number, because it might take the next byte for that
// register's new value; addresses that a kernel driver has are left alone; SPI and serial ports are
// listed and not touched, because there a read may be a write, which depends on the chip.
//
// It does not promise to name every chip: some have no identification. Those are listed with the drivers
// that their address allows.
package scan

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"periph.io/x/conn/v3"

	"holdfast/sensors"
	"holdfast/sensors/bus"
)

// Found is one thing that is there.
type Found struct {
	Bus     string
	Address uint16 // on I2C
	Chip    string // as it identifies itself, or what the kernel calls it; empty if unknown
	// Drivers are the ones that can read it. With Sure there is one, and the chip has been recognised.
	Drivers []string
	Sure    bool
	Options map[string]any // beside the defaults
	Note    string         // for a person
}

// Result is everything that was found.
type Result struct {
	Found []Found
	Ports []string // SPI and serial ports, which are not probed
	Lines []bus.GPIOChip
	Notes []string // what could not be looked at, and why
}

// chipTime is how long one address may take.
const chipTime = 500 * time.Millisecond

// Run looks at all buses of a set.
func Run(ctx context.Context, buses *bus.Set, drivers []sensors.Driver) (*Result, error) {
	r := &Result{}
	names, err := buses.Names()
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if bus.KindOf(name) != bus.I2CKind {
			r.Ports = append(r.Ports, name)
			continue
		}
		if err := r.i2c(ctx, buses, name, drivers); err != nil {
			r.note("%v", err)
		}
	}
	sys, err := buses.Sysfs("")
	if err != nil {
		return nil, err
	}
	for _, d := range drivers {
		if d.Find == nil {
			continue
		}
		found, err := d.Find(sys)
		if err != nil {
			r.note("%s: %v", d.Name, err)
		}
		for _, f := range found {
			r.Found = append(r.Found, Found{Chip: f.Chip, Drivers: []string{d.Name}, Sure: true, Options: f.Options, Note: f.Note})
		}
	}
	if r.Lines, err = buses.Chips(); err != nil {
		r.note("%v", err)
	}
	return r, ctx.Err()
}

func (r *Result) note(format string, args ...any) {
	r.Notes = append(r.Notes, fmt.Sprintf(format, args...))
}

// i2c looks at every address of a bus that the specification leaves to chips (UM10204, section 3.1.12).
func (r *Result) i2c(ctx context.Context, buses *bus.Set, name string, drivers []sensors.Driver) error {
	bound := map[uint16]bool{}
	for addr := uint16(0x08); addr <= 0x77; addr++ {
		if kind := buses.Bound(name, addr); kind != "" {
			bound[addr] = true
			r.Found = append(r.Found, Found{Bus: name, Address: addr, Chip: kind,
				Note: "a kernel driver has it: read it with iio or hwmon, or remove its dtoverlay"})
		}
	}
	for addr := uint16(0x08); addr <= 0x77; addr++ {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if bound[addr] {
			continue
		}
		f, err := within(2*chipTime, func() (*Found, error) { return probe(ctx, buses, name, addr, drivers) })
		if err != nil {
			return fmt.Errorf("%s: stopped at %#02x: %w", name, addr, err)
		}
		if f != nil {
			r.Found = append(r.Found, *f)
		}
	}
	return nil
}

// within waits for a probe, but not for a transfer that the kernel does not end.
func within(limit time.Duration, probe func() (*Found, error)) (*Found, error) {
	type result struct {
		found *Found
		err   error
	}
	done := make(chan result, 1)
	go func() {
		f, err := probe()
		done <- result{f, err}
	}()
	over := make(chan struct{})
	stop := sensors.AfterRunning(limit, func() { close(over) })
	defer stop()
	select {
	case r := <-done:
		return r.found, r.err
	case <-over:
		return nil, errors.New("the bus hangs: a chip holds it, or a pull-up is missing")
	}
}

// probe looks at one address, and returns nil if nothing is there. An error is one of the bus.
func probe(ctx context.Context, buses *bus.Set, name string, addr uint16, drivers []sensors.Driver) (*Found, error) {
	dev, err := buses.I2CDevice(name, addr)
	if err != nil {
		return nil, err
	}
	ctx, cancel := sensors.WithRunTime(ctx, chipTime, errors.New("no answer within 500ms"))
	defer cancel()
	dev.Begin(ctx)
	err = dev.Tx(nil, make([]byte, 1))
	answers := err == nil
	if !answers && !errors.Is(err, bus.ErrAbsent) {
		return nil, err
	}
	f := &Found{Bus: name, Address: addr}
	for _, d := range drivers {
		if !slices.Contains(d.Addresses, addr) {
			continue
		}
		f.Drivers = append(f.Drivers, d.Name)
		if d.Identify == nil {
			continue
		}
		// What refuses a bare read takes commands, and an unknown command does nothing.
		c := &careful{Conn: dev, registers: answers}
		chip, err := d.Identify(c)
		answers = answers || c.acknowledged
		if err == nil && chip != "" {
			f.Chip, f.Drivers, f.Sure = chip, []string{d.Name}, true
			return f, nil
		}
	}
	if !answers {
		return nil, nil
	}
	// A chip with an identification that is not what it says is none of those.
	f.Drivers = slices.DeleteFunc(f.Drivers, func(name string) bool {
		i := slices.IndexFunc(drivers, func(d sensors.Driver) bool { return d.Name == name })
		return drivers[i].Identify != nil
	})
	return f, nil
}

// careful keeps identification from writing into registers.
type careful struct {
	conn.Conn
	registers    bool // the chip answers a bare read
	acknowledged bool // it took bytes
}

var errUnsafe = errors.New("not sent: the chip might take it for a register's value")

func (c *careful) Tx(w, r []byte) error {
	if c.registers && len(w) > 1 {
		return errUnsafe
	}
	err := c.Conn.Tx(w, r)
	c.acknowledged = c.acknowledged || err == nil
	return err
}

// Table is for a person.
func (r *Result) Table() string {
	var b strings.Builder
	row := func(bus, addr, chip, driver, note string) {
		b.WriteString(strings.TrimRight(fmt.Sprintf("%-10s %-5s %-22s %-24s %s", bus, addr, chip, driver, note), " ") + "\n")
	}
	row("BUS", "ADDR", "CHIP", "DRIVER", "")
	for _, f := range r.Found {
		addr := ""
		if f.Address != 0 {
			addr = fmt.Sprintf("%#02x", f.Address)
		}
		chip, driver, note := f.Chip, strings.Join(f.Drivers, " or "), f.Note
		if chip == "" {
			chip = "?"
		}
		switch {
		case note != "":
		case len(f.Drivers) == 0:
			note = "no driver knows this address"
		case !f.Sure:
			note = "by its address only"
		}
		row(f.Bus, addr, chip, driver, note)
	}
	for _, p := range r.Ports {
		row(p, "", "", "", "a port, not probed")
	}
	for _, c := range r.Lines {
		row(c.Name, "", c.Label, "gpio-input", fmt.Sprintf("%d lines", len(c.Lines)))
		for _, l := range c.Lines {
			if l.Consumer != "" {
				way := "input"
				if l.Output {
					way = "output"
				}
				row("", fmt.Sprint(l.Offset), l.Name, "", fmt.Sprintf("%s of %s", way, l.Consumer))
			}
		}
	}
	for _, n := range r.Notes {
		b.WriteString(n + "\n")
	}
	return b.String()
}
