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

// sgp30Model is a Sensirion SGP30 (data sheet SGP30, section 6.3).
func sgp30Model() *Model {
	return &Model{
		Name: "sgp30", Buses: []bus.Kind{bus.I2CKind}, Addresses: []uint16{0x58},
		Inputs: []Input{
			{Name: "tvoc", Unit: "ppb", Min: 0, Max: 60000, Step: 0.51, Curve: swing(120, 60)},
			{Name: "eco2", Unit: "ppm", Min: 400, Max: 57330, Step: 0.51, Curve: swing(600, 150)},
		},
		Faults: BadCRC | StuckBusy | WrongID,
		New: func(c *Chip) Registers {
			m := &sgp30{}
			m.sensirion = sensirion{chip: c, command: m.command}
			return m
		},
	}
}

type sgp30 struct {
	sensirion
	warm time.Time // zero while the chip sleeps
	base [2]uint16 // eCO2, TVOC
}

func (m *sgp30) reset() {
	m.sensirion.reset()
	m.warm, m.base = time.Time{}, [2]uint16{0x8973, 0x8AAE}
}

func (m *sgp30) command(code uint16, words []uint16) ([]uint16, time.Duration, bool) {
	warm := !m.warm.IsZero() && m.chip.done(m.warm)
	switch code {
	case 0x3682: // serial number
		return []uint16{0, 0x0048, uint16(m.chip.seed)}, time.Millisecond / 2, true
	case 0x202F: // feature set: product type 0, version 0x22
		return []uint16{uint16(m.chip.id(0))<<10 | 0x22}, 10 * time.Millisecond, true
	case 0x2003:
		m.warm = m.chip.takes(14 * time.Second)
		return nil, 0, true
	case 0x2008:
		if !warm {
			return []uint16{400, 0}, 12 * time.Millisecond, true
		}
		return []uint16{uint16(math.Round(m.chip.value("eco2"))), uint16(math.Round(m.chip.value("tvoc")))}, 12 * time.Millisecond, true
	case 0x2015:
		if !warm {
			return []uint16{0, 0}, 10 * time.Millisecond, true
		}
		return m.base[:], 10 * time.Millisecond, true
	case 0x201E: // TVOC first
		if m.warm.IsZero() || len(words) != 2 {
			return nil, 0, false
		}
		m.base = [2]uint16{words[1], words[0]}
		return nil, 10 * time.Millisecond, true
	}
	return nil, 0, false
}
