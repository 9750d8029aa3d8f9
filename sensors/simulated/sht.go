package simulated

import (
	"time"

	"holdfast/sensors/bus"
)

// shtInputs are what both kinds of SHT measure; one count of 16 bits is 0.003 °C or 0.002 %.
func shtInputs() []Input {
	return []Input{
		{Name: "temperature", Unit: "°C", Min: -40, Max: 125, Step: 0.002, Curve: airTemperature},
		{Name: "humidity", Unit: "%", Min: 0, Max: 100, Step: 0.002, Curve: airHumidity},
	}
}

// sht3xModel is a Sensirion SHT3x-DIS (data sheet version 7, section on operation and communication).
func sht3xModel() *Model {
	return &Model{
		Name: "sht3x", Buses: []bus.Kind{bus.I2CKind}, Addresses: []uint16{0x44, 0x45},
		Inputs: shtInputs(), Faults: BadCRC | StuckBusy, Slow: 2,
		New: func(c *Chip) Registers {
			m := &sht3x{}
			m.sensirion = sensirion{chip: c, command: m.command}
			return m
		},
	}
}

type sht3x struct {
	sensirion
	periodic bool
}

func (m *sht3x) reset() {
	m.sensirion.reset()
	m.periodic = false
}

func (m *sht3x) command(code uint16, _ []uint16) ([]uint16, time.Duration, bool) {
	air := func() []uint16 {
		return []uint16{word16((m.chip.value("temperature") + 45) / 175), word16(m.chip.value("humidity") / 100)}
	}
	switch {
	case code == 0x3093: // break
		m.periodic = false
		return nil, time.Millisecond, true
	case m.periodic: // only what it measures can be fetched
		return air(), 0, code == 0xE000
	case code == 0x2130 || code == 0x2737: // one or ten measurements a second
		m.periodic = true
		return nil, 0, true
	case code == 0x2400: // single shot, high repeatability
		return air(), 12500 * time.Microsecond, true
	case code == 0xF32D: // status: a reset was detected
		return []uint16{0x0010}, 0, true
	}
	return nil, 0, false
}

// sht4xModel is a Sensirion SHT4x (data sheet version 4, section on operation and communication).
func sht4xModel() *Model {
	return &Model{
		Name: "sht4x", Buses: []bus.Kind{bus.I2CKind}, Addresses: []uint16{0x44, 0x45, 0x46},
		Inputs: shtInputs(), Faults: BadCRC | StuckBusy,
		New: func(c *Chip) Registers {
			return &sensirion{chip: c, short: true, command: func(code uint16, words []uint16) ([]uint16, time.Duration, bool) {
				switch code {
				case 0xFD: // high precision
					return []uint16{word16((c.value("temperature") + 45) / 175), word16((c.value("humidity") + 6) / 125)}, 6900 * time.Microsecond, true
				case 0x89: // serial number
					return []uint16{0x0F12, uint16(c.seed)}, 0, true
				}
				return nil, 0, false
			}}
		},
	}
}

// sgp40Model is a Sensirion SGP40 (data sheet version 1.2, section on operation and communication). Its
// signal is what it is after compensation.
func sgp40Model() *Model {
	return &Model{
		Name: "sgp40", Buses: []bus.Kind{bus.I2CKind}, Addresses: []uint16{0x59},
		Inputs: []Input{{Name: "voc_raw", Unit: "ticks", Min: 1, Max: 65534, Step: 0.51, Curve: swing(30000, 800)}},
		Faults: BadCRC | StuckBusy,
		New: func(c *Chip) Registers {
			return &sensirion{chip: c, command: func(code uint16, words []uint16) ([]uint16, time.Duration, bool) {
				switch {
				case code == 0x260F && len(words) == 2: // humidity and temperature
					return []uint16{uint16(c.value("voc_raw") + 0.5)}, 25 * time.Millisecond, true
				case code == 0x280E: // self test
					return []uint16{0xD400}, 250 * time.Millisecond, true
				case code == 0x3682: // serial number
					return []uint16{0, 0x0123, uint16(c.seed)}, 0, true
				}
				return nil, 0, false
			}}
		},
	}
}

// hdc302xModel is a Texas Instruments HDC3020 (data sheet SNAS778, section "Command table").
func hdc302xModel() *Model {
	return &Model{
		Name: "hdc302x", Buses: []bus.Kind{bus.I2CKind}, Addresses: []uint16{0x44, 0x45, 0x46, 0x47},
		Inputs: []Input{
			{Name: "temperature", Unit: "°C", Min: -40, Max: 125, Step: 0.002, Curve: airTemperature},
			{Name: "humidity", Unit: "%", Min: 0, Max: 100, Step: 0.002, Curve: airHumidity},
		},
		Faults: BadCRC | StuckBusy | WrongID,
		New: func(c *Chip) Registers {
			return &sensirion{chip: c, command: func(code uint16, words []uint16) ([]uint16, time.Duration, bool) {
				switch code {
				case 0x3093: // exit automatic measurement
					return nil, 0, true
				case 0x3781: // manufacturer
					return []uint16{uint16(c.id(0x30)) << 8}, 0, true
				case 0x2400: // measure once, lowest noise
					return []uint16{word16((c.value("temperature") + 45) / 175), word16(c.value("humidity") / 100)}, 12500 * time.Microsecond, true
				}
				return nil, 0, false
			}}
		},
	}
}
