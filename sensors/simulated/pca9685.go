package simulated

import (
	"time"

	"holdfast/sensors/bus"
)

// pca9685Model is an NXP PCA9685, 16 PWM outputs with 12 bits (data sheet rev. 4, table 4: registers).
func pca9685Model() *Model {
	return &Model{
		Name: "pca9685", Buses: []bus.Kind{bus.I2CKind}, Addresses: []uint16{0x40}, Output: true,
		New: func(*Chip) Registers { return &pca9685{} },
	}
}

type pca9685 struct {
	regs    [256]byte
	pointer byte
	halted  [16]bool  // by sleep, until RESTART or a write to the channel (section 7.3.1.1)
	woken   time.Time // the oscillator needs 500 µs
	history []PWM
}

// PWM is what a channel of a PCA9685 put out from some moment on.
type PWM struct {
	Channel int
	On      float64 // part of the period; 0 while the chip sleeps
}

const (
	mode1     = 0x00
	mode2     = 0x01
	led0OnL   = 0x06
	prescale  = 0xFE
	autoIncr  = 0x20
	sleepBit  = 0x10
	pcaLength = led0OnL + 4*16
)

func (m *pca9685) reset() {
	m.regs = [256]byte{mode1: 0x11, mode2: 0x04, prescale: 0x1E, 0x02: 0xE2, 0x03: 0xE4, 0x04: 0xE8, 0x05: 0xE0}
	for ch := range 16 {
		m.regs[led0OnL+4*ch+3] = 0x10 // full off
	}
	m.pointer, m.halted = 0, [16]bool{}
}

func (m *pca9685) write(b []byte) error {
	m.pointer = b[0]
	before := m.outputs()
	// Outputs change on STOP, not between the bytes (MODE2, OCH = 0).
	for _, v := range b[1:] {
		m.set(m.pointer, v)
		m.advance()
	}
	for ch, on := range m.outputs() {
		if on != before[ch] {
			m.history = append(m.history, PWM{ch, on})
		}
	}
	return nil
}

func (m *pca9685) set(reg, v byte) {
	switch {
	case reg == prescale:
		if m.regs[mode1]&sleepBit != 0 { // section 7.3.5: can only be set in sleep
			m.regs[prescale] = max(v, 3)
		}
	case reg == mode1:
		before := m.regs[mode1]
		m.regs[mode1] = v &^ 0x80
		switch sleeps := v&sleepBit != 0; {
		case sleeps && before&sleepBit == 0:
			for ch, on := range m.pulses() {
				m.halted[ch] = on > 0 && on < 1
			}
		case !sleeps && before&sleepBit != 0:
			m.woken = time.Now()
		case !sleeps && v&0x80 != 0 && time.Since(m.woken) >= 500*time.Microsecond:
			m.halted = [16]bool{}
		}
	case reg >= led0OnL && reg < pcaLength && (reg-led0OnL)%2 == 1:
		m.regs[reg] = v & 0x1F
	default:
		m.regs[reg] = v
	}
	if reg >= led0OnL && reg < pcaLength {
		m.halted[(reg-led0OnL)/4] = false
	}
}

func (m *pca9685) advance() {
	if m.regs[mode1]&autoIncr == 0 {
		return
	}
	if m.pointer++; m.pointer == pcaLength {
		m.pointer = 0
	}
}

func (m *pca9685) read(b []byte) error {
	for i := range b {
		b[i] = m.regs[m.pointer]
		m.advance()
	}
	return nil
}

// outputs is the part of a period in which each channel is on (section 7.3.3, table 7).
func (m *pca9685) outputs() (on [16]float64) {
	if m.regs[mode1]&sleepBit != 0 {
		return on
	}
	on = m.pulses()
	for ch, halted := range m.halted {
		if halted {
			on[ch] = 0
		}
	}
	return on
}

// pulses is what the channels are set to.
func (m *pca9685) pulses() (on [16]float64) {
	for ch := range on {
		r := m.regs[led0OnL+4*ch:]
		start, end := int(r[0])|int(r[1]&0xF)<<8, int(r[2])|int(r[3]&0xF)<<8
		switch {
		case r[3]&0x10 != 0: // full off has precedence
		case r[1]&0x10 != 0:
			on[ch] = 1
		default:
			on[ch] = float64((end-start+4096)%4096) / 4096
		}
	}
	return on
}

// PWM returns what the channels of a PCA9685 put out now, and every change since power came.
func (c *Chip) PWM() (now [16]float64, history []PWM) {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := c.regs.(*pca9685)
	return m.outputs(), append([]PWM(nil), m.history...)
}
