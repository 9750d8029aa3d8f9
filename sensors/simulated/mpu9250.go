package simulated

import (
	"math"
	"time"

	"holdfast/sensors/bus"
)

// mpu9250Model is an InvenSense MPU-9250 (register map RM-MPU-9250A-00).
func mpu9250Model() *Model {
	m := &Model{
		Name: "mpu9250", Buses: []bus.Kind{bus.I2CKind, bus.SPIKind}, Addresses: []uint16{0x68, 0x69},
		Faults: StuckBusy | WrongID,
		New: func(c *Chip) Registers {
			m := &mpu9250{chip: c}
			m.octets = octets{latch: m.latch, get: m.get, set: m.set}
			return m
		},
	}
	for i, axis := range []string{"x", "y", "z"} {
		m.Inputs = append(m.Inputs,
			Input{Name: "acceleration_" + axis, Unit: "m/s²", Min: -39.2, Max: 39.2, Step: 0.0007, Curve: swing(float64(i/2)*9.81, 0.3)},
			Input{Name: "rotation_" + axis, Unit: "°/s", Min: -499.9, Max: 499.9, Step: 0.0077, Curve: swing(0, 3)})
	}
	m.Inputs = append(m.Inputs, Input{Name: "temperature", Unit: "°C", Min: -40, Max: 85, Step: 0.0016, Curve: swing(30, 5)})
	return m
}

// mpu6050Model is an InvenSense MPU-6050 (register map RM-MPU-6000A-00): on I2C only, asleep after a reset, with another
// scale of the temperature, and without the second filter.
func mpu6050Model() *Model {
	m := mpu9250Model()
	m.Name, m.Buses = "mpu6050", []bus.Kind{bus.I2CKind}
	for i := range m.Inputs {
		if m.Inputs[i].Name == "temperature" {
			m.Inputs[i].Step = 0.0015
		}
	}
	m.New = func(c *Chip) Registers {
		m := &mpu9250{chip: c, old: true}
		m.octets = octets{latch: m.latch, get: m.get, set: m.set}
		return m
	}
	return m
}

type mpu9250 struct {
	octets
	chip  *Chip
	old   bool // an MPU-6050
	regs  [128]byte
	awake time.Time // end of a reset
	next  time.Time
	ready bool
}

func (m *mpu9250) reset() {
	m.regs = [128]byte{0x6B: 0x01}
	if m.old {
		m.regs[0x6B] = 0x40 // asleep
	}
	m.ready, m.pointer = false, 0
	m.next = m.chip.takes(time.Millisecond)
}

func (m *mpu9250) set(reg, v byte) {
	if reg &= 127; reg == 0x6B && v&0x80 != 0 {
		m.reset()
		m.awake = m.chip.takes(80 * time.Millisecond)
		return
	}
	if m.old && reg == 0x1D {
		return // there is none
	}
	if reg <= 0x38 || reg >= 0x61 && reg <= 0x72 {
		m.regs[reg] = v
	}
}

func (m *mpu9250) period() time.Duration {
	if m.regs[0x1A]&7 == 0 || m.regs[0x1A]&7 == 7 {
		return time.Millisecond / 8 // without the filter
	}
	return time.Duration(1+int(m.regs[0x19])) * time.Millisecond
}

func (m *mpu9250) latch() {
	m.regs[0x6B] &^= 0x80
	if time.Now().Before(m.awake) {
		m.regs[0x6B] |= 0x80
		return
	}
	if m.regs[0x6B]&0x40 != 0 || !m.chip.done(m.next) {
		return
	}
	m.next = m.chip.takes(m.period())
	m.ready = true
	put := func(at int, v float64) {
		raw := int16(math.Max(math.MinInt16, math.Min(math.MaxInt16, math.Round(v))))
		m.regs[at], m.regs[at+1] = byte(raw>>8), byte(raw)
	}
	for i, axis := range []string{"x", "y", "z"} {
		put(0x3B+2*i, m.chip.value("acceleration_"+axis)/9.80665*float64(int(16384)>>(m.regs[0x1C]>>3&3)))
		put(0x43+2*i, m.chip.value("rotation_"+axis)*32768/float64(int(250)<<(m.regs[0x1B]>>3&3)))
	}
	if t := m.chip.value("temperature"); m.old {
		put(0x41, (t-36.53)*340)
	} else {
		put(0x41, (t-21)*333.87)
	}
}

func (m *mpu9250) get(reg byte) byte {
	switch reg &= 127; reg {
	case 0x3A:
		if m.ready {
			m.ready = false
			return 0x01
		}
		return 0
	case 0x75:
		if m.old {
			return m.chip.id(0x68)
		}
		return m.chip.id(0x71)
	}
	return m.regs[reg]
}

func (m *mpu9250) transfer(w, r []byte) { m.spi(w, r, 0x7F) }
