package chips

import (
	"fmt"
	"math"
	"time"

	"holdfast/sensors"
)

// bme680Calib is what a BME680 was calibrated with (data sheet, table of the calibration
// parameters).
type bme680Calib struct {
	t1, t2, t3                             float64
	p1, p2, p3, p4, p5, p6, p7, p8, p9     float64
	p10                                    float64
	h1, h2, h3, h4, h5, h6, h7             float64
	gh1, gh2, gh3                          float64
	heatRange, heatValue, rangeSwitchError float64
}

// parseBME680Calib takes the parameters out of the bytes of 0x8A to 0xA0, 0xE1 to 0xEE and 0x00 to 0x04.
func parseBME680Calib(b [42]byte) bme680Calib {
	u16 := func(low int) float64 { return float64(uint16(b[low+1])<<8 | uint16(b[low])) }
	s16 := func(low int) float64 { return float64(int16(uint16(b[low+1])<<8 | uint16(b[low]))) }
	s8 := func(at int) float64 { return float64(int8(b[at])) }
	return bme680Calib{
		t1: u16(31), t2: s16(0), t3: s8(2),
		p1: u16(4), p2: s16(6), p3: s8(8), p4: s16(10), p5: s16(12), p6: s8(15), p7: s8(14),
		p8: s16(18), p9: s16(20), p10: float64(b[22]),
		h1: float64(uint16(b[25])<<4 | uint16(b[24]&15)), h2: float64(uint16(b[23])<<4 | uint16(b[24]>>4)),
		h3: s8(26), h4: s8(27), h5: s8(28), h6: float64(b[29]), h7: s8(30),
		gh1: s8(35), gh2: s16(33), gh3: s8(36),
		heatValue: s8(37), heatRange: float64(b[39] >> 4 & 3), rangeSwitchError: float64(int8(b[41]) >> 4),
	}
}

// The compensation is the one in floating point of the data sheet (sections on measurement and data
// readout). The one in integers is up to 5 Pa off.

// temperature returns the fine temperature that the others need, of which 5120 are 1 °C.
func (c bme680Calib) temperature(adc int) (fine float64) {
	return (float64(adc)/16384-c.t1/1024)*c.t2 + math.Pow(float64(adc)/131072-c.t1/8192, 2)*c.t3*16
}

// pressure returns Pa.
func (c bme680Calib) pressure(adc int, fine float64) (float64, error) {
	d := fine/2 - 64000
	span := (1 + (c.p3*d*d/16384+c.p2*d)/524288/32768) * c.p1
	if span == 0 {
		return 0, fmt.Errorf("%w: the calibration of the pressure is broken", sensors.ErrImplausible)
	}
	offset := (d*d*c.p6/131072+d*c.p5*2)/4 + c.p4*65536
	p := (1048576 - float64(adc) - offset/4096) * 6250 / span
	return p + (c.p9*p*p/2147483648+p*c.p8/32768+math.Pow(p/256, 3)*c.p10/131072+c.p7*128)/16, nil
}

// humidity returns %.
func (c bme680Calib) humidity(adc int, fine float64) float64 {
	t := fine / 5120
	h := float64(adc) - c.h1*16 - c.h3/2*t
	h *= c.h2 / 262144 * (1 + c.h4/16384*t + c.h5/1048576*t*t)
	h += (c.h6/16384 + c.h7/2097152*t) * h * h
	return min(max(h, 0), 100)
}

// bme690Calib is what a BME690 was calibrated with, in the places of the BME680's parameters (Bosch's BME690 API,
// coefficients): p1 to p11 are those of a BMP390, and h1 to h6 those of a BME280, where they are H4, H5, H3, H6, H2, H1.
type bme690Calib struct {
	t1, t2, t3                                   float64
	p1, p2, p3, p4, p5, p6, p7, p8, p9, p10, p11 float64
	h1, h2, h3, h4, h5, h6                       float64
}

