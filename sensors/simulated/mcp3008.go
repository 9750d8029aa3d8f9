package simulated

import (
	"fmt"
	"math"
	"time"

	"holdfast/sensors/bus"
)

// mcp3008Model is a Microchip MCP3008 (data sheet DS21295, serial communication) with a reference of
// 3.3 V.
func mcp3008Model() *Model {
	m := &Model{
		Name: "mcp3008", Buses: []bus.Kind{bus.SPIKind}, Faults: BadCRC,
		New: func(c *Chip) Registers { return mcp3008{c} },
	}
	for i := range 8 {
		m.Inputs = append(m.Inputs, Input{
			Name: fmt.Sprintf("voltage%d", i), Unit: "V", Min: 0, Max: 3.3, Step: 0.0033,
			Curve: func(seed uint64, t time.Time) float64 {
				return 0.5 + 0.3*float64(i) + 0.2*wave(seed+uint64(i), t, 2*time.Hour)
			},
		})
	}
	return m
}

type mcp3008 struct{ chip *Chip }

func (m mcp3008) reset() {}

// transfer goes bit by bit: after the start bit come single/differential and three bits of the channel,
// then a clock for sampling, a null bit, the code from its highest bit, and again from its second lowest
// one upwards, and zeros.
func (m mcp3008) transfer(w, r []byte) {
	bit := func(i int) int { return int(w[i/8]) >> (7 - i%8) & 1 }
	n := 8 * len(w)
	start := 0
	for start < n && bit(start) == 0 {
		start++
	}
	if start+4 >= n {
		return
	}
	code := m.convert(bit(start+1) == 1, bit(start+2)<<2|bit(start+3)<<1|bit(start+4))
	send := func(i, v int) {
		if i < n && v == 0 {
			r[i/8] &^= 1 << (7 - i%8)
		}
	}
	at := start + 6
	send(at, 0)
	for i := range 10 {
		send(at+1+i, code>>(9-i)&1)
	}
	again := code
	if m.chip.sum(0) != 0 { // the chip has no checksum; a disturbed second copy is the like of a wrong one
		again ^= 0x24
	}
	for i := 1; i < 10; i++ {
		send(at+10+i, again>>i&1)
	}
	for i := at + 20; i < n; i++ {
		send(i, 0)
	}
}

// convert returns the code of an input, or of a pair whose first input is that of the channel.
func (m mcp3008) convert(single bool, channel int) int {
	v := m.chip.value(fmt.Sprint("voltage", channel))
	if !single {
		v -= m.chip.value(fmt.Sprint("voltage", channel^1))
	}
	return int(math.Max(0, math.Min(1023, 1024*v/3.3)))
}
