package simulated

import (
	"math"
	"time"

	"holdfast/sensors/bus"
)

// max31865Model is a Maxim MAX31865 (data sheet 19-6478, register map) with a Pt100 and a reference of
// 430 Ω, or a Pt1000 and 4300 Ω, which is the same to it.
func max31865Model() *Model {
	return &Model{
		Name: "max31865", Buses: []bus.Kind{bus.SPIKind},
		Inputs: []Input{{Name: "temperature", Unit: "°C", Min: -200, Max: 850, Step: 0.045, Curve: swing(65, 12)}},
		Faults: StuckBusy,
		Slow:   1.056, // 62.5 to 66 ms
		New:    func(c *Chip) Registers { return &max31865{chip: c} },
	}
}

type max31865 struct {
	chip             *Chip
	regs             [8]byte
	detected         time.Time // end of a fault detection cycle
	converted        time.Time
	running, looking bool
}

func (m *max31865) reset() {
	m.regs = [8]byte{3: 0xFF, 4: 0xFF}
	m.running, m.looking = false, false
}

func (m *max31865) transfer(w, r []byte) {
	if len(w) < 2 {
		return
	}
	m.step()
	for i := range w[1:] {
		reg := int(w[0]&0x7F) + i
		if w[0]&0x80 == 0 {
			r[i+1] = m.regs[reg&7]
			continue
		}
		if reg >= 3 && reg <= 6 {
			m.regs[reg] = w[i+1]
		}
		if reg == 0 {
			m.configure(w[i+1])
		}
	}
}

func (m *max31865) configure(v byte) {
	if v&2 != 0 && v&0x2C == 0 { // fault status clear, with the bits for that
		m.regs[7] = 0
	}
	if v&0x20 != 0 && v&0x80 != 0 {
		m.running = true
		filter := 52 * time.Millisecond
		if v&1 != 0 {
			filter = 62500 * time.Microsecond
		}
		m.converted = m.chip.takes(filter)
	}
	if m.looking = v&0xC == 4; m.looking {
		m.detected = m.chip.takes(550 * time.Microsecond)
	}
	m.regs[0] = v &^ 0x22
}

// step ends what has taken its time.
func (m *max31865) step() {
	if m.looking && m.chip.done(m.detected) {
		m.looking = false
		m.regs[0] &^= 0xC
	}
	if m.running && m.chip.done(m.converted) {
		m.running = false
		// Callendar and Van Dusen, with the coefficients of IEC 60751.
		t := m.chip.value("temperature")
		ratio := 1 + 3.9083e-3*t - 5.775e-7*t*t
		if t < 0 {
			ratio -= 4.183e-12 * (t - 100) * t * t * t
		}
		rtd := uint16(math.Round(100*ratio/430*32768)) << 1
		m.regs[1], m.regs[2] = byte(rtd>>8), byte(rtd)
	}
}