// parseBME690Calib takes the same bytes as parseBME680Calib.
func parseBME690Calib(b [42]byte) bme690Calib {
	u16 := func(low int) float64 { return float64(le16(b[low:])) }
	s16 := func(low int) float64 { return float64(int16(le16(b[low:]))) }
	s8 := func(at int) float64 { return float64(int8(b[at])) }
	s12 := func(upper byte, lower byte) float64 { return float64(int16(uint16(upper)<<8|uint16(lower)<<4) >> 4) }
	return bme690Calib{
		t1: u16(31), t2: u16(0), t3: s8(2),
		p1: u16(10), p2: u16(12), p3: s8(14), p4: s8(15), p5: s16(4), p6: s16(6), p7: s8(8), p8: s8(9), p9: s16(18), p10: s8(20), p11: s8(21),
		h1: s12(b[25], b[24]&15), h2: s8(26), h3: float64(b[28]), h4: s8(27), h5: s12(b[23], b[24]>>4), h6: float64(b[29]),
	}
}

// temperature returns °C for a raw value of 24 bits.
func (c bme690Calib) temperature(adc int) float64 {
	d := float64(adc) - 256*c.t1
	return d * (c.t2*0x1p-30 + d*c.t3*0x1p-48)
}

// pressure returns Pa for a raw value of 24 bits at t °C: a polynomial of third order in both.
func (c bme690Calib) pressure(adc int, t float64) float64 {
	p := float64(adc)
	offset := 8*c.p1 + t*(c.p2*0x1p-6+t*(c.p3*0x1p-8+t*c.p4*0x1p-15))
	slope := (c.p5-0x1p14)*0x1p-20 + t*((c.p6-0x1p14)*0x1p-29+t*(c.p7*0x1p-32+t*c.p8*0x1p-37))
	return offset + p*(slope+p*((c.p9+c.p10*t)*0x1p-48+p*c.p11*0x1p-65))
}

// humidity returns % at t °C.
func (c bme690Calib) humidity(adc int, t float64) float64 {
	d := 5120*t - 76800 // from 15 °C on
	h := float64(adc) - 64*c.h1 - c.h2*0x1p-14*d
	h *= c.h5 * 0x1p-16 * (1 + c.h4*0x1p-26*d*(1+c.h3*0x1p-26*d))
	return min(max(h*(1-c.h6*0x1p-19*h), 0), 100)
}

// Corrections of the gas measurement's ranges, in % (data sheet, gas resistance calculation).
var (
	bme680K1 = [16]float64{5: -1, 7: -0.8, 10: -0.2, 11: -0.5, 13: -1}
	bme680K2 = [16]float64{4: 0.1, 5: 0.7, 7: -0.8, 8: -0.1}
)

// gas returns Ω.
func (c bme680Calib) gas(adc int, gasRange byte) float64 {
	gain := (1340 + 5*c.rangeSwitchError) * (1 + bme680K1[gasRange]/100)
	return 1 / ((1 + bme680K2[gasRange]/100) * 0.000000125 * float64(int(1)<<gasRange) * (float64(adc-512)/gain + 1))
}

// bme688Gas returns Ω, also of a BME690. It needs no calibration (BME688 data sheet, gas resistance calculation).
func bme688Gas(adc int, gasRange byte) float64 {
	return 1e6 * float64(int(262144)>>gasRange) / float64(4096+3*(adc-512))
}

// heater returns the setting for a hot plate of temp °C in air of ambient °C (data sheet,
// "Gas sensor heating and measurement"). It is the same for all variants.
func (c bme680Calib) heater(temp, ambient float64) byte {
	cold := c.gh1/16 + 49
	slope := c.gh2/32768*0.0005 + 0.00235
	r := cold*(1+slope*temp) + c.gh3/1024*ambient
	r = 3.4 * (r*4/(4+c.heatRange)/(1+c.heatValue*0.002) - 25)
	return byte(min(max(r, 0), 255))
}

// bme680Wait returns the setting of a heating time (data sheet, gas_wait): 6 bits of ms, and a factor of 1, 4,
// 16 or 64 in the upper two.
func bme680Wait(d time.Duration) byte {
	ms, factor := d.Milliseconds(), byte(0)
	for ms > 63 && factor < 3 {
		ms, factor = (ms+3)/4, factor+1 // rounded up: never shorter than asked for
	}
	return byte(min(ms, 63)) | factor<<6
}
