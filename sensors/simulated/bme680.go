package simulated

import (
	"sort"
	"time"

	"holdfast/sensors/bus"
)

// bme680Model is a Bosch BME680 (data sheet BST-BME680-DS001, memory map), whose compensation is the
// data sheet's in whole numbers.
func bme680Model() *Model {
	return &Model{
		Name: "bme680", Buses: []bus.Kind{bus.I2CKind}, Addresses: []uint16{0x76, 0x77},
		Inputs: []Input{
			{Name: "temperature", Unit: "°C", Min: -40, Max: 85, Step: 0.015, Curve: airTemperature},
			{Name: "humidity", Unit: "%", Min: 0, Max: 100, Step: 0.1, Curve: airHumidity},
			{Name: "pressure", Unit: "hPa", Min: 300, Max: 1100, Step: 0.1, Curve: airPressure},
			{Name: "gas_resistance", Unit: "Ω", Min: 1000, Max: 10e6, Step: 12000, Curve: swing(120e3, 40e3)},
		},
		Faults: StuckBusy | WrongID,
		New:    func(c *Chip) Registers { return &bme680{chip: c} },
	}
}

type bme680 struct {
	chip    *Chip
	regs    [256]byte
	pointer byte
	ready   time.Time
	running bool
}

// A real chip's calibration, as published with Pimoroni's driver.
const (
	b680T1, b680T2, b680T3             = 26041, 26469, 3
	b680P1, b680P2, b680P3, b680P4     = 36673, -10515, 88, 7310
	b680P5, b680P6, b680P7, b680P8     = -129, 30, 46, -3177
	b680P9, b680P10                    = -2379, 30
	b680H1, b680H2, b680H3, b680H4     = 676, 1029, 0, 45
	b680H5, b680H6, b680H7             = 20, 120, -100
	b680GH1, b680GH2, b680GH3          = -30, -24754, 18
	b680HeatRange, b680HeatVal, b680SE = 1, 48, 0
)

func (m *bme680) reset() {
	m.regs, m.running = [256]byte{0xD0: 0x61}, false
	s16 := func(at, v int) { m.regs[at], m.regs[at+1] = byte(v), byte(v>>8) }
	s8 := func(at, v int) { m.regs[at] = byte(v) }
	s16(0xE9, b680T1)
	s16(0x8A, b680T2)
	s8(0x8C, b680T3)
	s16(0x8E, b680P1)
	s16(0x90, b680P2)
	s8(0x92, b680P3)
	s16(0x94, b680P4)
	s16(0x96, b680P5)
	s8(0x98, b680P7)
	s8(0x99, b680P6)
	s16(0x9C, b680P8)
	s16(0x9E, b680P9)
	s8(0xA0, b680P10)
	m.regs[0xE1], m.regs[0xE2], m.regs[0xE3] = b680H2>>4, b680H2&15<<4|b680H1&15, b680H1>>4
	for i, v := range []int{b680H3, b680H4, b680H5, b680H6, b680H7} {
		s8(0xE4+i, v)
	}
	s16(0xEB, b680GH2)
	s8(0xED, b680GH1)
	s8(0xEE, b680GH3)
	m.regs[0x00], m.regs[0x02], m.regs[0x04] = b680HeatVal, b680HeatRange<<4, b680SE<<4
	copy(m.regs[0x1F:], []byte{0x80, 0, 0, 0x80, 0, 0, 0x80, 0}) // nothing measured
}

// write takes a register address, or pairs of a register and its value.
func (m *bme680) write(b []byte) error {
	if len(b) == 1 {
		m.pointer = b[0]
		return nil
	}
	if len(b)%2 != 0 {
		return refused
	}
	for ; len(b) > 0; b = b[2:] {
		switch reg, v := b[0], b[1]; {
		case reg == 0xE0 && v == 0xB6:
			m.reset()
		case reg == 0x74:
			m.regs[reg] = v
			if v&3 == 1 {
				m.running = true
				m.ready = m.chip.takes(m.duration())
				m.regs[0x1D] = 0
			}
		case reg >= 0x50 && reg <= 0x75:
			m.regs[reg] = v
		}
	}
	return nil
}

// heats reports whether the gas is measured: run_gas is set and the heater not off.
func (m *bme680) heats() bool { return m.regs[0x71]&0x10 != 0 && m.regs[0x70]&8 == 0 }

// duration is that of the conversions, and the time set in gas_wait_0.
func (m *bme680) duration() time.Duration {
	cycles := oversampling(m.regs[0x74]>>5) + oversampling(m.regs[0x74]>>2) + oversampling(m.regs[0x72])
	d := time.Duration(cycles)*1963*time.Microsecond + 4*477*time.Microsecond
	if m.heats() {
		d += 5*477*time.Microsecond + time.Duration(m.regs[0x64]&63)<<(m.regs[0x64]>>6*2)*time.Millisecond
	}
	return d
}

