package simulated

import (
	"math"
	"time"

	"holdfast/sensors/bus"
)

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
