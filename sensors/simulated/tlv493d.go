package simulated

import (
	"math"
	"math/bits"
	"time"

	"holdfast/sensors/bus"
)

// tlv493dModel is an Infineon TLV493D-A1B6 (user manual, chapter on registers).
func tlv493dModel() *Model {
	m := &Model{
		Name: "tlv493d", Buses: []bus.Kind{bus.I2CKind}, Addresses: []uint16{0x5E, 0x1F},
		Faults: StuckBusy,
		Slow:   2,
		New:    func(c *Chip) Registers { return &tlv493d{chip: c} },
	}
	for _, axis := range []string{"x", "y", "z"} {
		m.Inputs = append(m.Inputs, Input{Name: "magnetic_field_" + axis, Unit: "mT", Min: -130, Max: 130, Step: 0.05, Curve: swing(20, 3)})
	}
	m.Inputs = append(m.Inputs, Input{Name: "temperature", Unit: "°C", Min: -40, Max: 125, Step: 0.56, Curve: swing(28, 4)})
	return m
}

type tlv493d struct {
	chip     *Chip
	settings [4]byte // the registers for writing
	regs     [10]byte
	next     time.Time
	frame    byte
}

// What the factory has set: reserved bits that have to be written back.
var tlv493dFactory = [3]byte{0x88, 0x04, 0x0B}

func (m *tlv493d) reset() {
	*m = tlv493d{chip: m.chip}
	copy(m.regs[7:], tlv493dFactory[:])
	m.regs[5] = 0x30 // parity of the fuses is right, no conversion
}

func (m *tlv493d) write(b []byte) error {
	if len(b) > 4 {
		return refused
	}
	copy(m.settings[:], b)
	if len(b) < 4 {
		return nil
	}
	ones := 0
	for _, v := range b {
		ones += bits.OnesCount8(v)
	}
	m.regs[5] &^= 0x20
	if ones%2 == 1 && b[1]&0x18 == tlv493dFactory[0]&0x18 && b[2] == tlv493dFactory[1] && b[3]&0x1F == tlv493dFactory[2]&0x1F {
		m.regs[5] |= 0x20
	}
	m.next = m.chip.takes(m.period())
	return nil
}

func (m *tlv493d) period() time.Duration {
	if m.settings[3]&0x40 != 0 {
		return 12 * time.Millisecond
	}
	return 100 * time.Millisecond
}

func (m *tlv493d) read(b []byte) error {
	if m.settings[1]&3 == 1 && m.chip.done(m.next) {
		m.next = m.chip.takes(m.period())
		m.frame++
		field := func(axis string) uint16 {
			return uint16(int(math.Round(m.chip.value("magnetic_field_"+axis)/0.098))) & 0xFFF
		}
		x, y, z := field("x"), field("y"), field("z")
		t := uint16(int(math.Round((m.chip.value("temperature")-25)/1.1))+340) & 0xFFF
		m.regs[0], m.regs[1], m.regs[2] = byte(x>>4), byte(y>>4), byte(z>>4)
		m.regs[3] = byte(t>>8)<<4 | m.frame&3<<2
		m.regs[4] = byte(x&0xF)<<4 | byte(y&0xF)
		m.regs[5] = m.regs[5]&0xF0 | byte(z&0xF)
		m.regs[6] = byte(t)
	}
	copy(b, m.regs[:])
	return nil
}
