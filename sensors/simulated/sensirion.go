package simulated

import (
	"encoding/binary"
	"math"
	"time"
)

// sensirion is what Sensirion's chips have in common: a command is followed by words with a checksum
// each, and after the time that it takes, an answer of such words can be read once. Before that the
// address is refused.
type sensirion struct {
	chip *Chip
	// command takes a command's bytes without what follows it, the words that did, and returns the answer
	// and the time for it; false refuses it.
	command func(code uint16, words []uint16) (answer []uint16, takes time.Duration, ok bool)
	short   bool // commands have one byte

	answer func() []uint16
	ready  time.Time
}

func (m *sensirion) reset() { m.answer = nil }

func (m *sensirion) write(b []byte) error {
	n := 2
	if m.short {
		n = 1
	}
	if len(b) < n || (len(b)-n)%3 != 0 {
		return refused
	}
	code := uint16(b[0])
	if !m.short {
		code = binary.BigEndian.Uint16(b)
	}
	var words []uint16
	for b = b[n:]; len(b) > 0; b = b[3:] {
		if sumCRC8(b[:2]) != b[2] {
			return refused
		}
		words = append(words, binary.BigEndian.Uint16(b))
	}
	_, takes, ok := m.command(code, words)
	if !ok {
		return refused
	}
	m.ready = m.chip.takes(takes)
	// What is measured is what is there when the measurement ends.
	m.answer = func() []uint16 { a, _, _ := m.command(code, words); return a }
	return nil
}

func (m *sensirion) read(b []byte) error {
	if m.answer == nil || !m.chip.done(m.ready) {
		return refused
	}
	var all []byte
	for _, w := range m.answer() {
		two := binary.BigEndian.AppendUint16(nil, w)
		all = append(append(all, two...), m.chip.sum(sumCRC8(two)))
	}
	m.answer = nil
	for i := copy(b, all); i < len(b); i++ {
		b[i] = 0xFF // no chip drives the line
	}
	return nil
}

// word16 is a part of a whole as 16 bits.
func word16(part float64) uint16 { return uint16(math.Round(math.Min(1, math.Max(0, part)) * 65535)) }
