package simulated

import (
	"bytes"
	"math"
	"time"

	"holdfast/sensors/bus"
)

// ccs811Model is a ScioSense CCS811 (data sheet DS000459, application register map).
func ccs811Model() *Model {
	return &Model{
		Name: "ccs811", Buses: []bus.Kind{bus.I2CKind}, Addresses: []uint16{0x5A, 0x5B},
		Inputs: []Input{
			{Name: "eco2", Unit: "ppm", Min: 400, Max: 8192, Step: 0.51, Curve: swing(650, 150)},
			{Name: "tvoc", Unit: "ppb", Min: 0, Max: 1187, Step: 0.51, Curve: swing(90, 60)},
		},
		Faults: StuckBusy | WrongID,
		New:    func(c *Chip) Registers { return &ccs811{chip: c} },
	}
}

type ccs811 struct {
	chip     *Chip
	pointer  byte
	app      bool
	mode     byte
	next     time.Time
	measured int // since the mode was set
	ready    bool
	eco2     uint16
	tvoc     uint16
}

func (m *ccs811) reset() { *m = ccs811{chip: m.chip} }

func (m *ccs811) write(b []byte) error {
	m.pointer = b[0]
	switch {
	case b[0] == 0xFF && bytes.Equal(b[1:], []byte{0x11, 0xE5, 0x72, 0x8A}):
		m.reset()
	case b[0] == 0xF4 && len(b) == 1:
		m.app = true
	case b[0] == 0x01 && len(b) == 2 && m.app:
		m.mode, m.measured, m.ready = b[1]>>4&7, 0, false
		m.next = m.chip.takes(time.Second)
	case len(b) > 1:
		return refused
	}
	return nil
}

func (m *ccs811) read(b []byte) error {
	if m.app && m.mode == 1 && m.chip.done(m.next) {
		m.ready = true
		m.next = m.chip.takes(time.Second)
		if m.measured++; m.measured > 1 { // the first result is none
			m.eco2, m.tvoc = uint16(math.Round(m.chip.value("eco2"))), uint16(math.Round(m.chip.value("tvoc")))
		}
	}
	status := byte(0x10)
	if m.app {
		status |= 0x80
	}
	if m.ready {
		status |= 0x08
	}
	var v []byte
	switch m.pointer {
	case 0x00:
		v = []byte{status}
	case 0x01:
		v = []byte{m.mode << 4}
	case 0x02:
		v = []byte{byte(m.eco2 >> 8), byte(m.eco2), byte(m.tvoc >> 8), byte(m.tvoc), status, 0}
		m.ready = false
	case 0x20:
		v = []byte{m.chip.id(0x81)}
	case 0xE0:
		v = []byte{0}
	default:
		return refused
	}
	copy(b, v)
	return nil
}
