package simulated

import "encoding/binary"

// words is what chips with registers of 16 bits have in common: a write begins with the number of a
// register, which is also the one that is read next.
type words struct {
	pointer byte
	get     func(reg byte) uint16
	set     func(reg byte, v uint16)
}

func (m *words) write(b []byte) error {
	m.pointer = b[0]
	switch len(b) {
	case 1:
	case 3:
		m.set(b[0], binary.BigEndian.Uint16(b[1:]))
	default:
		return refused
	}
	return nil
}

func (m *words) read(b []byte) error {
	v := binary.BigEndian.AppendUint16(nil, m.get(m.pointer))
	for i := range b {
		b[i] = v[i%2]
	}
	return nil
}

// octets is what chips with registers of 8 bits have in common: a write begins with the number of a
// register, and goes on with the following ones, as reading does. latch is called before each read, for
// what has to belong together.
type octets struct {
	pointer byte
	latch   func()
	get     func(reg byte) byte
	set     func(reg, v byte)
}

func (m *octets) write(b []byte) error {
	m.pointer = b[0]
	for i, v := range b[1:] {
		m.set(b[0]+byte(i), v)
	}
	return nil
}

func (m *octets) read(b []byte) error {
	if m.latch != nil {
		m.latch()
	}
	for i := range b {
		b[i] = m.get(m.pointer + byte(i))
	}
	return nil
}

// spi is a transfer with bit 7 of the register's number set for reading; mask is what belongs to the number.
func (m *octets) spi(w, r []byte, mask byte) {
	if w[0]&0x80 == 0 {
		m.write(append([]byte{w[0] & mask}, w[1:]...))
		return
	}
	m.pointer = w[0] & mask
	m.read(r[1:])
}
