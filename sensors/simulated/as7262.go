package simulated

import (
	"encoding/binary"
	"math"
	"time"

	"holdfast/sensors/bus"
)

// as7262Model is an ams AS7262 (data sheet, section on virtual registers).
func as7262Model() *Model {
	m := &Model{
		Name: "as7262", Buses: []bus.Kind{bus.I2CKind}, Addresses: []uint16{0x49},
		Inputs: []Input{{Name: "temperature", Unit: "°C", Min: -40, Max: 85, Step: 0.51, Curve: swing(27, 4)}},
		Faults: StuckBusy | WrongID,
		New:    func(c *Chip) Registers { return &as7262{chip: c} },
	}
	for i, colour := range as7262Colours {
		m.Inputs = append(m.Inputs, Input{Name: colour, Unit: "µW/cm²", Min: 0, Max: 5000, Step: 0.001, Curve: swing(200+20*float64(i), 150)})
	}
	return m
}

var as7262Colours = []string{"violet", "blue", "green", "yellow", "orange", "red"}

type as7262 struct {
	chip    *Chip
	pointer byte
	regs    [64]byte
	target  int       // virtual register that the next byte is for, or -1
	taken   time.Time // when the last byte that was written is taken
	answer  int       // byte to be read, or -1
	ready   time.Time // end of the measurement that runs
	running bool
}

func (m *as7262) reset() {
	*m = as7262{chip: m.chip, target: -1, answer: -1}
	m.regs[0], m.regs[1], m.regs[4], m.regs[5] = 0x40, 0x3E, 0x02<<2, 0xFF
}

const as7262Step = 2800 * time.Microsecond

func (m *as7262) write(b []byte) error {
	m.pointer = b[0]
	if len(b) == 1 {
		return nil
	}
	if len(b) != 2 || b[0] != 1 {
		return refused
	}
	if time.Now().Before(m.taken) {
		return nil // the chip is not ready for it: it is lost
	}
	m.taken = m.chip.takes(400 * time.Microsecond)
	switch {
	case m.target >= 0:
		m.set(m.target, b[1])
		m.target = -1
	case b[1]&0x80 != 0:
		m.target = int(b[1] & 0x3F)
	default:
		m.answer = int(m.get(b[1] & 0x3F))
	}
	return nil
}

func (m *as7262) set(reg int, v byte) {
	m.regs[reg] = v
	if reg == 4 {
		if v&0x80 != 0 {
			m.reset()
			return
		}
		if m.running = v&0x0C == 0x0C; m.running { // one shot, of both banks
			m.ready = m.chip.takes(2 * time.Duration(m.regs[5]) * as7262Step)
		}
	}
}

func (m *as7262) get(reg byte) byte {
	if m.running && m.chip.done(m.ready) {
		m.running = false
		m.regs[4] |= 0x02
		m.regs[6] = byte(int8(math.Round(m.chip.value("temperature"))))
		for i, colour := range as7262Colours {
			binary.BigEndian.PutUint32(m.regs[0x14+4*i:], math.Float32bits(float32(m.chip.value(colour))))
		}
	}
	switch {
	case reg == 1:
		return m.chip.id(m.regs[1])
	case reg >= 8 && reg <= 0x2B:
		m.regs[4] &^= 0x02
	}
	return m.regs[reg]
}

func (m *as7262) read(b []byte) error {
	busy := time.Now().Before(m.taken)
	switch m.pointer {
	case 0:
		b[0] = 0
		if busy {
			b[0] |= 0x02
		}
		if m.answer >= 0 && !busy {
			b[0] |= 0x01
		}
	case 2:
		if b[0] = 0xFF; m.answer >= 0 && !busy {
			b[0] = byte(m.answer)
			m.answer = -1
		}
	default:
		return refused
	}
	return nil
}
