package simulated

import (
	"image"
	"image/color"

	"holdfast/sensors/bus"
)

// ssd1306Model is a Solomon Systech SSD1306 (data sheet rev. 1.1: table 9-1 for the commands, 10.1 for what they do, 8.9 for
// the state after a reset) with a panel of 128 columns, whose upright picture has segments and rows remapped (A1h, C8h).
func ssd1306Model() *Model {
	return &Model{
		Name: "ssd1306", Buses: []bus.Kind{bus.I2CKind, bus.SPIKind}, Addresses: []uint16{0x3C, 0x3D}, Output: true,
		New: func(*Chip) Registers { return &ssd1306{} },
	}
}

const (
	oledColumns = 128
	oledPages   = 8
)

type ssd1306 struct {
	dc *Line // on SPI

	memory [oledPages][oledColumns]byte
	oledPointer
	mode                byte
	on, pump, whole     bool // whole: every dot is lit, whatever the memory has
	inverse             bool
	mirrored, downwards bool // A1h, C8h
	start, offset, rows int
	sequential          bool
	pending             []byte // a command whose arguments are not complete
	frames              []image.Image
}

// oledPointer is where the next byte of data goes.
type oledPointer struct {
	page, column       int
	pageLow, pageHigh  int // of the horizontal and vertical modes
	columnLow, colHigh int
}

// argument bytes of commands that have some.
var oledArguments = map[byte]int{
	0x20: 1, 0x21: 2, 0x22: 2, 0x26: 6, 0x27: 6, 0x29: 5, 0x2A: 5, 0x81: 1, 0x8D: 1, 0xA3: 2, 0xA8: 1, 0xD3: 1, 0xD5: 1, 0xD9: 1, 0xDA: 1, 0xDB: 1,
}

func (m *ssd1306) reset() {
	dc, frames := m.dc, m.frames
	*m = ssd1306{dc: dc, frames: frames, mode: 2, oledPointer: oledPointer{pageHigh: oledPages - 1, colHigh: oledColumns - 1}, rows: 64}
	for p := range m.memory { // it comes up with whatever was in it
		for c := range m.memory[p] {
			m.memory[p][c] = byte(p*37 + c*101)
		}
	}
}

// write is a transfer on I2C: a control byte, and commands or data up to the end (8.1.5.2).
func (m *ssd1306) write(b []byte) error {
	switch b[0] {
	case 0x00:
		m.commands(b[1:])
	case 0x40:
		m.data(b[1:])
	default:
		return refused
	}
	return nil
}

// read gives the status: bit 6 is set while the display is off.
func (m *ssd1306) read(b []byte) error {
	for i := range b {
		b[i] = 0x40
		if m.on {
			b[i] = 0
		}
	}
	return nil
}

// transfer on SPI is of commands or data, by the level of D/C. Nothing is driven back.
func (m *ssd1306) transfer(w, _ []byte) {
	if m.dc != nil && m.dc.High() {
		m.data(w)
		return
	}
	m.commands(w)
}

func (m *ssd1306) commands(b []byte) {
	for _, v := range b {
		m.pending = append(m.pending, v)
		if len(m.pending) <= oledArguments[m.pending[0]] {
			continue
		}
		was := m.lit()
		m.command(m.pending[0], m.pending[1:])
		m.pending = nil
		if m.lit() != was {
			m.frames = append(m.frames, m.picture())
		}
	}
}

// lit reports whether anything can be seen: the display is on, and its charge pump.
func (m *ssd1306) lit() bool { return m.on && m.pump }

func (m *ssd1306) command(c byte, arg []byte) {
	paged := m.mode == 2
	switch {
	case c <= 0x0F && paged: // 10.1.1: in page addressing mode only, as the next and B0h
		m.column = m.column&^0x0F | int(c)
	case c <= 0x1F && paged:
		m.column = m.column&0x0F | int(c&0x0F)<<4
	case c >= 0xB0 && c <= 0xB7 && paged:
		m.page = int(c & 7)
	case c == 0x20:
		m.mode = arg[0] & 3
	case c == 0x21 && !paged:
		m.columnLow, m.colHigh = int(arg[0]&0x7F), int(arg[1]&0x7F)
		m.column = m.columnLow
	case c == 0x22 && !paged:
		m.pageLow, m.pageHigh = int(arg[0]&7), int(arg[1]&7)
		m.page = m.pageLow
	case c >= 0x40 && c <= 0x7F:
		m.start = int(c & 0x3F)
	case c == 0x8D:
		m.pump = arg[0]&4 != 0
	case c == 0xA0, c == 0xA1:
		m.mirrored = c == 0xA1
	case c == 0xA4, c == 0xA5:
		m.whole = c == 0xA5
	case c == 0xA6, c == 0xA7:
		m.inverse = c == 0xA7
	case c == 0xA8:
		m.rows = int(arg[0]&0x3F) + 1
	case c == 0xAE, c == 0xAF:
		m.on = c == 0xAF
	case c >= 0xC0 && c <= 0xCF:
		m.downwards = c&8 != 0
	case c == 0xD3:
		m.offset = int(arg[0] & 0x3F)
	case c == 0xDA:
		m.sequential = arg[0]&0x10 == 0
	}
}

// data fills the memory, in the order of the addressing mode (10.1.3).
func (m *ssd1306) data(b []byte) {
	for _, v := range b {
		m.memory[m.page][m.column] = v
		m.column++
		switch {
		case m.mode == 2:
			m.column %= oledColumns
		case m.column > m.colHigh || m.column == oledColumns:
			m.column = m.columnLow
			if m.page++; m.page > m.pageHigh || m.page == oledPages {
				m.page = m.pageLow
			}
		}
	}
}

// picture is what a person in front of it sees. A panel whose rows are wired in another way than DAh says shows each
// second one only, as real ones do.
func (m *ssd1306) picture() image.Image {
	img := image.NewGray(image.Rect(0, 0, oledColumns, m.rows))
	for y := range m.rows {
		for x := range oledColumns {
			row, column := (y+m.start+m.offset)%64, x
			if !m.downwards {
				row = (m.rows - 1 - y + m.start + m.offset) % 64
			}
			if !m.mirrored {
				column = oledColumns - 1 - x
			}
			dot := m.memory[row/8][column]>>(row%8)&1 != 0
			wired := m.sequential == (m.rows == 32) || y%2 == 0
			if (m.whole || dot != m.inverse) && m.lit() && wired {
				img.SetGray(x, y, color.Gray{Y: 0xFF})
			}
		}
	}
	return img
}

// Picture returns what an SSD1306 shows, and what it showed at each moment when it was turned on or off.
func (c *Chip) Picture() (now image.Image, turned []image.Image) {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := c.regs.(*ssd1306)
	return m.picture(), append([]image.Image(nil), m.frames...)
}

// DataCommand connects the line D/C of a display on SPI.
func (c *Chip) DataCommand(l *Line) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.regs.(*ssd1306).dc = l
}
