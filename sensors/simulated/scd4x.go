package simulated

import (
	"math"
	"time"

	"holdfast/sensors/bus"
)

// scd4xModel is a Sensirion SCD40 (data sheet SCD4x, section 3).
func scd4xModel() *Model {
	return &Model{
		Name: "scd4x", Buses: []bus.Kind{bus.I2CKind}, Addresses: []uint16{0x62},
		Inputs: []Input{
			{Name: "co2", Unit: "ppm", Min: 400, Max: 40000, Step: 0.51, Curve: swing(700, 200)},
			{Name: "temperature", Unit: "°C", Min: -10, Max: 60, Step: 0.002, Curve: airTemperature},
			{Name: "humidity", Unit: "%", Min: 0, Max: 100, Step: 0.002, Curve: airHumidity},
		},
		Faults: BadCRC | StuckBusy,
		New: func(c *Chip) Registers {
			m := &scd4x{}
			m.sensirion = sensirion{chip: c, command: m.command}
			return m
		},
	}
}

type scd4x struct {
	sensirion
	measures bool
	stopping bool
	asleep   bool
	waking   time.Time // takes no command until then
	busy     time.Time // takes no command until then
	next     time.Time // end of the measurement that runs
	data     []uint16  // not read yet
	sending  []uint16
}

func (m *scd4x) reset() {
	m.sensirion.reset()
	m.measures, m.stopping, m.asleep, m.data, m.sending = false, false, false, nil, nil
}

func (m *scd4x) command(code uint16, words []uint16) ([]uint16, time.Duration, bool) {
	const brief = time.Millisecond
	if code == 0x36F6 && m.asleep { // wakes it, and is not acknowledged
		m.asleep, m.waking = false, m.chip.takes(20*time.Millisecond)
		return nil, 0, false
	}
	if m.asleep || time.Now().Before(m.waking) {
		return nil, 0, false
	}
	if m.stopping = m.stopping && time.Now().Before(m.busy); m.stopping {
		return nil, 0, false
	}
	if m.measures && m.chip.done(m.next) {
		m.data = []uint16{uint16(math.Round(m.chip.value("co2"))), word16((m.chip.value("temperature") + 45) / 175), word16(m.chip.value("humidity") / 100)}
		m.next = m.chip.takes(5 * time.Second)
	}
	switch code {
	case 0xE4B8: // is there a measurement
		if m.data != nil {
			return []uint16{0x8006}, brief, true
		}
		return []uint16{0x8000}, brief, true
	case 0xEC05: // what is sent is not kept
		if m.data != nil {
			m.sending, m.data = m.data, nil
		}
		return m.sending, brief, m.measures
	case 0x3F86:
		m.measures, m.data, m.stopping = false, nil, true
		m.busy = m.chip.takes(500 * time.Millisecond)
		return nil, 0, true
	}
	if code == 0xE000 { // ambient pressure, also while it measures
		return nil, brief, len(words) == 1 && words[0] >= 700 && words[0] <= 1200
	}
	if m.measures { // section 3.5: no other command
		return nil, 0, false
	}
	switch code {
	case 0x3682: // serial number
		return []uint16{0xF896, 0x9F07, uint16(m.chip.seed)}, brief, true
	case 0x36E0: // power down
		m.asleep = true
		return nil, brief, true
	case 0x36F6: // it is awake
		return nil, 0, false
	case 0x2427, 0x2416, 0x241D: // altitude, self-calibration, temperature offset
		return nil, brief, len(words) == 1
	case 0x21B1:
		m.measures, m.sending = true, nil
		m.next = m.chip.takes(5 * time.Second)
		return nil, 0, true
	}
	return nil, 0, false
}
