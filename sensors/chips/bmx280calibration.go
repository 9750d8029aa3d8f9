package chips

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
