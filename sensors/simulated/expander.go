package simulated

import (
	"fmt"
	"time"

	"holdfast/sensors/bus"
)

// mcp23017Model is a Microchip MCP23017 (data sheet DS20001952, section 3.5: registers).
func mcp23017Model() *Model {
	return expanderModel("mcp23017", 16, func(c *Chip) Registers { return &mcp23017{expander: newExpander(c)} })
}

// tca9555Model is a Texas Instruments TCA9555 (data sheet SCPS200, register maps).
func tca9555Model() *Model {
	return expanderModel("tca9555", 16, func(c *Chip) Registers { return &tca9555{expander: newExpander(c)} })
}

// pcf8574Model is a Texas Instruments PCF8574 (data sheet SCPS068).
func pcf8574Model() *Model {
	m := expanderModel("pcf8574", 8, func(c *Chip) Registers { return &pcf8574{expander: newExpander(c)} })
	for i := range uint16(8) {
		m.Addresses = append(m.Addresses, 0x38+i)
	}
	return m
}

// expanderModel has an input for each pin: what is outside of it, 1 high and 0 low. It counts where the
// chip does not drive the pin.
func expanderModel(name string, pins int, make func(*Chip) Registers) *Model {
	m := &Model{Name: name, Buses: []bus.Kind{bus.I2CKind}, New: make}
	for i := range uint16(8) {
		m.Addresses = append(m.Addresses, 0x20+i)
	}
	for i := range pins {
		m.Inputs = append(m.Inputs, Input{Name: fmt.Sprintf("pin%d", i), Max: 1, Step: 0.5, Curve: func(seed uint64, t time.Time) float64 {
			return max(0, min(1, 0.5+10*wave(seed+uint64(i), t, time.Minute)))
		}})
	}
	return m
}

// Pin is how a pin of an expander was driven from some moment on.
type Pin struct {
	Number int
	Driven bool // by the chip
	High   bool // if it is driven
}

// Pins returns every change of what an expander drives since it was made.
func (c *Chip) Pins() []Pin {
	c.mu.Lock()
	defer c.mu.Unlock()
	type driver interface{ driven() []Pin }
	return append([]Pin(nil), c.regs.(driver).driven()...)
}

// Interrupt connects the interrupt output of an expander, an open drain that pulls low, to a line with a pull-up. An
// MCP23017's INTA and INTB are one, whatever MIRROR is.
func (c *Chip) Interrupt(l *Line) {
	c.mu.Lock()
	defer c.mu.Unlock()
	l.Set(true)
	c.regs.(interrupting).connect(l)
}

// interrupting is a model with an interrupt output. signal is called after whatever may change it.
type interrupting interface {
	connect(*Line)
	signal()
}

// expander is what a chip drives, and what it sees.
type expander struct {
	chip      *Chip
	drives    uint16
	high      uint16
	history   []Pin
	interrupt *Line // nil if it is not connected
}

func (e *expander) connect(l *Line) { e.interrupt = l }

// pull pulls the interrupt output low, or not.
func (e *expander) pull(low bool) {
	if e.interrupt != nil && e.interrupt.High() == low {
		e.interrupt.Set(!low)
	}
}

func newExpander(c *Chip) expander { return expander{chip: c} }

func (e *expander) driven() []Pin { return e.history }

// drive drives the pins of a mask to levels.
func (e *expander) drive(pins, high uint16) {
	for i := range 16 {
		bit := uint16(1) << i
		if (pins^e.drives)&bit != 0 || pins&bit != 0 && (high^e.high)&bit != 0 {
			e.history = append(e.history, Pin{i, pins&bit != 0, pins&bit != 0 && high&bit != 0})
		}
	}
	e.drives, e.high = pins, high
}

// levels are those at the pins.
func (e *expander) levels() (v uint16) {
	for i, in := range e.chip.Model.Inputs {
		bit := uint16(1) << i
		if e.drives&bit != 0 && e.high&bit != 0 || e.drives&bit == 0 && e.chip.value(in.Name) >= 0.5 {
			v |= bit
		}
	}
	return v
}

// mcp23017 has its interrupts of section 3.6: a change of a pin that is enabled is latched (INTF) until GPIO or INTCAP of
// its port is read.
type mcp23017 struct {
	expander
	pointer byte
	regs    [0x16]byte // in the order of IOCON.BANK = 0
	before  uint16     // the levels that changes are told from
}

