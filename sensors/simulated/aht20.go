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
