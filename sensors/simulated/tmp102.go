package simulated

import (
	"math"
	"time"

	"holdfast/sensors/bus"
)

// tmp102Model is a Texas Instruments TMP102 (data sheet SBOS397, section "Register maps").
func tmp102Model() *Model {
	return &Model{
		Name: "tmp102", Buses: []bus.Kind{bus.I2CKind}, Addresses: []uint16{0x48, 0x49, 0x4A, 0x4B},
		Inputs: []Input{{Name: "temperature", Unit: "°C", Min: -55, Max: 150, Step: 0.032, Curve: airTemperature}},
		Faults: StuckBusy | WrongID,
		Slow:   2, // 26 ms; the data sheet has 35 at most
		New: func(c *Chip) Registers {
			m := &tmp102{chip: c}
			m.words = words{get: m.get, set: m.set}
			return m
		},
	}
}

type tmp102 struct {
	words
	chip    *Chip
	config  uint16
	value   int // 1/16 °C
	next    time.Time
	running bool
}

const tmp102Time = 26 * time.Millisecond

// reset brings four conversions a second, in 12 bits.
func (m *tmp102) reset() {
	m.config, m.value, m.pointer = 0x60A0, 0, 0
	m.running, m.next = true, m.chip.takes(tmp102Time)
}

func (m *tmp102) shutdown() bool { return m.config&0x0100 != 0 }

func (m *tmp102) get(reg byte) uint16 {
	if m.running && m.chip.done(m.next) {
		m.value = int(math.Round(m.chip.value("temperature") * 16))
		if m.running = !m.shutdown(); m.running {
			m.next = m.chip.takes(250 * time.Millisecond)
		}
	}
	switch reg & 3 {
	case 0:
		if m.config&0x0010 != 0 { // extended: 13 bits
			return uint16(m.value)<<3 | 1
		}
		return uint16(min(m.value, 2047)) << 4
	case 1:
		v := m.config
		if m.shutdown() && !m.running {
			v |= 0x8000 // a single conversion is done
		}
		return v&0xFF00 | uint16(m.chip.id(byte(v)))
	}
	return 0
}

func (m *tmp102) set(reg byte, v uint16) {
	if reg&3 != 1 {
		return
	}
	m.config = v&0x1FD0 | 0x6020 // the resolution reads as 3, the alert as inactive
	if m.shutdown() {
		if m.running = v&0x8000 != 0; m.running {
			m.next = m.chip.takes(tmp102Time)
		}
	}
}
