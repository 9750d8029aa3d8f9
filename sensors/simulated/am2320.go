package simulated

import (
	"math"
	"time"

	"holdfast/sensors/bus"
)

// am2320Model is an Aosong AM2320 (product manual, section 8).
func am2320Model() *Model {
	return &Model{
		Name: "am2320", Buses: []bus.Kind{bus.I2CKind}, Addresses: []uint16{0x5C},
		Inputs: []Input{
			{Name: "temperature", Unit: "°C", Min: -40, Max: 80, Step: 0.051, Curve: airTemperature},
			{Name: "humidity", Unit: "%", Min: 0, Max: 99.9, Step: 0.051, Curve: airHumidity},
		},
		Faults: BadCRC,
		Slow:   1.1, // 2 s between measurements, by the manual
		New:    func(c *Chip) Registers { return &am2320{chip: c} },
	}
}

type am2320 struct {
	chip     *Chip
	awake    time.Time // until then
	asked    bool
	ready    time.Time
	last     [4]byte // the measurement before, which is what is answered
	next     [4]byte
	measured time.Time // when next will be there
}

func (m *am2320) reset() {
	*m = am2320{chip: m.chip}
	m.last = m.measure()
	m.next = m.last
}

func (m *am2320) measure() [4]byte {
	h, t := uint16(math.Round(m.chip.value("humidity")*10)), math.Round(m.chip.value("temperature")*10)
	v := uint16(math.Abs(t))
	if t < 0 {
		v |= 0x8000 // a sign, and not two's complement
	}
	return [4]byte{byte(h >> 8), byte(h), byte(v >> 8), byte(v)}
}

func (m *am2320) write(b []byte) error {
	if now := time.Now(); now.After(m.awake) { // the call that wakes it is not answered
		m.awake = now.Add(3 * time.Second)
		return refused
	}
	if len(b) != 3 || b[0] != 3 || b[1] != 0 || b[2] != 4 {
		return refused
	}
	m.asked, m.ready = true, m.chip.takes(1500*time.Microsecond)
	return nil
}

func (m *am2320) read(b []byte) error {
	if !m.asked || !m.chip.done(m.ready) {
		return refused
	}
	m.asked, m.awake = false, time.Time{}
	if m.chip.done(m.measured) {
		m.last = m.next
	}
	all := append([]byte{3, 4}, m.last[:]...)
	crc := uint16(0xFFFF)
	for _, v := range all {
		crc ^= uint16(v)
		for range 8 {
			low := crc & 1
			if crc >>= 1; low == 1 {
				crc ^= 0xA001
			}
		}
	}
	copy(b, append(all, m.chip.sum(byte(crc)), byte(crc>>8)))
	m.next, m.measured = m.measure(), m.chip.takes(1800*time.Millisecond)
	return nil
}
