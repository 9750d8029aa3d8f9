package simulated

import (
	"math"
	"time"

	"holdfast/sensors/bus"
)

// hx711Model is an Avia HX711 at 10 samples a second (data sheet HX711).
func hx711Model() *Model {
	return &Model{
		Name: "hx711", Buses: []bus.Kind{bus.GPIOKind}, Lines: []string{"clock", "data"},
		Inputs: []Input{{Name: "bridge", Unit: "mV/V", Min: -3.9, Max: 3.9, Step: 0.000003, Curve: swing(0.8, 0.3)}},
		New:    func(c *Chip) Registers { return &hx711{chip: c} },
	}
}

type hx711 struct {
	chip   *Chip
	data   *Line
	pulses int
	ready  bool
	raw    uint32
	gain   float64
	next   float64 // of the conversion after the one that is read
	risen  time.Time
	timer  *time.Timer // end of the conversion that runs

	conversion int // number of it
}

func (m *hx711) attach(lines map[string]*Line) {
	m.data = lines["data"]
	lines["clock"].onChange(func(high bool) {
		m.chip.mu.Lock()
		defer m.chip.mu.Unlock()
		m.chip.faults, _ = m.chip.now()
		m.clock(high)
	})
	m.reset()
}

func (m *hx711) reset() {
	m.pulses, m.ready, m.gain, m.next = 0, false, 128, 128
	if m.data != nil {
		m.data.Set(true)
		m.convert(400 * time.Millisecond)
	}
}

// convert begins a conversion.
func (m *hx711) convert(d time.Duration) {
	if m.timer != nil {
		m.timer.Stop()
	}
	m.conversion++
	this := m.conversion
	m.timer = time.AfterFunc(time.Until(m.chip.takes(d)), func() {
		m.chip.mu.Lock()
		defer m.chip.mu.Unlock()
		switch m.chip.faults, _ = m.chip.now(); {
		case this != m.conversion:
		case m.pulses > 0 && m.pulses < 25 && time.Since(m.risen) < time.Millisecond: // it is being read
			m.convert(time.Millisecond)
		default:
			m.converted()
		}
	})
}

func (m *hx711) converted() {
	m.pulses, m.gain = 0, m.next
	if m.ready = m.chip.faults&(NACK|Unplugged|Hang) == 0; m.ready {
		v := math.Round(m.chip.value("bridge") / 500 * m.gain * (1 << 23))
		m.raw = uint32(int32(math.Max(-1<<23, math.Min(1<<23-1, v)))) & 0xFFFFFF
	}
	m.data.Set(!m.ready)
	m.convert(100 * time.Millisecond)
}

func (m *hx711) clock(high bool) {
	now := time.Now()
	if !high {
		if now.Sub(m.risen) > 60*time.Microsecond { // power down, and up again
			m.reset()
		}
		return
	}
	m.risen = now
	if !m.ready {
		return
	}
	if m.chip.faults&(NACK|Unplugged|Hang) != 0 {
		m.data.Set(true)
		return
	}
	switch m.pulses++; {
	case m.pulses <= 24:
		m.data.Set(m.raw>>(24-m.pulses)&1 != 0)
		return
	case m.pulses == 25:
		m.next = 128
	case m.pulses == 26:
		m.next = 32
	case m.pulses == 27:
		m.next = 64
	}
	m.data.Set(true)
	if m.next != m.gain {
		m.convert(400 * time.Millisecond)
	} else {
		m.convert(100 * time.Millisecond)
	}
}
