package simulated

import (
	"sort"
	"time"

	"holdfast/sensors/bus"
)

// bme280Model is a Bosch BME280 (data sheet BST-BME280-DS002, section 5.3: memory map).
func bme280Model() *Model {
	return &Model{
		Name: "bme280", Buses: []bus.Kind{bus.I2CKind, bus.SPIKind}, Addresses: []uint16{0x76, 0x77},
		Inputs: []Input{
			{Name: "temperature", Unit: "°C", Min: -40, Max: 85, Step: 0.01, Curve: airTemperature},
			{Name: "humidity", Unit: "%", Min: 0, Max: 100, Step: 0.05, Curve: airHumidity},
			{Name: "pressure", Unit: "hPa", Min: 300, Max: 1100, Step: 0.05, Curve: airPressure},
		},
		Faults: StuckBusy | WrongID,
		Slow:   2,
		New:    func(c *Chip) Registers { return &bme280{chip: c} },
	}
}

// bmp280Model is a Bosch BMP280 (data sheet BST-BMP280-DS001): a BME280 without humidity.
func bmp280Model() *Model {
	m := bme280Model()
	m.Name = "bmp280"
	m.Inputs = []Input{m.Inputs[0], m.Inputs[2]}
	m.New = func(c *Chip) Registers { return &bme280{chip: c, dry: true} }
	return m
}

type bme280 struct {
	chip    *Chip
	dry     bool // a BMP280
	regs    [256]byte
	pointer byte
	ready   time.Time // end of the measurement that runs
	running bool
	copying time.Time // the memory's values begin to come into the registers
	copied  time.Time // and all are there
	saved   [256]byte // what is copied
}

// After a reset the chip does nothing for a moment, then copies its trimming values, one after the other, and is ready after
// at most 2 ms (sections 1.1 and 5.4.4). Before and after the copy the flag im_update is 0.
const (
	bme280Idle = 900 * time.Microsecond
	bme280Copy = 1000 * time.Microsecond
)

const (
	regCalib    = 0x88
	regID       = 0xD0
	regReset    = 0xE0
	regCalibHum = 0xE1
	regCtrlHum  = 0xF2
	regStatus   = 0xF3
	regCtrlMeas = 0xF4
	regConfig   = 0xF5
	regData     = 0xF7
)

// Trimming values: those of the worked example in the BMP280 data sheet (BST-BMP280-DS001, section
// 3.12), and for humidity ordinary ones.
var (
	trimT = [3]int32{27504, 26435, -1000}
	trimP = [9]int64{36477, -10685, 3024, 2855, 140, -7, 15500, -14600, 6000}
	trimH = [6]int32{75, 362, 0, 315, 50, 30}
)

func (m *bme280) reset() {
	m.regs = [256]byte{regID: 0x60}
	put16 := func(at int, v int64) { m.regs[at], m.regs[at+1] = byte(v), byte(v>>8) }
	for i, v := range trimT {
		put16(regCalib+2*i, int64(v))
	}
	for i, v := range trimP {
		put16(regCalib+6+2*i, v)
	}
	m.regs[0xA1] = byte(trimH[0])
	put16(regCalibHum, int64(trimH[1]))
	m.regs[0xE3] = byte(trimH[2])
	m.regs[0xE4] = byte(trimH[3] >> 4)
	m.regs[0xE5] = byte(trimH[3]&0xF | trimH[4]<<4)
	m.regs[0xE6] = byte(trimH[4] >> 4)
	m.regs[0xE7] = byte(trimH[5])
	copy(m.regs[regData:], []byte{0x80, 0, 0, 0x80, 0, 0, 0x80, 0}) // nothing measured
	m.running = false
	if m.dry {
		m.regs[regID] = 0x58
		clear(m.regs[regCalibHum : regCalibHum+7])
		clear(m.regs[regData+6:])
	}
	m.saved = m.regs
	clear(m.regs[regCalib : regCalib+26])
	clear(m.regs[regCalibHum : regCalibHum+7])
	m.copying = m.chip.takes(bme280Idle)
	m.copied = m.chip.takes(bme280Idle + bme280Copy)
}

// load copies what is due of the trimming values, and reports whether the copy runs.
func (m *bme280) load() bool {
	if m.copied.IsZero() || time.Now().Before(m.copying) {
		return false
	}
	part := min(1, float64(time.Since(m.copying))/float64(m.copied.Sub(m.copying)))
	for i := range int(part * 33) {
		at := regCalib + i
		if i >= 26 {
			at = regCalibHum + i - 26
		}
		m.regs[at] = m.saved[at]
	}
	if part == 1 {
		m.copied = time.Time{}
	}
	return part < 1
}

// write takes a register address, or pairs of a register and its value (section 6.2.1).
func (m *bme280) write(b []byte) error {
	if len(b) == 1 {
		m.pointer = b[0]
		return nil
	}
	if len(b)%2 != 0 {
		return refused
	}
	for i := 0; i < len(b); i += 2 {
		m.set(b[i], b[i+1])
	}
	return nil
}

