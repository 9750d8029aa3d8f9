package chips

import (
	"errors"
	"math"
	"testing"

	"holdfast/sensors"
	"holdfast/sensors/bus"
)

// The examples that data sheets give for their formulas.

func near(t *testing.T, what string, got, want, within float64) {
	t.Helper()
	if math.Abs(got-want) > within {
		t.Errorf("%s: got %v, want %v within %v", what, got, want, within)
	}
}

// TestBMP280Example is data sheet BST-BMP280-DS001, section 3.12: 25.08 °C and 100653.27 Pa, with
// floating point; in whole numbers 100653.25.
func TestBMP280Example(t *testing.T) {
	var tp [26]byte
	for i, v := range []int{27504, 26435, -1000, 36477, -10685, 3024, 2855, 140, -7, 15500, -14600, 6000} {
		tp[2*i], tp[2*i+1] = byte(v), byte(v>>8)
	}
	c := newCalibrationBMx280(tp, [7]byte{})
	centi, fine := c.temperature(519888)
	if centi != 2508 || fine != 128422 {
		t.Errorf("got %d, %d, want 2508, 128422", centi, fine)
	}
	near(t, "pressure", float64(c.pressure(415148, fine))/256, 100653.27, 0.03)
}

// TestBME280TrimmingOf12Bits: the data sheet BST-BME280-DS002, table 16, has H4 in 0xE4 and half of
// 0xE5, H5 in the other half and 0xE6, both signed.
func TestBME280TrimmingOf12Bits(t *testing.T) {
	c := newCalibrationBMx280([26]byte{}, [7]byte{0x6A, 0x01, 0, 0x13, 0x2B, 0x03, 0x1E})
	if c.h != [6]int32{0, 362, 0, 0x13B, 0x032, 30} {
		t.Errorf("got %v", c.h)
	}
	c = newCalibrationBMx280([26]byte{}, [7]byte{0, 0, 0, 0xFF, 0xEF, 0xFF, 0xFF})
	if c.h[3] != -1 || c.h[4] != -2 || c.h[5] != -1 {
		t.Errorf("got %v, want -1, -2, -1", c.h[3:])
	}
}

// TestBMP180Example is data sheet BST-BMP180-DS000, section 3.5, figure 4: 15.0 °C and 69964 Pa.
func TestBMP180Example(t *testing.T) {
	var b [22]byte
	for i, v := range []int{408, -72, -14383, 32741, 32757, 23153, 6190, 4, -32768, -8711, 2868} {
		b[2*i], b[2*i+1] = byte(v>>8), byte(v)
	}
	c, err := newCalibrationBMP180(b)
	if err != nil {
		t.Fatal(err)
	}
	if deci, pascal, ok := c.compensate(27898, 23843, 0); deci != 150 || pascal != 69964 || !ok {
		t.Errorf("got %d, %d, %v, want 150 and 69964", deci, pascal, ok)
	}
	b[7], b[6] = 0xFF, 0xFF
	if _, err := newCalibrationBMP180(b); !errors.Is(err, bus.ErrTemporary) {
		t.Errorf("a calibration word of ones: %v", err)
	}
	for ut := range int64(1 << 16) { // no raw value divides by zero
		c.compensate(ut, ut<<3, 3)
	}
}

// TestMCP9808Format: data sheet DS25095A, section 5.1.3: three flags, a sign, and 1/16 °C.
func TestMCP9808Format(t *testing.T) {
	for raw, want := range map[uint16]float64{0x0194: 25.25, 0xC194: 25.25, 0xE000: 0, 0x1FFF: -0.0625, 0x3E70: -25, 0x07D0: 125, 0x1D80: -40} {
		near(t, "temperature", celsiusMCP9808(raw), want, 0)
	}
}

// TestTMP102Format is the table of the 13-bit temperature data format in data sheet SBOS397.
func TestTMP102Format(t *testing.T) {
	for code, want := range map[uint16]float64{0x0960: 150, 0x0800: 128, 0x07FF: 127.9375, 0x0640: 100, 0x0500: 80, 0x04B0: 75,
		0x0320: 50, 0x0190: 25, 0x0004: 0.25, 0: 0, 0x1FFC: -0.25, 0x1E70: -25, 0x1C90: -55} {
		got, err := celsiusTMP102(code<<3 | 1)
		if err != nil {
			t.Error(err)
		}
		near(t, "temperature", got, want, 0)
	}
	if _, err := celsiusTMP102(0x1900); !errors.Is(err, sensors.ErrRestarted) { // 25 °C in 12 bits, as after power-on
		t.Errorf("got %v", err)
	}
}

