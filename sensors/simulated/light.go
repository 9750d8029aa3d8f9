package simulated

import (
	"encoding/binary"
	"math"
	"sort"
	"time"

	"holdfast/sensors/bus"
)

// daylight goes from starlight to sun and back, evenly on a scale of powers of ten.
func daylight(seed uint64, t time.Time) float64 {
	return math.Pow(10, 2.2+2.2*wave(seed, t, 24*time.Hour))
}

// veml7700Model is a Vishay VEML7700 (data sheet 84286, register table). Its response to bright light is
// the inverse of the polynomial in application note 84323.
func veml7700Model() *Model {
	return &Model{
		Name: "veml7700", Buses: []bus.Kind{bus.I2CKind}, Addresses: []uint16{0x10},
		Inputs: []Input{{Name: "illuminance", Unit: "lx", Min: 0, Max: 130e3, Step: 90, Curve: daylight}},
		Faults: WrongID,
		Slow:   2,
		New:    func(c *Chip) Registers { return &veml7700{chip: c} },
	}
}

type veml7700 struct {
	chip    *Chip
	regs    [8]uint16
	pointer byte
	next    time.Time // end of the measurement that runs; zero if it is switched off
}

func (m *veml7700) reset() { m.regs, m.next = [8]uint16{0: 1, 7: 0xC481}, time.Time{} }

func (m *veml7700) write(b []byte) error {
	m.pointer = b[0] & 7
	switch {
	case len(b) == 3:
		m.measure()
		if m.pointer < 4 {
			m.regs[m.pointer] = binary.LittleEndian.Uint16(b[1:])
		}
		if m.pointer == 0 {
			m.next, m.regs[4] = time.Time{}, 0
			if m.regs[0]&1 == 0 {
				m.next = m.chip.takes(2500*time.Microsecond + m.integration())
			}
		}
	case len(b) != 1:
		return refused
	}
	return nil
}

func (m *veml7700) integration() time.Duration {
	ms := map[uint16]time.Duration{0xC: 25, 8: 50, 0: 100, 1: 200, 2: 400, 3: 800}[m.regs[0]>>6&15]
	return ms * time.Millisecond
}

func (m *veml7700) read(b []byte) error {
	m.measure()
	v := m.regs[m.pointer]
	if m.pointer == 7 {
		v = v&0xFF00 | uint16(m.chip.id(byte(v)))
	}
	copy(b, binary.LittleEndian.AppendUint16(nil, v))
	return nil
}

// measure fills the data register if a measurement has ended, and begins the next.
func (m *veml7700) measure() {
	if m.next.IsZero() || !m.chip.done(m.next) {
		return
	}
	m.next = m.chip.takes(m.integration())
	gain := [4]float64{1, 2, 0.125, 0.25}[m.regs[0]>>11&3]
	lx := m.chip.value("illuminance")
	// At gain 2 and 800 ms a count is 0.0042 lx, or 0.0036 where the polynomial was taken.
	shape := func(x float64) float64 {
		return 6.0135e-13*math.Pow(x, 4) - 9.3924e-9*math.Pow(x, 3) + 8.1488e-5*x*x + 1.0023*x
	}
	bright := lx * 0.0036 / 0.0042
	x := float64(sort.Search(1<<22, func(i int) bool { return shape(float64(i)/100) >= bright })) / 100
	count := x / 0.0036 * gain / 2 * m.integration().Seconds() / 0.8
	m.regs[4] = uint16(math.Min(math.Round(count), math.MaxUint16))
}

// tsl2591Model is an ams TSL2591 (data sheet v1-00, register description) in light with a fifth of
// infrared in it.
func tsl2591Model() *Model {
	return &Model{
		Name: "tsl2591", Buses: []bus.Kind{bus.I2CKind}, Addresses: []uint16{0x29},
		Inputs: []Input{{Name: "illuminance", Unit: "lx", Min: 0, Max: 88e3, Step: 60, Curve: daylight}},
		Faults: WrongID | StuckBusy,
		Slow:   1.08, // data sheet: 108 ms at most
		New:    func(c *Chip) Registers { return &tsl2591{chip: c} },
	}
}

type tsl2591 struct {
	chip    *Chip
	regs    [32]byte
	pointer byte
	ready   time.Time
	running bool
}

func (m *tsl2591) reset() { m.regs, m.running = [32]byte{0x12: 0x50}, false }

func (m *tsl2591) write(b []byte) error {
	if b[0]&0xE0 != 0xA0 {
		return refused // special functions are not modelled
	}
	m.pointer = b[0] & 0x1F
	for i, v := range b[1:] {
		reg := m.pointer + byte(i)
		if reg > 1 {
			return refused
		}
		on := reg == 0 && v&3 == 3 && m.regs[0]&3 != 3
		m.regs[reg] = v
		if m.regs[0]&3 != 3 {
			m.running = false
			m.regs[0x13] &^= 1 // AVALID
		}
		if on {
			m.running = true
			m.ready = m.chip.takes(time.Duration(m.regs[1]&7+1) * 100 * time.Millisecond)
		}
	}
	return nil
}

func (m *tsl2591) read(b []byte) error {
	if m.running && m.chip.done(m.ready) {
		m.running = false
		m.regs[0x13] |= 1
		m.integrate()
	}
	for i := range b {
		reg := (int(m.pointer) + i) & 31
		if b[i] = m.regs[reg]; reg == 0x12 {
			b[i] = m.chip.id(b[i])
		}
	}
	return nil
}

// integrate counts both channels. With a fifth of infrared, 408 * c0 * (1-0.2) * (1-0.2) is the light.
func (m *tsl2591) integrate() {
	ms := float64(m.regs[1]&7+1) * 100
	gain0 := [4]float64{1, 24.5, 400, 9200}[m.regs[1]>>4&3]
	gain1 := [4]float64{1, 24.5, 400, 9900}[m.regs[1]>>4&3]
	c0 := m.chip.value("illuminance") / 408 / 0.64
	full := 65535.0
	if ms == 100 {
		full = 36863
	}
	binary.LittleEndian.PutUint16(m.regs[0x14:], uint16(math.Min(math.Round(c0*gain0*ms), full)))
	binary.LittleEndian.PutUint16(m.regs[0x16:], uint16(math.Min(math.Round(0.2*c0*gain1*ms), full)))
}
