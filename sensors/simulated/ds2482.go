package simulated

import (
	"math"
	"time"

	"holdfast/sensors/bus"
)

// ds2482Model is a Maxim DS2482-100 with a DS18B20 on its line (data sheets DS2482-100 and DS18B20).
func ds2482Model() *Model {
	return &Model{
		Name: "ds2482", Buses: []bus.Kind{bus.I2CKind}, Addresses: []uint16{0x18, 0x19, 0x1A, 0x1B},
		Inputs: []Input{{Name: "temperature", Unit: "°C", Min: -55, Max: 125, Step: 0.032, Curve: swing(17, 5)}},
		Faults: StuckBusy | WrongID | BadCRC,
		Slow:   1.1, // a DS18B20 needs 750 ms at most
		New: func(c *Chip) Registers {
			return &ds2482{chip: c, slaves: []*ds18b20{{chip: c, rom: romOf(0x28, 0x0316A2795BFF+c.seed)}}}
		},
	}
}

// ds2482PairModel is one with two DS18B20, one of them without a supply, and a DS2413 between them.
func ds2482PairModel() *Model {
	m := ds2482Model()
	m.Name = "ds2482-pair"
	m.New = func(c *Chip) Registers {
		return &ds2482{chip: c, slaves: []*ds18b20{
			{chip: c, rom: romOf(0x28, 0x0000000000AA)}, {chip: c, rom: romOf(0x3A, 0x0000000000AA)},
			{chip: c, rom: romOf(0x28, 0x0316A2795BFF), parasite: true, warmer: 10},
		}}
	}
	return m
}

// ds2482 is the bridge.
type ds2482 struct {
	chip     *Chip
	slaves   []*ds18b20
	pointer  byte // 0xF0 status, 0xE1 data, 0xC3 configuration
	config   byte
	data     byte
	status   byte // but for 1WB
	running  bool // 1WB
	busy     time.Time
	powers   bool // the strong pull-up is on
	wasReset bool
}

func (m *ds2482) reset() {
	m.pointer, m.config, m.data, m.status, m.running, m.powers, m.wasReset = 0xF0, 0, 0, 0, false, false, true
	for _, s := range m.slaves {
		s.powerOn()
	}
}

func (m *ds2482) write(b []byte) error {
	if b[0] != 0xF0 && b[0] != 0xE1 && !m.idle() {
		return refused
	}
	m.pointer = 0xF0
	switch {
	case b[0] == 0xF0 && len(b) == 1: // device reset
		m.config, m.wasReset, m.powers, m.running = 0, true, false, false
	case b[0] == 0xE1 && len(b) == 2:
		m.pointer = b[1]
	case b[0] == 0xD2 && len(b) == 2:
		if b[1]>>4 != ^b[1]&0xF {
			return refused
		}
		m.config, m.wasReset, m.pointer = b[1]&0xF, false, 0xC3
	case b[0] == 0xB4 && len(b) == 1: // 1-Wire reset
		m.runs(1100 * time.Microsecond)
		m.status = 0
		for _, s := range m.slaves {
			m.status |= 0x02
			s.next(slaveCommand)
		}
	case b[0] == 0xA5 && len(b) == 2:
		m.runs(560 * time.Microsecond)
		for i := range 8 {
			m.bit(b[1]>>i&1 != 0)
		}
		m.powers = m.config&4 != 0
		m.config &^= 4
	case b[0] == 0x96 && len(b) == 1:
		m.runs(560 * time.Microsecond)
		m.data = 0
		for i := range 8 {
			if m.bit(true) {
				m.data |= 1 << i
			}
		}
	case b[0] == 0x78 && len(b) == 2: // triplet
		m.runs(200 * time.Microsecond)
		zero, one := !m.bit(true), !m.bit(true) // chips with a zero pull the first down, chips with a one the second
		way := b[1]&0x80 != 0
		if zero != one {
			way = one
		}
		m.status &= 0x0F
		if !zero {
			m.status |= 0x20
		}
		if !one {
			m.status |= 0x40
		}
		if zero || one {
			m.bit(way)
		} else {
			way = true
		}
		if way {
			m.status |= 0x80
		}
	default:
		return refused
	}
	return nil
}

// runs makes the line busy for a while. A command on it ends the strong pull-up.
func (m *ds2482) runs(d time.Duration) {
	m.running, m.busy, m.powers = true, m.chip.takes(d), false
	for _, s := range m.slaves {
		s.disturbed()
	}
}

func (m *ds2482) idle() bool {
	m.running = m.running && !m.chip.done(m.busy)
	return !m.running
}

// bit is a time slot: the level is low if a chip, or the bridge, pulls it down.
func (m *ds2482) bit(high bool) bool {
	level := high
	for _, s := range m.slaves {
		if !s.slot(high) {
			level = false
		}
	}
	return level
}

