package simulated

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"holdfast/sensors/bus"
)

// ads1115Model is a Texas Instruments ADS1115 (data sheet SBAS444E, section 8.1: register map).
func ads1115Model() *Model {
	m := &Model{
		Name: "ads1115", Buses: []bus.Kind{bus.I2CKind}, Addresses: []uint16{0x48, 0x49, 0x4A, 0x4B},
		Faults: StuckBusy,
		New:    func(c *Chip) Registers { return &ads1115{chip: c} },
	}
	for i := range 4 {
		m.Inputs = append(m.Inputs, Input{
			Name: fmt.Sprintf("voltage%d", i), Unit: "V", Min: 0, Max: 4.095, Step: 0.0002,
			Curve: func(seed uint64, t time.Time) float64 {
				return 1 + 0.4*float64(i) + 0.25*wave(seed+uint64(i), t, 3*time.Hour)
			},
		})
	}
	return m
}

// ads1015Model is a Texas Instruments ADS1015 (data sheet SBAS473): the same with 12 bits, faster.
func ads1015Model() *Model {
	m := ads1115Model()
	m.Name = "ads1015"
	for i := range m.Inputs {
		m.Inputs[i].Max, m.Inputs[i].Step = 4.09, 0.0011
	}
	m.New = func(c *Chip) Registers { return &ads1115{chip: c, coarse: true} }
	return m
}

type ads1115 struct {
	chip       *Chip
	coarse     bool // an ADS1015
	pointer    byte
	config     uint16
	conversion int16
	ready      time.Time
	running    bool
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
			m.ready = m.chip.takes(m.period())
		}
	case len(b) != 3:
		return refused
	}
	return nil
}

// period is a conversion's time. The oscillator may be 10 % slow (section 6.5).
func (m *ads1115) period() time.Duration {
	rates := [8]time.Duration{8, 16, 32, 64, 128, 250, 475, 860}
	if m.coarse {
		rates = [8]time.Duration{128, 250, 490, 920, 1600, 2400, 3300, 3300}
	}
	return time.Second / rates[m.config>>5&7]
}

func (m *ads1115) read(b []byte) error {
	if m.running && m.chip.done(m.ready) {
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
	return nil
}

func (m *ads1115) convert() {
	var in [4]float64
	for i := range in {
		in[i] = m.chip.value(m.chip.Model.Inputs[i].Name)
	}
	pairs := [8][2]int{{0, 1}, {0, 3}, {1, 3}, {2, 3}, {0, -1}, {1, -1}, {2, -1}, {3, -1}}
	pair := pairs[m.config>>12&7]
	v := in[pair[0]]
	if pair[1] >= 0 {
		v -= in[pair[1]]
	}
	ranges := [8]float64{6.144, 4.096, 2.048, 1.024, 0.512, 0.256, 0.256, 0.256}
	raw := math.Round(v / ranges[m.config>>9&7] * (1 << 15))
	if m.coarse { // 12 bits, at the top
		raw = math.Round(raw/16) * 16
		raw = min(0x7FF0, raw)
	}
	m.conversion = int16(max(math.MinInt16, min(math.MaxInt16, raw)))
}
