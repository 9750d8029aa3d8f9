package simulated

import (
	"time"

	"holdfast/sensors/bus"
)

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
