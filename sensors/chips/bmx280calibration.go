package chips

import (
	"fmt"

	"holdfast/sensors/bus"
)

// calibrationBMx280 are a chip's own trimming values, T1 to T3, P1 to P9 and H1 to H6 (data sheet
// BST-BME280-DS002, section 4.2.2).
type calibrationBMx280 struct {
	t [3]int32
	p [9]int64
	h [6]int32
}

// newCalibrationBMx280 takes the registers from 0x88 and from 0xE1 on.
func newCalibrationBMx280(tp [26]byte, h [7]byte) (c calibrationBMx280) {
	for i := range c.t {
		c.t[i] = int32(int16(le16(tp[2*i:])))
	}
	c.t[0] = int32(le16(tp[0:])) // the first of each is unsigned
	for i := range c.p {
		c.p[i] = int64(int16(le16(tp[6+2*i:])))
	}
	c.p[0] = int64(le16(tp[6:]))
	c.h = [6]int32{
		int32(tp[25]),
		int32(int16(le16(h[0:]))),
		int32(h[2]),
		int32(int8(h[3]))<<4 | int32(h[4]&0xF), // H4 and H5 have 12 bits, the upper ones signed
		int32(int8(h[5]))<<4 | int32(h[4]>>4),
		int32(int8(h[6])),
	}
	return c
}

// plausible finds trimming values that no chip has: what is empty, all ones, or far from all that are known. A wrong one is a
// wrong reading that looks right. P4, P5, H3 and H5 are around zero, and can be anything.
func (c *calibrationBMx280) plausible(humid bool) error {
	type value struct {
		name      string
		v         int64
		low, high int64
	}
	const word = 1<<15 - 1
	all := []value{
		{"T1", int64(c.t[0]), 15000, 45000}, {"T2", int64(c.t[1]), 15000, word}, {"T3", int64(c.t[2]), -word, word},
		{"P1", c.p[0], 20000, 60000}, {"P2", c.p[1], -25000, -2000}, {"P3", c.p[2], 500, 10000},
		{"P6", c.p[5], -word, word}, {"P7", c.p[6], 1, word}, {"P8", c.p[7], -word, -1}, {"P9", c.p[8], 1, word},
	}
	if humid {
		all = append(all, value{"H1", int64(c.h[0]), 1, 254}, value{"H2", int64(c.h[1]), 100, 1500},
			value{"H4", int64(c.h[3]), 1, 2046}, value{"H6", int64(c.h[5]), 1, 126})
	}
	for _, v := range all {
		if v.v < v.low || v.v > v.high || v.v == 0 {
			return fmt.Errorf("%w: the chip's calibration has %d for %s, want %d to %d: it is broken, or was disturbed", bus.ErrTemporary, v.v, v.name, v.low, v.high)
		}
	}
	return nil
}

// temperature returns hundredths of a degree, and what the other two need (section 4.2.3).
func (c *calibrationBMx280) temperature(raw int32) (centi, fine int32) {
	d := raw>>4 - c.t[0]
	fine = ((raw>>3-c.t[0]<<1)*c.t[1])>>11 + (((d*d)>>12)*c.t[2])>>14
	return (fine*5 + 128) >> 8, fine
}

// pressure returns 256ths of a pascal (section 4.2.3).
func (c *calibrationBMx280) pressure(raw, fine int32) int64 {
	x := int64(fine) - 128000
	scale := ((1<<47 + (x*x*c.p[2])>>8 + (x*c.p[1])<<12) * c.p[0]) >> 33
	if scale == 0 {
		return 0
	}
	offset := x*x*c.p[5] + (x*c.p[4])<<17 + c.p[3]<<35
	p := (int64(1048576-raw)<<31 - offset) * 3125 / scale
	square := (c.p[8] * (p >> 13) * (p >> 13)) >> 25
	return (p+square+(c.p[7]*p)>>19)>>8 + c.p[6]<<4
}

// humidity returns 1024ths of a percent (section 4.2.3).
func (c *calibrationBMx280) humidity(raw, fine int32) int32 {
	x := int64(fine) - 76800
	wet := (int64(raw)<<14 - int64(c.h[3])<<20 - int64(c.h[4])*x + 16384) >> 15
	warm := ((x*int64(c.h[5]))>>10*((x*int64(c.h[2]))>>11+32768))>>10 + 2097152
	v := wet * ((warm*int64(c.h[1]) + 8192) >> 14)
	v -= (((v >> 15) * (v >> 15)) >> 7) * int64(c.h[0]) >> 4
	return int32(min(max(v, 0), 419430400) >> 12)
}