// TestAM2320Example is the answer in the product manual's section on I2C: 50.0 % and 25.0 °C; and its
// negative temperature of 0x8065, -10.1 °C.
func TestAM2320Example(t *testing.T) {
	celsius, percent, err := decodeAM2320([8]byte{0x03, 0x04, 0x01, 0xF4, 0x00, 0xFA, 0x31, 0xA5})
	if err != nil || celsius != 25 || percent != 50 {
		t.Errorf("got %v, %v, %v", celsius, percent, err)
	}
	b := [8]byte{0x03, 0x04, 0x01, 0xF4, 0x80, 0x65}
	b[6], b[7] = byte(crcModbus(b[:6])), byte(crcModbus(b[:6])>>8)
	if celsius, _, err = decodeAM2320(b); err != nil || celsius != -10.1 {
		t.Errorf("got %v, %v", celsius, err)
	}
	b[4] = 0
	if _, _, err = decodeAM2320(b); !errors.Is(err, bus.ErrTemporary) {
		t.Errorf("a wrong checksum: %v", err)
	}
}

// TestBH1750Example is the one in technical note 11046EDT01: 0x83 0x90 is 28067 lx.
func TestBH1750Example(t *testing.T) { near(t, "illuminance", luxBH1750(0x8390, 69), 28067, 0.5) }

// TestINA219Example is table 8 of data sheet SBOS448: 11.98 V, and 10 A through 2 mΩ.
func TestINA219Example(t *testing.T) {
	v, a := decodeINA219(0x5D98, 0x07D0, 0.002)
	near(t, "voltage", v, 11.98, 1e-9)
	near(t, "current", a, 10, 1e-9)
	near(t, "power", v*a, 119.8, 1e-9)
	if _, a = decodeINA219(0, 0x8300, 0.01); math.Abs(a+32) > 1e-9 { // -320 mV, table 7
		t.Errorf("got %v A, want -32", a)
	}
}

// TestSCD4xExample is the read_measurement example of the SCD4x data sheet, section 3.6.2: 500 ppm, 25 °C, 37 %.
func TestSCD4xExample(t *testing.T) {
	w, err := wordsSensirion([]byte{0x01, 0xF4, 0x33, 0x66, 0x67, 0xA2, 0x5E, 0xB9, 0x3C})
	if err != nil {
		t.Fatal(err)
	}
	co2, celsius, percent := decodeSCD4x([3]uint16(w))
	near(t, "co2", co2, 500, 0)
	near(t, "temperature", celsius, 25, 0.01)
	near(t, "humidity", percent, 37, 0.01)
}

// TestDS18B20Format is table 1, temperature/data relationship, of data sheet DS18B20.
func TestDS18B20Format(t *testing.T) {
	for raw, want := range map[uint16]float64{0x07D0: 125, 0x0550: 85, 0x0191: 25.0625, 0x00A2: 10.125, 0x0008: 0.5, 0: 0,
		0xFFF8: -0.5, 0xFF5E: -10.125, 0xFE6F: -25.0625, 0xFC90: -55} {
		near(t, "temperature", celsiusDS18B20(raw), want, 0)
	}
}

// TestHDC302xChecksum is the example in data sheet SNAS778, section on checksums.
func TestHDC302xChecksum(t *testing.T) {
	if got := crcSensirion([]byte{0xAB, 0xCD}); got != 0x6F {
		t.Errorf("got %#02x, want 0x6f", got)
	}
}

func TestADXL345Scale(t *testing.T) { // 256 counts per g in full resolution (data sheet, table 1)
	x, y, z := decodeADXL345([6]byte{0x00, 0x01, 0x00, 0xFF, 0x80, 0x00})
	near(t, "x", x, standardGravity, 1e-9)
	near(t, "y", y, -standardGravity, 1e-9)
	near(t, "z", z, standardGravity/2, 1e-9)
}

// TestTLV493DFormat: 12 bits of 0.098 mT, and of 1.1 °C with 340 at 25 °C (user manual).
func TestTLV493DFormat(t *testing.T) {
	x, y, z, celsius := decodeTLV493D([7]byte{0xFD, 0x2D, 0x79, 0x18, 0xBB, 0x31, 0x51})
	near(t, "x", x, -37*0.098, 1e-9)
	near(t, "y", y, 731*0.098, 1e-9)
	near(t, "z", z, 1937*0.098, 1e-9)
	near(t, "temperature", celsius, 21.7, 1e-9)
	if w := tlv493dSettings([3]byte{0x81, 0x04, 0x60}); w[0] != 0 || w[1] != 0x01 || w[2] != 4 || w[3] != 0x40 {
		t.Errorf("settings % x, want 00 01 04 40, three ones", w)
	}
	if w := tlv493dSettings([3]byte{0x88, 0x04, 0x60}); w[1] != 0x89 {
		t.Errorf("settings % x, want an odd number of ones", w)
	}
}

// TestHX711Scale: the HX711's data sheet has ±20 mV as the full scale of gain 128 with a supply of 5 V,
// and ±40 and ±80 mV with 64 and 32.
func TestHX711Scale(t *testing.T) {
	for gain, full := range map[int]float64{128: 20.0 / 5, 64: 40.0 / 5, 32: 80.0 / 5} {
		near(t, "bridge", bridgeHX711(-1<<23, gain), -full, full*0.03)
	}
}
