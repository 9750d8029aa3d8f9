package simulated

import (
	"math"
	"time"

	"holdfast/sensors/bus"
)

// bh1750Model is a ROHM BH1750FVI (technical note 11046EDT01, "Instruction set architecture").
func bh1750Model() *Model {
	return &Model{
		Name: "bh1750", Buses: []bus.Kind{bus.I2CKind}, Addresses: []uint16{0x23, 0x5C},
		Inputs: []Input{{Name: "illuminance", Unit: "lx", Min: 0, Max: 54611, Step: 0.42, Curve: swing(9000, 8900)}},
		Slow:   2, // 120 ms; the data sheet has 180 at most
		New:    func(c *Chip) Registers { return &bh1750{chip: c} },
	}
}

type bh1750 struct {
	chip    *Chip
	on      bool
	data    uint16
	running bool
	once    bool
	ready   time.Time
	mt      byte // MTreg, at most 254
}

func (m *bh1750) reset() { *m = bh1750{chip: m.chip, mt: 69} }

func (m *bh1750) write(b []byte) error {
	m.measure()
	switch v := b[0]; {
	case v >= 0x40 && v <= 0x47:
		m.mt = m.mt&0x1F | v<<5
		return nil
	case v >= 0x60 && v <= 0x7F:
		m.mt = m.mt&0xE0 | v&0x1F
		return nil
	}
	switch v := b[0]; v {
	case 0x00:
		m.on, m.running = false, false
	case 0x01:
		m.on = true
	case 0x07: // not acceptable in power down
		if m.on {
			m.data = 0
		}
	case 0x10, 0x20:
		m.on, m.running, m.once, m.ready = true, true, v == 0x20, m.chip.takes(120*time.Millisecond*time.Duration(m.mt)/69)
	default:
		return refused
	}
	return nil
}

func (m *bh1750) measure() {
	if !m.running || !m.chip.done(m.ready) {
		return
	}
	m.data = uint16(math.Round(math.Min(math.MaxUint16, m.chip.value("illuminance")*1.2*float64(m.mt)/69)))
	if m.once {
		m.on, m.running = false, false
	}
}

func (m *bh1750) read(b []byte) error {
	m.measure()
	copy(b, []byte{byte(m.data >> 8), byte(m.data)})
	return nil
}
