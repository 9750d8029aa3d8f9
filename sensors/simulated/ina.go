package simulated

import (
	"fmt"
	"math"
	"time"

	"holdfast/sensors/bus"
)

// The INA226 (data sheet SBOS547A) and INA3221 (SBOS576B) have registers of 16 bits, of which the first
// is the configuration and starts conversions in triggered mode. Their shunts here are of 0.1 Ω.
const simulatedShunt = 0.1

func ina226Model() *Model {
	return &Model{
		Name: "ina226", Buses: []bus.Kind{bus.I2CKind}, Addresses: []uint16{0x40},
		Inputs: []Input{
			{Name: "voltage", Unit: "V", Min: 0, Max: 36, Step: 0.0007, Curve: swing(12.4, 1.2)},
			{Name: "current", Unit: "A", Min: -0.819, Max: 0.819, Step: 0.000013, Curve: swing(0.2, 0.3)},
		},
		Faults: WrongID | StuckBusy,
		New: func(c *Chip) Registers {
			return &ina{chip: c, power: 0x4127, die: 0x2260, mask: 0x06, ready: 1 << 3, convert: func(m *ina) {
				m.regs[1] = uint16(int16(math.Round(c.value("current") * simulatedShunt / 2.5e-6)))
				m.regs[2] = uint16(math.Round(c.value("voltage") / 1.25e-3))
			}}
		},
	}
}

func ina3221Model() *Model {
	m := &Model{
		Name: "ina3221", Buses: []bus.Kind{bus.I2CKind}, Addresses: []uint16{0x40, 0x41, 0x42, 0x43},
		Faults: WrongID | StuckBusy,
		New: func(c *Chip) Registers {
			return &ina{chip: c, power: 0x7127, die: 0x3220, mask: 0x0F, ready: 1, convert: func(m *ina) {
				for n := 1; n <= 3; n++ {
					if m.regs[0]>>(15-n)&1 == 0 {
						continue // not enabled
					}
					shunt := math.Round(c.value(fmt.Sprint("current_", n)) * simulatedShunt / 40e-6)
					m.regs[2*n-1] = uint16(int16(shunt)) << 3
					m.regs[2*n] = uint16(math.Round(c.value(fmt.Sprint("voltage_", n))/8e-3)) << 3
				}
			}}
		},
	}
	for n := 1; n <= 3; n++ {
		m.Inputs = append(m.Inputs,
			Input{Name: fmt.Sprint("voltage_", n), Unit: "V", Min: 0, Max: 26, Step: 0.0041, Curve: swing(3+4*float64(n), 0.5)},
			Input{Name: fmt.Sprint("current_", n), Unit: "A", Min: -1.637, Max: 1.637, Step: 0.00021, Curve: swing(0.1*float64(n), 0.3)})
	}
	return m
}

type ina struct {
	chip       *Chip
	power, die uint16 // configuration after power-on, and the die's identification
	mask       byte   // the register with the conversion ready flag
	ready      uint16 // that flag
	convert    func(*ina)
	words
	regs               [256]uint16
	end                time.Time
	running, triggered bool
}

func (m *ina) reset() {
	m.regs = [256]uint16{0: m.power, 0xFE: 0x5449, 0xFF: m.die}
	m.words.get, m.words.set = m.get, m.set
	m.begin()
}

// begin starts what the mode in bits 2:0 says: 1 to 3 once, 5 to 7 again and again.
func (m *ina) begin() {
	m.regs[m.mask] &^= m.ready
	mode := m.regs[0] & 7
	m.running, m.triggered = mode&3 != 0, mode < 4
	n := [8]int{1, 4, 16, 64, 128, 256, 512, 1024}[m.regs[0]>>9&7]
	times := [8]time.Duration{140, 204, 332, 588, 1100, 2116, 4156, 8244} // µs
	each := times[m.regs[0]>>6&7] + times[m.regs[0]>>3&7]
	if m.die == 0x3220 {
		channels := m.regs[0]>>14&1 + m.regs[0]>>13&1 + m.regs[0]>>12&1
		each *= time.Duration(channels)
	}
	m.end = m.chip.takes(time.Duration(n) * each * time.Microsecond)
}

// set is a write to a register.
func (m *ina) set(reg byte, v uint16) {
	switch {
	case reg == 0 && v&0x8000 != 0:
		m.reset()
	case reg == 0:
		m.regs[0] = v
		m.begin()
	case reg == m.mask:
		m.regs[m.mask] = v &^ m.ready
	}
}

// get is a read of a register.
func (m *ina) get(reg byte) uint16 {
	if m.running && m.chip.done(m.end) {
		m.convert(m)
		m.regs[m.mask] |= m.ready
		if m.running = !m.triggered; m.running {
			m.end = m.chip.takes(time.Millisecond)
		}
	}
	v := m.regs[reg]
	switch reg {
	case m.mask: // reading it clears the flag
		m.regs[m.mask] &^= m.ready
	case 0xFE, 0xFF:
		v = v&0xFF00 | uint16(m.chip.id(byte(v)))
	}
	return v
}

// ina219Model is a Texas Instruments INA219 with a shunt of 0.1 Ω (data sheet SBOS448, section 8.6).
func ina219Model() *Model {
	return &Model{
		Name: "ina219", Buses: []bus.Kind{bus.I2CKind}, Addresses: []uint16{0x40, 0x41, 0x44, 0x45},
		Inputs: []Input{
			{Name: "voltage", Unit: "V", Min: 0, Max: 26, Step: 0.0041, Curve: swing(12.4, 0.8)},
			{Name: "current", Unit: "A", Min: -3.19, Max: 3.19, Step: 0.000051, Curve: swing(0.7, 0.4)},
		},
		Faults: StuckBusy,
		New: func(c *Chip) Registers {
			m := &ina219{chip: c}
			m.words = words{get: m.get, set: m.set}
			return m
		},
	}
}

type ina219 struct {
	words
	chip        *Chip
	config      uint16
	calibration uint16
	shunt, bus  uint16
	ready       bool // CNVR
	running     bool
	next        time.Time
}

func (m *ina219) reset() {
	m.pointer, m.calibration, m.shunt, m.bus = 0, 0, 0, 0
	m.set(0, 0x399F) // converts all the time
}

func (m *ina219) set(reg byte, v uint16) {
	switch reg {
	case 0:
		if m.config = v & 0xBFFF; v&0x8000 != 0 { // RST
			m.reset()
			return
		}
		m.ready = false
		mode := v & 7
		if m.running = mode&3 != 0; m.running {
			m.next = m.chip.takes(2 * 532 * time.Microsecond)
		}
	case 5:
		m.calibration = v &^ 1
	}
}

func (m *ina219) get(reg byte) uint16 {
	if m.running && m.chip.done(m.next) {
		m.ready = true
		m.bus = uint16(math.Round(m.chip.value("voltage") / 4e-3))
		m.shunt = uint16(int16(math.Round(m.chip.value("current") * 0.1 / 10e-6)))
		if m.running = m.config&4 != 0; m.running {
			m.next = m.chip.takes(2 * 532 * time.Microsecond)
		}
	}
	switch reg {
	case 0:
		return m.config
	case 1:
		return m.shunt
	case 2:
		v := m.bus << 3
		if m.ready {
			v |= 2
		}
		return v
	case 5:
		return m.calibration
	}
	return 0
}
