package simulated

import (
	"sort"
	"time"

	"holdfast/sensors/bus"
)

// bmp180Model is a Bosch BMP180 (data sheet BST-BMP180-DS000, section 4: memory map).
func bmp180Model() *Model {
	return &Model{
		Name: "bmp180", Buses: []bus.Kind{bus.I2CKind}, Addresses: []uint16{0x77},
		Inputs: []Input{
			{Name: "temperature", Unit: "°C", Min: -40, Max: 85, Step: 0.11, Curve: airTemperature},
			{Name: "pressure", Unit: "hPa", Min: 300.1, Max: 1099.9, Step: 0.05, Curve: airPressure},
		},
		Faults: StuckBusy | WrongID,
		Slow:   2, // section 3.3.1 has 1.5 times the typical time at most
		New: func(c *Chip) Registers {
			m := &bmp180{chip: c}
			m.octets = octets{latch: m.latch, get: func(reg byte) byte { return m.regs[reg] }, set: m.set}
			return m
		},
	}
}

type bmp180 struct {
	octets
	chip    *Chip
	regs    [256]byte
	ready   time.Time
	running bool
}

// bmp180Trim are the values of the data sheet's worked example (section 3.5), but for AC3 and up to
// MD in the order of the memory map.
var bmp180Trim = [11]int64{408, -72, -14383, 32741, 32757, 23153, 6190, 4, -32768, -8711, 2868}

func (m *bmp180) reset() {
	m.regs = [256]byte{0xD0: 0x55, 0xF6: 0x80}
	for i, v := range bmp180Trim {
		m.regs[0xAA+2*i], m.regs[0xAB+2*i] = byte(v>>8), byte(v)
	}
	m.running = false
}

func (m *bmp180) set(reg, v byte) {
	if reg == 0xF4 {
		m.regs[reg] = v
		takes := 3 * time.Millisecond
		if v != 0x2E {
			takes = []time.Duration{3, 5, 9, 17}[v>>6] * time.Millisecond
		}
		m.running, m.ready = true, m.chip.takes(takes)
	}
}

func (m *bmp180) latch() {
	m.regs[0xD0] = m.chip.id(0x55)
	if !m.running || !m.chip.done(m.ready) {
		return
	}
	m.running = false
	command := m.regs[0xF4]
	m.regs[0xF4] &^= 0x20
	// Temperature and pressure grow with the raw values, so that these can be searched for.
	ut := sort.Search(1<<16, func(ut int) bool {
		deci, _ := bmp180Compensate(int64(ut), 0, 0)
		return float64(deci) >= m.chip.value("temperature")*10
	})
	if command == 0x2E {
		m.regs[0xF6], m.regs[0xF7] = byte(ut>>8), byte(ut)
		return
	}
	oss := uint(command >> 6)
	up := sort.Search(1<<(16+oss), func(up int) bool {
		_, pascal := bmp180Compensate(int64(ut), int64(up), oss)
		return float64(pascal) >= m.chip.value("pressure")*100
	}) << (8 - oss)
	m.regs[0xF6], m.regs[0xF7], m.regs[0xF8] = byte(up>>16), byte(up>>8), byte(up)
}

// bmp180Compensate is figure 4 of the data sheet, line by line: tenths of a degree, and pascals.
func bmp180Compensate(ut, up int64, oss uint) (t, p int64) {
	ac1, ac2, ac3, ac4, ac5, ac6 := bmp180Trim[0], bmp180Trim[1], bmp180Trim[2], bmp180Trim[3], bmp180Trim[4], bmp180Trim[5]
	b1, b2, mc, md := bmp180Trim[6], bmp180Trim[7], bmp180Trim[9], bmp180Trim[10]
	x1 := (ut - ac6) * ac5 >> 15
	if x1+md <= 0 {
		return -1 << 31, 0
	}
	x2 := mc << 11 / (x1 + md)
	b5 := x1 + x2
	t = (b5 + 8) >> 4

	b6 := b5 - 4000
	x1 = b2 * (b6 * b6 >> 12) >> 11
	x2 = ac2 * b6 >> 11
	x3 := x1 + x2
	b3 := ((ac1*4+x3)<<oss + 2) / 4
	x1 = ac3 * b6 >> 13
	x2 = b1 * (b6 * b6 >> 12) >> 16
	x3 = (x1 + x2 + 2) >> 2
	b4 := ac4 * (x3 + 32768) >> 15
	b7 := (up - b3) * (50000 >> oss)
	p = b7 * 2 / b4
	x1 = (p >> 8) * (p >> 8)
	x1 = x1 * 3038 >> 16
	x2 = -7357 * p >> 16
	return t, p + (x1+x2+3791)>>4
}