func (m *mcp23017) signal() {
	levels := m.levels()
	enabled := uint16(m.regs[5])<<8 | uint16(m.regs[4])
	flags := uint16(m.regs[0x0F])<<8 | uint16(m.regs[0x0E]) | (levels^m.before)&enabled
	m.before = levels
	m.regs[0x0E], m.regs[0x0F] = byte(flags), byte(flags>>8)
	m.pull(flags&enabled != 0 && m.regs[0x0A]&0x04 != 0)
}

func (m *mcp23017) reset() {
	m.regs = [0x16]byte{0: 0xFF, 1: 0xFF}
	m.pointer = 0
	m.drive(0, 0)
	m.pull(false)
}

// bank0 is where a register is in the order of BANK = 0, and false if there is none.
func (m *mcp23017) bank0(reg byte) (byte, bool) {
	if m.regs[0x0A]&0x80 != 0 {
		reg = reg&0xF<<1 | reg>>4&1
	}
	return reg, reg < 0x16
}

func (m *mcp23017) write(b []byte) error {
	m.pointer = b[0]
	for _, v := range b[1:] {
		switch reg, ok := m.bank0(m.pointer); {
		case !ok:
		case reg == 0x0A || reg == 0x0B:
			m.regs[0x0A], m.regs[0x0B] = v&0xFE, v&0xFE
		case reg == 0x12 || reg == 0x13: // GPIO writes to OLAT
			m.regs[reg+2] = v
		default:
			m.regs[reg] = v
		}
		m.pointer++
	}
	m.drive(^(uint16(m.regs[1])<<8 | uint16(m.regs[0])), uint16(m.regs[0x15])<<8|uint16(m.regs[0x14]))
	m.signal()
	return nil
}

func (m *mcp23017) read(b []byte) error {
	levels := m.levels() ^ (uint16(m.regs[3])<<8 | uint16(m.regs[2]))
	m.regs[0x12], m.regs[0x13] = byte(levels), byte(levels>>8)
	for i := range b {
		b[i] = 0
		if reg, ok := m.bank0(m.pointer + byte(i)); ok {
			b[i] = m.regs[reg]
			if reg >= 0x10 && reg <= 0x13 {
				m.regs[0x0E+reg&1] = 0
			}
		}
	}
	m.signal()
	return nil
}

// tca9555 has an interrupt while an input has another level than its port's register had when it was read (section
// "Interrupt output").
type tca9555 struct {
	expander
	pointer byte
	regs    [8]byte
	seen    uint16
}

func (m *tca9555) signal() { m.pull((m.levels()^m.seen)&^m.drives != 0) }

func (m *tca9555) reset() {
	m.regs = [8]byte{2: 0xFF, 3: 0xFF, 6: 0xFF, 7: 0xFF}
	m.pointer = 0
	m.drive(0, 0)
}

func (m *tca9555) write(b []byte) error {
	if b[0] > 7 {
		return refused
	}
	m.pointer = b[0]
	for i, v := range b[1:] {
		if reg := m.pointer ^ byte(i&1); reg > 1 {
			m.regs[reg] = v
		}
	}
	m.drive(^(uint16(m.regs[7])<<8 | uint16(m.regs[6])), uint16(m.regs[3])<<8|uint16(m.regs[2]))
	m.signal()
	return nil
}

func (m *tca9555) read(b []byte) error {
	levels := m.levels() ^ (uint16(m.regs[5])<<8 | uint16(m.regs[4]))
	m.regs[0], m.regs[1] = byte(levels), byte(levels>>8)
	for i := range b {
		reg := m.pointer ^ byte(i&1)
		b[i] = m.regs[reg]
		if reg < 2 {
			m.seen = m.seen&^(0xFF<<(8*reg)) | m.levels()&(0xFF<<(8*reg))
		}
	}
	m.signal()
	return nil
}

// pcf8574 drives low what has 0; what has 1 is high by a weak current only. It has an interrupt while a pin has another
// level than at the last transfer (section "Interrupt output").
type pcf8574 struct {
	expander
	bits byte
	seen uint16
}

func (m *pcf8574) signal() { m.pull(m.levels() != m.seen) }

func (m *pcf8574) reset() { m.write([]byte{0xFF}) }

func (m *pcf8574) write(b []byte) error {
	m.bits = b[len(b)-1]
	m.drive(uint16(^m.bits), 0)
	m.seen = m.levels()
	m.signal()
	return nil
}

func (m *pcf8574) read(b []byte) error {
	for i := range b {
		b[i] = byte(m.levels())
	}
	m.seen = m.levels()
	m.signal()
	return nil
}
