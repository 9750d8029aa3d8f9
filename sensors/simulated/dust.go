package simulated

import (
	"encoding/binary"
	"math"
	"time"

	"holdfast/sensors/bus"
)

// fan is what both particle sensors have: after they were woken the air takes half a minute to be drawn
// in, and until then they see too few particles.
type fan struct {
	chip   *Chip
	asleep bool
	woken  time.Time
}

func (f *fan) reset() { f.asleep, f.woken = false, time.Time{} }

func (f *fan) command(work bool) {
	if work && f.asleep {
		f.woken = time.Now()
	}
	f.asleep = !work
}

// dust is an input in µg/m³.
func (f *fan) dust(input string) float64 {
	v := f.chip.value(input)
	if time.Since(f.woken) < 29*time.Second {
		v /= 2
	}
	return v
}

func dustInput(name string, most, step, usual float64) Input {
	return Input{Name: name, Unit: "µg/m³", Min: 0, Max: most, Step: step, Curve: swing(usual, usual/2)}
}

// pms5003Model is a Plantower PMS5003 (data manual 2.3, appendices I and II).
func pms5003Model() *Model {
	return &Model{
		Name: "pms5003", Buses: []bus.Kind{bus.UARTKind},
		Inputs: []Input{dustInput("pm1", 500, 0.51, 6), dustInput("pm2_5", 500, 0.51, 9), dustInput("pm10", 1000, 0.51, 14)},
		Faults: BadCRC,
		New:    func(c *Chip) Registers { return &pms5003{fan: fan{chip: c}} },
	}
}

type pms5003 struct {
	fan
	passive bool // measurements only when asked for
}

func (m *pms5003) reset() {
	m.fan.reset()
	m.passive = false
}

// frame is sent every 0.8 s, which is the slowest of the fast mode.
func (m *pms5003) frame() ([]byte, time.Duration) {
	if m.asleep || m.passive {
		return nil, 0
	}
	b := []byte{0x42, 0x4D, 0, 28}
	words := make([]uint16, 13)
	for i, input := range []string{"pm1", "pm2_5", "pm10"} {
		v := uint16(math.Round(m.dust(input)))
		words[i], words[3+i] = v+v/2, v // factory, atmosphere
	}
	for i, perDeciliter := range []uint16{1200, 350, 60, 8, 2, 1} {
		words[6+i] = perDeciliter
	}
	words[12] = 0x9700 // version
	for _, w := range words {
		b = binary.BigEndian.AppendUint16(b, w)
	}
	return m.signed(b), 800 * time.Millisecond
}

func (m *pms5003) signed(b []byte) []byte {
	sum := pms5003Sum(b)
	return append(b, byte(sum>>8), m.chip.sum(byte(sum)))
}

func pms5003Sum(b []byte) (sum int) {
	for _, v := range b {
		sum += int(v)
	}
	return sum
}

func (m *pms5003) receive(b []byte) []byte {
	if len(b) != 7 || b[0] != 0x42 || b[1] != 0x4D || pms5003Sum(b[:5]) != int(binary.BigEndian.Uint16(b[5:])) {
		return nil
	}
	switch b[2] {
	case 0xE1:
		m.passive = b[4] == 0
	case 0xE4:
		m.command(b[4] == 1)
	}
	return m.signed([]byte{0x42, 0x4D, 0, 4, b[2], b[4]})
}

// sds011Model is a Nova SDS011 (control protocol 1.3).
func sds011Model() *Model {
	return &Model{
		Name: "sds011", Buses: []bus.Kind{bus.UARTKind},
		Inputs: []Input{dustInput("pm2_5", 999.9, 0.051, 9), dustInput("pm10", 999.9, 0.051, 14)},
		Faults: BadCRC,
		New:    func(c *Chip) Registers { return &sds011{fan: fan{chip: c}} },
	}
}

// sds011 keeps its mode and its period without power (control protocol, "effective after power off").
type sds011 struct {
	fan
	query  bool
	period byte // minutes; 0 works continuously
}

const sds011ID1, sds011ID2 = 0xA1, 0x60

// frame is sent every second.
func (m *sds011) frame() ([]byte, time.Duration) {
	if m.asleep || m.query || m.period != 0 {
		return nil, 0
	}
	fine, coarse := uint16(math.Round(10*m.dust("pm2_5"))), uint16(math.Round(10*m.dust("pm10")))
	return m.signed(0xC0, byte(fine), byte(fine>>8), byte(coarse), byte(coarse>>8)), time.Second
}

func (m *sds011) signed(kind byte, data ...byte) []byte {
	b := append([]byte{0xAA, kind}, data...)
	b = append(b, sds011ID1, sds011ID2)
	sum := byte(0)
	for _, v := range b[2:] {
		sum += v
	}
	return append(b, m.chip.sum(sum), 0xAB)
}

func (m *sds011) receive(b []byte) []byte {
	if len(b) != 19 || b[0] != 0xAA || b[1] != 0xB4 || b[18] != 0xAB {
		return nil
	}
	sum := byte(0)
	for _, v := range b[2:17] {
		sum += v
	}
	if sum != b[17] || b[15] != 0xFF && b[15] != sds011ID1 {
		return nil
	}
	if set := b[3] == 1; set {
		switch b[2] {
		case 2: // reporting mode
			m.query = b[4] == 1
		case 6: // sleep and work
			m.command(b[4] == 1)
		case 8: // working period
			m.period = b[4]
		}
	}
	return m.signed(0xC5, b[2], b[3], b[4], 0)
}
