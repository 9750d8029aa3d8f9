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

// lis3dhModel is an STMicroelectronics LIS3DH (data sheet DocID17530, register mapping).
func lis3dhModel() *Model {
	m := &Model{
		Name: "lis3dh", Buses: []bus.Kind{bus.I2CKind}, Addresses: []uint16{0x18, 0x19},
		Faults: WrongID | StuckBusy,
		New:    func(c *Chip) Registers { return &lis3dh{chip: c} },
	}
	for i, axis := range []string{"x", "y", "z"} {
		in := Input{Name: "acceleration_" + axis, Unit: "m/s²", Min: -20, Max: 20, Step: 0.006, Curve: swing(0, 0.5)}
		if i == 2 {
			in.Curve = swing(9.81, 0.1)
		}
		m.Inputs = append(m.Inputs, in)
	}
	return m
}

type lis3dh struct {
	chip    *Chip
	regs    [64]byte
	pointer byte
	next    time.Time // end of the measurement that runs
}

func (m *lis3dh) reset() { m.regs = [64]byte{0x0F: 0x33, 0x20: 0x07} }

func (m *lis3dh) write(b []byte) error {
	m.pointer = b[0]
	for i, v := range b[1:] {
		reg := b[0]&0x3F + byte(i)*(b[0]>>7)
		if reg < 0x1E || reg > 0x26 {
			continue // not to be written
		}
		m.regs[reg] = v
		if reg == 0x20 {
			m.next = m.chip.takes(m.period())
		}
	}
	return nil
}

// period is one of the data rates of CTRL_REG1, bits 7:4; 0 is power down.
func (m *lis3dh) period() time.Duration {
	rates := [16]time.Duration{1: 1, 2: 10, 3: 25, 4: 50, 5: 100, 6: 200, 7: 400}
	if r := rates[m.regs[0x20]>>4]; r > 0 {
		return time.Second / r
	}
	return 0
}

func (m *lis3dh) read(b []byte) error {
	if p := m.period(); p > 0 && m.chip.done(m.next) {
		m.next = m.chip.takes(p)
		m.measure()
		m.regs[0x27] |= 8 // ZYXDA
	}
	for i := range b {
		reg := m.pointer&0x3F + byte(i)*(m.pointer>>7)
		switch b[i] = m.regs[reg&0x3F]; reg {
		case 0x0F:
			b[i] = m.chip.id(b[i])
		case 0x2D:
			m.regs[0x27] &^= 8 // all axes were read
		}
	}
	return nil
}

// measure fills the output registers: 12 bits in high resolution, in the upper bits.
func (m *lis3dh) measure() {
	g := [4]float64{1, 2, 4, 12}[m.regs[0x23]>>4&3] / 1000 // what a count is
	for i, axis := range []string{"x", "y", "z"} {
		count := math.Round(m.chip.value("acceleration_"+axis) / 9.80665 / g)
		v := int16(math.Max(-2048, math.Min(2047, count))) << 4
		m.regs[0x28+2*i], m.regs[0x29+2*i] = byte(v), byte(uint16(v)>>8)
	}
}
