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

// bme688Model is a Bosch BME688 (Bosch's BME68x API): a BME680 whose gas resistance is elsewhere, and of other counts.
func bme688Model() *Model {
	m := bme680Model()
	m.Name = "bme688"
	m.New = func(c *Chip) Registers { return &bme680{chip: c, variant: 1} }
	return m
}

// bme690Model is a Bosch BME690, with the calibration of a real chip as published with Pimoroni's driver. Its temperature
// and pressure are those of a BMP390, its humidity that of a BME280, in the whole numbers of Bosch's APIs for these two.
func bme690Model() *Model {
	m := bme680Model()
	m.Name = "bme690"
	m.New = func(c *Chip) Registers { return &bme680{chip: c, variant: 2} }
	return m
}

type bme680 struct {
	chip    *Chip
	variant byte // 0: BME680, 1: BME688, 2: BME690
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
	m.regs[0xF0] = m.variant
	if m.variant == 2 {
		for at, v := range b690Words {
			s16(at, v)
		}
		for at, v := range b690Bytes {
			s8(at, v)
		}
	}
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
func (m *bme680) heats() bool {
	run := byte(0x10)
	if m.variant != 0 {
		run = 0x20
	}
	return m.regs[0x71]&0x30 == run && m.regs[0x70]&8 == 0
}

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
	pa := m.chip.value("pressure") * 100
	milli := m.chip.value("humidity") * 1000
	var t, p, h int // the first two of 24 bits
	if m.variant == 2 {
		t = sort.Search(1<<24, func(raw int) bool { return float64(b690Fine(int64(raw))*25)/16384 >= centi })
		fine := b690Fine(int64(t))
		p = sort.Search(1<<24, func(raw int) bool { return b690Pressure(int64(raw), fine) <= pa })
		h = sort.Search(1<<16, func(raw int) bool { return b690Humidity(int64(raw), fine)*1000/1024 >= milli })
	} else {
		t = sort.Search(1<<20, func(raw int) bool { return float64(b680Fine(raw)*5+128)/256 >= centi })
		fine := b680Fine(t)
		p = sort.Search(1<<20, func(raw int) bool { return float64(b680Pressure(raw, fine)) <= pa })
		h = sort.Search(1<<16, func(raw int) bool { return float64(b680Humidity(raw, fine)) >= milli })
		t, p = t<<4, p<<4
	}
	for i, v := range []int{p, t} {
		if oversampling(m.regs[0x74]>>(2+3*i)) == 0 {
			v = 0x800000
		}
		m.regs[0x1F+3*i], m.regs[0x20+3*i], m.regs[0x21+3*i] = byte(v>>16), byte(v>>8), byte(v)
	}
	if oversampling(m.regs[0x72]) == 0 {
		h = 0x8000
	}
	m.regs[0x25], m.regs[0x26] = byte(h>>8), byte(h)
	m.regs[0x1D] = 0x80 // new_data_0
	clear(m.regs[0x2A:0x2E])
	if !m.heats() {
		return
	}
	gas, at := b680Gas, 0x2A
	if m.variant != 0 {
		gas, at = b688Gas, 0x2C
	}
	// The range is the one in which the ADC is closest to its middle; resistance falls with the count.
	ohm := m.chip.value("gas_resistance")
	span := sort.Search(15, func(r int) bool { return float64(gas(512, r)) <= ohm*1.2 })
	g := min(sort.Search(1024, func(raw int) bool { return float64(gas(raw, span)) <= ohm }), 1023)
	m.regs[at], m.regs[at+1] = byte(g>>2), byte(g&3<<6|0x20|span)
	// The plate is warm after about 20 ms, with a resistance that stands for 200 to 400 °C.
	if m.regs[0x64] >= 20 && m.regs[0x5A] >= 60 {
		m.regs[at+1] |= 0x10
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

// b688Gas returns Ω, in the whole numbers of Bosch's API.
func b688Gas(adc, span int) int64 {
	return 10000 * (262144 >> span) / (4096 + 3*(int64(adc)-512)) * 100
}

// The calibration of a BME690, by register.
var (
	b690Words = map[int]int{0xE9: 22288, 0x8A: 22173, 0x8E: 5941, 0x90: 4090, 0x94: 20021, 0x96: 25517, 0x9C: 4631, 0xEB: -6406}
	b690Bytes = map[int]int{
		0x8C: -7, 0x92: 6, 0x93: 1, 0x98: 3, 0x99: -6, 0x9E: 6, 0x9F: -11,
		0xE1: b690H5 >> 4, 0xE2: b690H5&15<<4 | b690H1&15, 0xE3: b690H1 >> 4, 0xE4: 50, 0xE5: 30, 0xE6: 0, 0xE7: 75, 0xED: -38, 0xEE: 18,
	}
)

const b690H1, b690H5 = 238, 399

// b690Fine returns the linear temperature of Bosch's BMP3 API, of which 65536 are 1 °C.
func b690Fine(adc int64) int64 {
	d := adc - 256*22288
	return (d*22173*262144 + d*d*-7) >> 32
}

// b690Pressure returns Pa (BMP3 API, compensation in whole numbers).
func b690Pressure(adc, t int64) float64 {
	square := t * t
	cube := square / 64 * t / 256
	offset := 20021*(1<<47) + -6*cube/32 + 3*square*16 + 25517*t*(1<<22)
	slope := (5941-1<<14)*(1<<46) + 1*cube/32 + 6*square*4 + (4090-1<<14)*t*(1<<21)
	linear := slope / (1 << 24) * adc
	second := adc * ((6*t + 4631*65536) * adc / 8192 / 10) / 512 * 10
	third := -11 * (adc * adc) / 65536 * adc / 128
	return float64(offset/4+linear+second+third) / (1 << 40) * 0.25
}

// b690Humidity returns 1024ths of a percent (BME280 data sheet, section 4.2.3, in 64 bits).
func b690Humidity(adc, t int64) float64 {
	v := t*5120/65536 - 76800
	wet := (adc<<14 - b690H1<<20 - 50*v + 16384) >> 15
	warm := (v*30>>10*32768>>10+2097152)*b690H5 + 8192
	h := wet * (warm >> 14)
	h -= (h >> 15) * (h >> 15) >> 7 * 75 >> 4
	return float64(min(max(h, 0), 419430400)) / 4096
}
