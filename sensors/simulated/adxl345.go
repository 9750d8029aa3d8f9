package simulated

import (
	"math"
	"time"

	"holdfast/sensors/bus"
)

// adxl345Model is an Analog Devices ADXL345 (data sheet, section "Register map").
func adxl345Model() *Model {
	m := &Model{
		Name: "adxl345", Buses: []bus.Kind{bus.I2CKind, bus.SPIKind}, Addresses: []uint16{0x53, 0x1D},
		Faults: StuckBusy | WrongID,
		New: func(c *Chip) Registers {
			m := &adxl345{chip: c}
			m.octets = octets{latch: m.latch, get: m.get, set: m.set}
			return m
		},
	}
	for i, axis := range []string{"x", "y", "z"} {
		m.Inputs = append(m.Inputs, Input{Name: "acceleration_" + axis, Unit: "m/s²", Min: -156.8, Max: 156.8, Step: 0.02, Curve: swing(float64(i/2)*9.81, 0.3)})
	}
	return m
}

type adxl345 struct {
	octets
	chip  *Chip
	regs  [64]byte
	next  time.Time
	ready bool
}

func (m *adxl345) reset() {
	m.regs = [64]byte{0x00: 0xE5, 0x2C: 0x0A}
	m.ready, m.pointer = false, 0
}

func (m *adxl345) set(reg, v byte) {
	if reg < 0x1D || reg > 0x31 && reg != 0x38 {
		return
	}
	m.regs[reg&63] = v
	if reg == 0x2D && v&8 != 0 {
		m.next = m.chip.takes(m.period())
	}
}

// period is that of the output data rate, 3200 Hz at code 15 and half of it at each below.
func (m *adxl345) period() time.Duration {
	return time.Second / 3200 << (15 - m.regs[0x2C]&15)
}

func (m *adxl345) latch() {
	if m.regs[0x2D]&8 == 0 || !m.chip.done(m.next) {
		return
	}
	m.next = m.chip.takes(m.period())
	m.ready = true
	for i, axis := range []string{"x", "y", "z"} {
		g, perG, most := m.chip.value("acceleration_"+axis)/9.80665, 256.0, 4095.0 // full resolution at ±16 g
		if m.regs[0x31]&0x0B != 0x0B {                                             // otherwise ten bits for the range
			perG, most = float64(int(256)>>(m.regs[0x31]&3)), 511
		}
		raw := int16(math.Max(-most-1, math.Min(most, math.Round(g*perG))))
		m.regs[0x32+2*i], m.regs[0x33+2*i] = byte(raw), byte(raw>>8)
	}
}

func (m *adxl345) get(reg byte) byte {
	reg &= 63
	switch {
	case reg == 0:
		return m.chip.id(0xE5)
	case reg == 0x30:
		if m.ready {
			return 0x83
		}
		return 0x02
	case 0x32 <= reg && reg <= 0x37:
		m.ready = false
	}
	return m.regs[reg]
}

// transfer is SPI: bit 6 of the register's number asks for more than one.
func (m *adxl345) transfer(w, r []byte) {
	if len(w) > 2 && w[0]&0x40 == 0 {
		return
	}
	m.spi(w, r, 0x3F)
}