func (m *ds2482) read(b []byte) error {
	switch m.pointer {
	case 0xE1:
		b[0] = m.data
	case 0xC3:
		b[0] = m.config
	default:
		b[0] = m.status | 0x08
		if m.wasReset {
			b[0] = m.chip.id(0x18)
		}
		if !m.idle() {
			b[0] |= 0x01
		}
	}
	for _, s := range m.slaves {
		s.powered(m.powers)
	}
	return nil
}

// States of a chip on the line.
const (
	slaveIdle = iota
	slaveCommand
	slaveMatch
	slaveSearch
	slaveFunction
	slaveWrite
	slaveRead
	slaveSupply
)

// ds18b20 is a chip on the line, bit by bit.
type ds18b20 struct {
	chip     *Chip
	rom      [8]byte
	parasite bool
	warmer   float64 // than the input, °C

	state   int
	bits    int // of the state
	in      byte
	pad     [8]byte
	ready   time.Time
	running bool
}

func romOf(family byte, serial uint64) [8]byte {
	rom := [8]byte{family}
	for i := range 6 {
		rom[1+i] = byte(serial >> (8 * i))
	}
	rom[7] = sumMaxim(rom[:7])
	return rom
}

// powerOn loads 85 °C, and the limits and the resolution from the EEPROM.
func (s *ds18b20) powerOn() {
	s.state, s.running = slaveIdle, false
	s.pad = [8]byte{0x50, 0x05, 0x4B, 0x46, 0x7F, 0xFF, 0x0C, 0x10}
}

// disturbed is for one that converts on the line's supply: it loses it.
func (s *ds18b20) disturbed() {
	s.convert()
	if s.running && s.parasite {
		s.powerOn()
	}
}

// powered is for the first moment after the command to convert.
func (s *ds18b20) powered(strong bool) {
	if s.running && s.parasite && !strong {
		s.powerOn()
	}
}

func (s *ds18b20) convert() {
	if s.running && s.chip.done(s.ready) {
		s.running = false
		v := uint16(int16(math.Round((s.chip.value("temperature") + s.warmer) * 16)))
		s.pad[0], s.pad[1] = byte(v), byte(v>>8)
	}
}

// slot is one time slot: what the chip makes of the line while the bridge has it high or low.
func (s *ds18b20) slot(high bool) bool {
	drives := true
	switch s.state {
	case slaveIdle:
		return true
	case slaveSearch: // its bit, the complement, and then the way that is taken
		bit := s.rom[s.bits/3/8]>>(s.bits/3%8)&1 != 0
		switch s.bits % 3 {
		case 0:
			drives = bit
		case 1:
			drives = !bit
		case 2:
			if high != bit {
				s.state = slaveIdle
			}
		}
		if s.bits++; s.bits == 3*64 && s.state == slaveSearch {
			s.next(slaveFunction)
		}
		return drives
	case slaveMatch:
		if high != (s.rom[s.bits/8]>>(s.bits%8)&1 != 0) {
			s.state = slaveIdle
			return true
		}
		if s.bits++; s.bits == 64 {
			s.next(slaveFunction)
		}
		return true
	case slaveRead:
		all := append(s.pad[:8:8], s.chip.sum(sumMaxim(s.pad[:8])))
		drives = s.bits >= 72 || all[s.bits/8]>>(s.bits%8)&1 != 0
		s.bits++
		return drives
	case slaveSupply:
		return !s.parasite
	}
	s.in >>= 1
	if high {
		s.in |= 0x80
	}
	if s.bits++; s.bits%8 == 0 {
		s.take(s.in)
	}
	return true
}

func (s *ds18b20) next(state int) { s.state, s.bits = state, 0 }

// take is for whole bytes.
func (s *ds18b20) take(b byte) {
	switch s.state {
	case slaveCommand:
		s.next(map[byte]int{0x55: slaveMatch, 0xF0: slaveSearch, 0xCC: slaveFunction}[b])
	case slaveFunction:
		switch s.convert(); {
		case s.rom[0] != 0x28:
			s.next(slaveIdle)
		case b == 0x44:
			s.running, s.ready = true, s.chip.takes(680*time.Millisecond)
			s.next(slaveIdle)
		default:
			s.next(map[byte]int{0x4E: slaveWrite, 0xBE: slaveRead, 0xB4: slaveSupply}[b])
		}
	case slaveWrite:
		s.pad[1+s.bits/8] = b // TH, TL, configuration
		if s.bits == 24 {
			s.next(slaveIdle)
		}
	}
}

// sumMaxim is the CRC of 1-Wire, bit by bit (data sheet DS18B20, section "CRC generation").
func sumMaxim(b []byte) byte {
	crc := 0
	for _, v := range b {
		for bit := range 8 {
			out := crc&1 != int(v)>>bit&1
			if crc >>= 1; out {
				crc ^= 0x8C
			}
		}
	}
	return byte(crc)
}
