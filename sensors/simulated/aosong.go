package simulated

import (
	"math"
	"time"

	"holdfast/sensors/bus"
)

// aht20Model is an Aosong AHT20 (product manual, section 5).
func aht20Model() *Model {
	return &Model{
		Name: "aht20", Buses: []bus.Kind{bus.I2CKind}, Addresses: []uint16{0x38},
		Inputs: []Input{
			{Name: "temperature", Unit: "°C", Min: -40, Max: 85, Step: 0.001, Curve: airTemperature},
			{Name: "humidity", Unit: "%", Min: 0, Max: 99.99, Step: 0.001, Curve: airHumidity},
		},
		Faults: StuckBusy | BadCRC,
		New:    func(c *Chip) Registers { return &aht20{chip: c} },
	}
}

type aht20 struct {
	chip       *Chip
	calibrated bool
	running    bool
	ready      time.Time
	data       [5]byte // 20 bits each of humidity and temperature
}

func (m *aht20) reset() { *m = aht20{chip: m.chip} }

func (m *aht20) write(b []byte) error {
	switch {
	case len(b) == 1 && b[0] == 0x71: // status
	case len(b) == 3 && b[0] == 0xBE && b[1] == 0x08: // initialise
		m.calibrated = true
	case len(b) == 3 && b[0] == 0xAC && b[1] == 0x33: // measure
		m.running, m.ready = true, m.chip.takes(75*time.Millisecond)
	default:
		return refused
	}
	return nil
}

func (m *aht20) read(b []byte) error {
	if m.running && m.chip.done(m.ready) {
		m.running = false
		h := uint32(math.Round(m.chip.value("humidity") / 100 * (1 << 20)))
		t := uint32(math.Round((m.chip.value("temperature") + 50) / 200 * (1 << 20)))
		m.data = [5]byte{byte(h >> 12), byte(h >> 4), byte(h<<4) | byte(t>>16), byte(t >> 8), byte(t)}
	}
	status := byte(0x10)
	if m.calibrated {
		status |= 0x08
	}
	if m.running {
		status |= 0x80
	}
	all := append([]byte{status}, m.data[:]...)
	sum := m.chip.sum(sumCRC8(all))
	if m.running {
		sum = 0 // what is sent meanwhile is no whole answer
	}
	copy(b, append(all, sum))
	return nil
}

// sumCRC8 is a CRC of 8 bits, bit by bit: polynomial x^8 + x^5 + x^4 + 1, from 0xFF (product manual,
// section 5.4.4).
func sumCRC8(b []byte) byte {
	crc := 0xFF
	for _, v := range b {
		for bit := 7; bit >= 0; bit-- {
			out := crc>>7&1 != int(v)>>bit&1
			if crc = crc << 1 & 0xFF; out {
				crc ^= 0x31
			}
		}
	}
	return byte(crc)
}

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