func (m *bme280) set(reg, v byte) {
	switch reg {
	case regReset:
		if v == 0xB6 {
			m.reset()
		}
	case regCtrlHum, regConfig:
		if reg != regCtrlHum || !m.dry {
			m.regs[reg] = v
		}
	case regCtrlMeas:
		m.regs[reg] = v
		if mode := v & 3; mode == 1 || mode == 2 { // forced: one measurement, then sleep
			m.running = true
			m.ready = m.chip.takes(m.duration())
		}
	}
}

func oversampling(bits byte) int {
	if bits &= 7; bits == 0 {
		return 0
	} else {
		return 1 << (min(bits, 5) - 1)
	}
}

// duration is the typical measurement time (section 9.1).
func (m *bme280) duration() time.Duration {
	µs := 1000 + 2000*oversampling(m.regs[regCtrlMeas]>>5)
	for _, n := range []int{oversampling(m.regs[regCtrlMeas] >> 2), oversampling(m.regs[regCtrlHum])} {
		if n > 0 {
			µs += 2000*n + 500
		}
	}
	return time.Duration(µs) * time.Microsecond
}

// read returns registers from the pointer on (section 6.2.2).
func (m *bme280) read(b []byte) error {
	if m.running && m.chip.done(m.ready) {
		m.measure()
	}
	m.regs[regStatus] = 0
	if m.load() {
		m.regs[regStatus] = 1 // im_update
	}
	if m.running {
		m.regs[regStatus] = 1 << 3 // measuring
	}
	for i := range b {
		reg := byte(int(m.pointer) + i)
		if b[i] = m.regs[reg]; reg == regID {
			b[i] = m.chip.id(b[i])
		}
	}
	return nil
}

// transfer is SPI (section 6.3): the first bit of a register's address tells reading from writing, and
// stands for the one that all addresses have.
func (m *bme280) transfer(w, r []byte) {
	if w[0]&0x80 != 0 {
		m.pointer = w[0]
		m.read(r[1:])
		return
	}
	for i := 0; i+1 < len(w); i += 2 {
		m.set(w[i]|0x80, w[i+1])
	}
}

// measure fills the data registers so that the compensation gives the air's values.
func (m *bme280) measure() {
	m.running = false
	m.regs[regCtrlMeas] &^= 3
	temperature, humidity, pressure := m.chip.value("temperature"), 0.0, 100*m.chip.value("pressure")
	if !m.dry {
		humidity = m.chip.value("humidity")
	}
	// Each compensation grows, or falls, with the raw value, so that the value can be searched for.
	t := int32(sort.Search(1<<20, func(raw int) bool {
		deg, _ := compensateT(int32(raw))
		return float64(deg) >= temperature*100
	}))
	_, fine := compensateT(t)
	p := sort.Search(1<<20, func(raw int) bool { return float64(compensateP(int64(raw), fine))/256 <= pressure })
	h := sort.Search(1<<16, func(raw int) bool { return float64(compensateH(int32(raw), fine))/1024 >= humidity })
	put20 := func(at int, v int) {
		m.regs[at], m.regs[at+1], m.regs[at+2] = byte(v>>12), byte(v>>4), byte(v<<4)
	}
	if oversampling(m.regs[regCtrlMeas]>>5) == 0 {
		t = 0x80000
	}
	if oversampling(m.regs[regCtrlMeas]>>2) == 0 {
		p = 0x80000
	}
	if oversampling(m.regs[regCtrlHum]) == 0 {
		h = 0x8000
	}
	put20(regData, p)
	put20(regData+3, int(t))
	if !m.dry {
		m.regs[regData+6], m.regs[regData+7] = byte(h>>8), byte(h)
	}
}

// The compensation formulas of the data sheet, section 4.2.3.

// compensateT returns hundredths of a degree, and the fine temperature that the others need.
func compensateT(adc int32) (centi, fine int32) {
	a := ((adc>>3 - trimT[0]<<1) * trimT[1]) >> 11
	d := adc>>4 - trimT[0]
	fine = a + (((d*d)>>12)*trimT[2])>>14
	return (fine*5 + 128) >> 8, fine
}

// compensateP returns 256ths of a pascal.
func compensateP(adc int64, fine int32) int64 {
	v1 := int64(fine) - 128000
	v2 := v1*v1*trimP[5] + (v1*trimP[4])<<17 + trimP[3]<<35
	v1 = (v1*v1*trimP[2])>>8 + (v1*trimP[1])<<12
	v1 = ((1<<47 + v1) * trimP[0]) >> 33
	if v1 == 0 {
		return 0
	}
	p := (((1048576-adc)<<31 - v2) * 3125) / v1
	return (p+(trimP[8]*(p>>13)*(p>>13))>>25+(trimP[7]*p)>>19)>>8 + trimP[6]<<4
}

// compensateH returns 1024ths of a percent.
func compensateH(adc, fine int32) int32 {
	v := fine - 76800
	v = ((adc<<14 - trimH[3]<<20 - trimH[4]*v + 16384) >> 15) *
		(((((((v*trimH[5])>>10)*(((v*trimH[2])>>11)+32768))>>10)+2097152)*trimH[1] + 8192) >> 14)
	v -= ((((v >> 15) * (v >> 15)) >> 7) * trimH[0]) >> 4
	return min(max(v, 0), 419430400) >> 12
}
