package simulated

import (
	"math"
	"time"

	"holdfast/sensors/bus"
)

// mcp9808Model is a Microchip MCP9808 (data sheet DS25095A, section 5.1: registers).
func mcp9808Model() *Model {
	return &Model{
		Name: "mcp9808", Buses: []bus.Kind{bus.I2CKind}, Addresses: []uint16{0x18, 0x19, 0x1A, 0x1B, 0x1C, 0x1D, 0x1E, 0x1F},
		Inputs: []Input{{Name: "temperature", Unit: "°C", Min: -40, Max: 125, Step: 0.032, Curve: airTemperature}},
		Faults: WrongID,
		Slow:   2,
		New: func(c *Chip) Registers {
			m := &mcp9808{chip: c}
			m.words = words{get: m.get, set: m.set}
			return m
		},
	}
}

type mcp9808 struct {
	words
	chip    *Chip
	config  uint16
	limits  [3]uint16
	ambient uint16
	next    time.Time // end of the conversion that runs
}

func (m *mcp9808) reset() {
	m.config, m.limits, m.ambient, m.pointer = 0, [3]uint16{}, 0, 0
	m.next = m.chip.takes(mcp9808Time)
}

// mcp9808Time is a conversion's at the resolution after power-on, the finest.
const mcp9808Time = 250 * time.Millisecond

func (m *mcp9808) get(reg byte) uint16 {
	switch reg & 0xF {
	case 1:
		return m.config
	case 2, 3, 4:
		return m.limits[reg-2]
	case 5:
		m.convert()
		return m.ambient
	case 6:
		return 0x0000 | uint16(m.chip.id(0x54))
	case 7:
		return 0x0400
	}
	return 0
}

// convert does what was done since the last time. Without conversions the register keeps its value.
func (m *mcp9808) convert() {
	if m.config&0x0100 != 0 || !m.chip.done(m.next) {
		return
	}
	sixteenths := int(math.Round(m.chip.value("temperature") * 16))
	m.ambient = uint16(sixteenths) & 0x1FFF
	for _, limit := range []struct {
		reg  int
		flag uint16
		over bool
	}{{2, 0x8000, true}, {0, 0x4000, true}, {1, 0x2000, false}} {
		at := int(int16(m.limits[limit.reg]<<3) >> 3)
		if limit.over == (sixteenths > at) && sixteenths != at {
			m.ambient |= limit.flag
		}
	}
	m.next = m.chip.takes(mcp9808Time)
}

func (m *mcp9808) set(reg byte, v uint16) {
	switch reg & 0xF {
	case 1:
		if m.config&0x0100 != 0 && v&0x0100 == 0 { // out of shutdown
			m.next = m.chip.takes(mcp9808Time)
		}
		m.config = v & 0x07FF
	case 2, 3, 4:
		m.limits[reg-2] = v & 0x1FFC
	}
}

// write also takes the one register of 8 bits, the resolution.
func (m *mcp9808) write(b []byte) error {
	if b[0] == 8 && len(b) == 2 {
		m.pointer = 8
		if b[1]&3 != 3 {
			return refused // other resolutions are not simulated
		}
		return nil
	}
	return m.words.write(b)
}

func (m *mcp9808) read(b []byte) error {
	if m.pointer == 8 {
		for i := range b {
			b[i] = 3
		}
		return nil
	}
	return m.words.read(b)
}

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
