package simulated

import (
	"encoding/binary"
	"math"
	"time"
)

// ads1115 is a Texas Instruments ADS1115 (data sheet SBAS444E, section 8.1: register map).
type ads1115 struct {
	inputs     func() [4]float64 // V
	pointer    byte
	config     uint16
	conversion int16
	ready      time.Time
	running    bool
}

func newADS1115(inputs func() [4]float64) *ads1115 {
	m := &ads1115{inputs: inputs}
	m.reset()
	return m
}

// reset brings the power-up state: 128 samples/s, ±2.048 V, AIN0 against AIN1, powered down.
func (m *ads1115) reset() {
	m.config, m.conversion, m.running, m.pointer = 0x0583, 0, false, 0
}

func (m *ads1115) write(b []byte) error {
	m.pointer = b[0] & 3
	switch {
	case len(b) == 1:
	case len(b) == 3 && m.pointer == 1:
		v := binary.BigEndian.Uint16(b[1:])
		m.config = v &^ 0x8000
		if v&0x8000 != 0 { // OS: start a single conversion
			m.running = true
			m.ready = time.Now().Add(m.period())
		}
	case len(b) != 3:
		return errRefused
	}
	return nil
}

// period is a conversion's time with an oscillator 10 % slow, which the data sheet allows (section 6.5).
func (m *ads1115) period() time.Duration {
	rates := [8]time.Duration{8, 16, 32, 64, 128, 250, 475, 860}
	return time.Second / rates[m.config>>5&7] * 11 / 10
}

func (m *ads1115) read(b []byte) {
	if m.running && !time.Now().Before(m.ready) {
		m.running = false
		m.convert()
	}
	var v uint16
	switch m.pointer {
	case 0:
		v = uint16(m.conversion)
	case 1:
		v = m.config
		if !m.running {
			v |= 0x8000 // OS: not converting
		}
	}
	full := binary.BigEndian.AppendUint16(nil, v)
	copy(b, full)
}

func (m *ads1115) convert() {
	in := m.inputs()
	pairs := [8][2]int{{0, 1}, {0, 3}, {1, 3}, {2, 3}, {0, -1}, {1, -1}, {2, -1}, {3, -1}}
	pair := pairs[m.config>>12&7]
	v := in[pair[0]]
	if pair[1] >= 0 {
		v -= in[pair[1]]
	}
	ranges := [8]float64{6.144, 4.096, 2.048, 1.024, 0.512, 0.256, 0.256, 0.256}
	raw := math.Round(v / ranges[m.config>>9&7] * (1 << 15))
	m.conversion = int16(max(math.MinInt16, min(math.MaxInt16, raw)))
}