func (m *bme680) read(b []byte) error {
	if m.running && m.chip.done(m.ready) {
		m.measure()
	}
	if m.running {
		m.regs[0x1D] = 0x20 // measuring
	}
	for i := range b {
		reg := byte(int(m.pointer) + i)
		if b[i] = m.regs[reg]; reg == 0xD0 {
			b[i] = m.chip.id(b[i])
		}
	}
	return nil
}

// measure searches for the raw values that the compensation turns into what is there.
func (m *bme680) measure() {
	m.running = false
	m.regs[0x74] &^= 3
	centi := m.chip.value("temperature") * 100
	t := sort.Search(1<<20, func(raw int) bool { return float64(b680Fine(raw)*5+128)/256 >= centi })
	fine := b680Fine(t)
	pa := m.chip.value("pressure") * 100
	p := sort.Search(1<<20, func(raw int) bool { return float64(b680Pressure(raw, fine)) <= pa })
	milli := m.chip.value("humidity") * 1000
	h := sort.Search(1<<16, func(raw int) bool { return float64(b680Humidity(raw, fine)) >= milli })
	for i, v := range []int{p, t} {
		if oversampling(m.regs[0x74]>>(2+3*i)) == 0 {
			v = 0x80000
		}
		m.regs[0x1F+3*i], m.regs[0x20+3*i], m.regs[0x21+3*i] = byte(v>>12), byte(v>>4), byte(v<<4)
	}
	if oversampling(m.regs[0x72]) == 0 {
		h = 0x8000
	}
	m.regs[0x25], m.regs[0x26] = byte(h>>8), byte(h)
	m.regs[0x1D] = 0x80 // new_data_0
	m.regs[0x2A], m.regs[0x2B] = 0, 0
	if !m.heats() {
		return
	}
	// The range is the one in which the ADC is closest to its middle; resistance falls with the count.
	ohm := m.chip.value("gas_resistance")
	span := sort.Search(15, func(r int) bool { return float64(b680Gas(512, r)) <= ohm*1.2 })
	g := min(sort.Search(1024, func(raw int) bool { return float64(b680Gas(raw, span)) <= ohm }), 1023)
	m.regs[0x2A], m.regs[0x2B] = byte(g>>2), byte(g&3<<6|0x20|span)
	// The plate is warm after about 20 ms, with a resistance that stands for 200 to 400 °C.
	if m.regs[0x64] >= 20 && m.regs[0x5A] >= 60 {
		m.regs[0x2B] |= 0x10
	}
}

// The data sheet's compensation in whole numbers.

func b680Fine(adc int) int64 {
	v1 := int64(adc)>>3 - b680T1<<1
	v2 := v1 * b680T2 >> 11
	v3 := (v1 >> 1) * (v1 >> 1) >> 12 * (b680T3 << 4) >> 14
	return v2 + v3
}

// b680Pressure returns Pa.
func b680Pressure(adc int, fine int64) int64 {
	v1 := fine>>1 - 64000
	v2 := (v1 >> 2) * (v1 >> 2) >> 11 * b680P6 >> 2
	v2 += v1 * b680P5 << 1
	v2 = v2>>2 + b680P4<<16
	v1 = (v1>>2)*(v1>>2)>>13*(b680P3<<5)>>3 + b680P2*v1>>1
	v1 = (32768 + v1>>18) * b680P1 >> 15
	p := ((1048576 - int64(adc) - v2>>12) * 3125) << 1 / v1
	v1 = b680P9 * ((p >> 3) * (p >> 3) >> 13) >> 12
	v2 = (p >> 2) * b680P8 >> 13
	v3 := (p >> 8) * (p >> 8) * (p >> 8) * b680P10 >> 17
	return p + (v1+v2+v3+b680P7<<7)>>4
}

// b680Humidity returns thousandths of a percent.
func b680Humidity(adc int, fine int64) int64 {
	t := (fine*5 + 128) >> 8
	v1 := int64(adc) - b680H1*16 - t*b680H3/100>>1
	v2 := b680H2 * (t*b680H4/100 + t*(t*b680H5/100)>>6/100 + 1<<14) >> 10
	v3 := v1 * v2
	v4 := (b680H6<<7 + t*b680H7/100) >> 4
	v5 := (v3 >> 14) * (v3 >> 14) >> 10
	return min(max((v3+v4*v5>>1)>>10*1000>>12, 0), 100000)
}

var (
	b680Gas1 = [16]int64{
		2147483647, 2147483647, 2147483647, 2147483647, 2147483647, 2126008810, 2147483647, 2130303777,
		2147483647, 2147483647, 2143188679, 2136746228, 2147483647, 2126008810, 2147483647, 2147483647,
	}
	b680Gas2 = [16]int64{
		4096000000, 2048000000, 1024000000, 512000000, 255744255, 127110228, 64000000, 32258064,
		16016016, 8000000, 4000000, 2000000, 1000000, 500000, 250000, 125000,
	}
)

// b680Gas returns Ω.
func b680Gas(adc, span int) int64 {
	v1 := (1340 + 5*b680SE) * b680Gas1[span] >> 16
	v2 := int64(adc)<<15 - 16777216 + v1
	return (b680Gas2[span]*v1>>9 + v2>>1) / v2
}
