package simulated

import (
	"encoding/binary"
	"math"
	"time"

	"holdfast/sensors/bus"
)

// vl53l0xModel is an STMicroelectronics VL53L0X (data sheet DS11555; registers by ST's API): pages of
// registers, a memory with the reference SPADs, calibrations, and measurements that take what their
// timeouts add up to.
func vl53l0xModel() *Model {
	return &Model{
		Name: "vl53l0x", Buses: []bus.Kind{bus.I2CKind}, Addresses: []uint16{0x29},
		Inputs: []Input{
			// Nearer ones it sees, and cannot measure.
			{Name: "distance", Unit: "mm", Min: 30, Max: 2000, Step: 0.51, Curve: swing(800, 500)},
			{Name: "signal", Unit: "MCPS", Min: 0.3, Max: 100, Step: 0.004, Curve: swing(8, 3)},
		},
		Faults: StuckBusy | WrongID,
		New:    func(c *Chip) Registers { return &vl53l0x{chip: c} },
	}
}

type vl53l0x struct {
	chip             *Chip
	pages            [8][256]byte
	page, pointer    byte
	held             bool // in reset
	memory, measured time.Time
	fetching         bool
	running          bool
}

const vl53l0xStop = 0x3C // the stop variable

func (m *vl53l0x) reset() {
	m.pages = [8][256]byte{
		0: {0x01: 0xFF, 0x84: 0x11, 0xC0: 0xEE, 0xC1: 0xAA, 0xC2: 0x10, 0xB0: 0xFF, 0xB1: 0x3F, 0xB2: 0xFF, 0xB3: 0xEF, 0xB4: 0xFF, 0xB5: 0x0F},
		1: {0x91: vl53l0xStop},
		7: {0x92: 0x80 | 5}, // five, with apertures
	}
	m.page, m.held, m.fetching, m.running = 0, false, false, false
}

func (m *vl53l0x) write(b []byte) error {
	m.pointer = b[0]
	for i, v := range b[1:] {
		m.set(b[0]+byte(i), v)
	}
	return nil
}

func (m *vl53l0x) set(reg, v byte) {
	switch {
	case reg == 0xFF:
		m.page = v & 7
		return
	case m.page == 0 && reg == 0xBF:
		if m.held = v&1 == 0; !m.held {
			m.reset()
		}
		return
	case m.held:
		return
	case m.page == 7 && reg == 0x83 && v == 0: // fetch from the memory
		m.fetching, m.memory = true, m.chip.takes(2*time.Millisecond)
	case m.page == 0 && reg == 0x0B:
		m.pages[0][0x13] = 0
	case m.page == 0 && reg == 0x00 && v&1 != 0:
		m.running, m.measured = true, m.chip.takes(m.duration())
	case m.page == 0 && reg == 0xC0: // only read
		return
	}
	m.pages[m.page][reg] = v
}

// duration adds up the steps that are enabled, in macro periods of 2304 pulses of the pre-range's or the
// final range's period.
func (m *vl53l0x) duration() time.Duration {
	p := &m.pages[0]
	macro := func(period byte) float64 { return 2304 * 2 * (float64(period) + 1) * 1.655e-3 } // µs
	timeout := func(at int) float64 { return float64(int(p[at+1])<<p[at]) + 1 }
	if p[0x01] == 1 || p[0x01] == 2 {
		return 3 * time.Millisecond // a calibration
	}
	µs := 1910.0 + 960
	dss := (float64(p[0x46]) + 1) * macro(p[0x50])
	if p[0x01]&0x10 != 0 {
		µs += dss + 590
	}
	if p[0x01]&0x08 != 0 {
		µs += 2 * (dss + 690)
	} else if p[0x01]&0x04 != 0 {
		µs += dss + 660
	}
	pre := 0.0
	if p[0x01]&0x40 != 0 {
		pre = timeout(0x51)
		µs += pre*macro(p[0x50]) + 660
	}
	if p[0x01]&0x80 != 0 {
		µs += (timeout(0x71)-pre)*macro(p[0x70]) + 550
	}
	return time.Duration(µs) * time.Microsecond
}

func (m *vl53l0x) read(b []byte) error {
	if m.fetching && m.chip.done(m.memory) {
		m.fetching, m.pages[7][0x83] = false, 0x10
	}
	if m.running && m.chip.done(m.measured) {
		m.running = false
		m.pages[0][0x00] &^= 1
		m.measure()
	}
	for i := range b {
		reg := m.pointer + byte(i)
		b[i] = m.pages[m.page][reg]
		if m.page == 0 && reg == 0xC0 {
			b[i] = m.chip.id(b[i])
		}
		if m.held {
			b[i] = 0
		}
	}
	return nil
}

// measure fills in the result. Without its stop variable, tuning and calibration the chip reports nothing
// that is true: that is range status 0.
func (m *vl53l0x) measure() {
	p := &m.pages[0]
	p[0x13] = 4 // new sample
	if p[0x01] == 1 || p[0x01] == 2 {
		return
	}
	copy(p[0x14:0x20], make([]byte, 12))
	if m.pages[1][0x91] != vl53l0xStop || p[0x66] != 0xA0 || p[0xB1] != 0x30 {
		return
	}
	signal := m.chip.value("signal")
	limit := float64(binary.BigEndian.Uint16(p[0x44:])) / 128
	p[0x14] = 11 << 3 // range complete
	switch {
	case signal < limit:
		p[0x14] = 4 << 3 // no target
	case m.chip.value("distance") < 30:
		p[0x14] = 10 << 3 // clipped at the minimum
	}
	binary.BigEndian.PutUint16(p[0x14+6:], uint16(math.Round(signal*128)))
	binary.BigEndian.PutUint16(p[0x14+10:], uint16(math.Round(m.chip.value("distance"))))
}
