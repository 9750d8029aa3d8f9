package simulated

import (
	"math"
	"time"

	"holdfast/sensors/bus"
)

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
