package simulated

import (
	"math"
	"time"

	"holdfast/sensors/bus"
)

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
