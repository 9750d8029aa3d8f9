package chips

import (
	"errors"
	"fmt"
	"math"
	"testing"

	"holdfast/sensors/bus"
)

// Values from sources that have nothing to do with the drivers here: recorded bytes of real chips in the tests of other
// projects, constants of the kernel's and the makers' drivers, and data sheets. Each row names its source.

// oracle is a value from an independent source.
type oracle struct {
	what              string
	got, want, within float64
	source            string
}

func compare(t *testing.T, rows []oracle) {
	t.Helper()
	for _, r := range rows {
		if !(math.Abs(r.got-r.want) <= r.within) {
			t.Errorf("%s: got %v, want %v within %v (%s)", r.what, r.got, r.want, r.within, r.source)
		}
	}
}

func TestOracleBME280(t *testing.T) {
	const source = "tests of the Elixir library elixir-sensors/bmp280, bytes and calibration of two real BME280"
	for _, chip := range []struct {
		calib     calibrationBMx280
		raw       [8]byte // registers 0xF7 to 0xFE
		t, hPa, h float64
	}{
		{calibrationBMx280{t: [3]int32{28189, 26285, 50}, p: [9]int64{36635, -10696, 3024, 11092, -241, -7, 12300, -12000, 5000}, h: [6]int32{75, 338, 0, 370, 60, 30}},
			[8]byte{69, 89, 64, 130, 243, 0, 137, 109}, 26.7460, 1003.9149, 59.2},
		{calibrationBMx280{t: [3]int32{28297, 26729, 50}, p: [9]int64{37189, -10580, 3024, 8137, -87, -7, 9900, -10230, 4285}, h: [6]int32{75, 394, 0, 242, 56, 30}},
			[8]byte{77, 75, 16, 126, 15, 128, 102, 158}, 20.2649, 1002.7840, 64.4},
	} {
		centi, fine := chip.calib.temperature(raw20(chip.raw[3:]))
		compare(t, []oracle{
			{"temperature, °C", float64(centi) / 100, chip.t, 0.0051, source},
			{"pressure, hPa", float64(chip.calib.pressure(raw20(chip.raw[0:]), fine)) / 25600, chip.hPa, 0.01, source},
			{"humidity, %", float64(chip.calib.humidity(int32(be16(chip.raw[6:])), fine)) / 1024, chip.h, 0.1, source},
		})
		if err := chip.calib.plausible(true); err != nil {
			t.Errorf("a real chip's calibration: %v", err)
		}
	}
	// Calibration that is missing in parts, as it is while the chip copies it: the humidity would be 0, the pressure 4 hPa off.
	good := calibrationBMx280{t: [3]int32{28297, 26729, 50}, p: [9]int64{37189, -10580, 3024, 8137, -87, -7, 9900, -10230, 4285}, h: [6]int32{75, 394, 0, 242, 56, 30}}
	for i := range 16 {
		for _, wrong := range []int64{0, -1} {
			c := good
			switch {
			case i < 3:
				c.t[i] = int32(wrong)
			case i < 12:
				c.p[i-3] = wrong
			default:
				c.h[[]int{0, 1, 3, 5}[i-12]] = int32(wrong)
			}
			harmless := i == 6 || i == 7 || wrong == -1 && (i == 2 || i == 8 || i == 10) // P4, P5; and T3, P6, P8 of -1
			if err := c.plausible(true); (err == nil) != harmless {
				t.Errorf("value %d is %d: %v", i, wrong, err)
			} else if err != nil && !errors.Is(err, bus.ErrTemporary) {
				t.Errorf("value %d: %v, want an error of class temporary", i, err)
			}
		}
	}
	if err := good.plausible(false); err != nil {
		t.Error(err)
	}
}

func TestOracleBME680(t *testing.T) {
	c := bme680Calib{t1: 26195, t2: 26290, t3: 3, p1: 35395, p2: -10405, p3: 88, p4: 4836, p5: -118, p6: 30, p7: 26, p8: -765, p9: -3367, p10: 30,
		h1: 717, h2: 1021, h3: 0, h4: 45, h5: 20, h6: 120, h7: -100, gh1: -30, gh2: -5969, gh3: 18}
	fine := c.temperature(480732)
	pa, err := c.pressure(393705, fine)
	if err != nil {
		t.Fatal(err)
	}
	const elixir = "tests of the Elixir library elixir-sensors/bmp280, a real BME680"
	cold := bme680Calib{t1: 26372, t2: 26190, t3: 3, h1: 785, h2: 1009, h3: 0, h4: 45, h5: 20, h6: 120, h7: 156} // as it has it
	const sunflower = "benchmark of the sunflower simulator, with Bosch's BME680 driver"
	compare(t, []oracle{
		{"temperature, °C", fine / 5120, 19.3113, 0.0001, elixir},
		{"pressure, Pa", pa, 100977.52, 0.01, elixir},
		{"humidity, %", c.humidity(16820, fine), 25.2, 0.1, elixir},
		{"gas, Ω", c.gas(195, 9), 20467.2644, 1, elixir},
		{"temperature, °C", cold.temperature(469993) / 5120, 15.000098, 0.0001, sunflower},
		{"humidity, %", cold.humidity(21975, cold.temperature(469993)), 50.002233, 0.001, sunflower},
	})
}

// bme690Example is a real chip's calibration, as published in the tests of Pimoroni's driver for the BME690.
var bme690Example = bme690Calib{t1: 22288, t2: 22173, t3: -7,
	p1: 20021, p2: 25517, p3: 3, p4: -6, p5: 5941, p6: 4090, p7: 6, p8: 1, p9: 4631, p10: 6, p11: -11,
	h1: 238, h2: 50, h3: 0, h4: 30, h5: 399, h6: 75}

func TestOracleBME690(t *testing.T) {
	const source = "tests of Pimoroni's driver for the BME690, Bosch's formulas in whole numbers"
	c := bme690Example
	celsius := c.temperature(7000500)
	compare(t, []oracle{
		{"temperature, °C", celsius, 26.69, 0.01, source},
		{"temperature in 65536ths", celsius * 65536, 1749524, 1, source},
		{"pressure, Pa", c.pressure(6794608, celsius), 99693, 1, source},
		{"gas, Ω", bme688Gas(0, 0), 102400000, 100, source},
	})
	// The humidity's formula is that of a BME280 with the parameters at other places (BST-BME280-DS002, section 4.2.3, in whole
	// numbers there): both have to agree, over the whole range.
	like := calibrationBMx280{h: [6]int32{75, 399, 0, 238, 50, 30}}
	for _, at := range []float64{-40, -10, 0, 25, 60, 85} {
		for raw := 15000; raw < 40000; raw += 1500 {
			want := float64(like.humidity(int32(raw), int32(math.Round(at*5120)))) / 1024
			compare(t, []oracle{{fmt.Sprintf("humidity of %d at %v °C", raw, at), c.humidity(raw, at), want, 0.1, "BST-BME280-DS002"}})
		}
	}
	// What the formulas of the BME680 make of it: 25 °C were 20 °C. That is why the variants are told apart.
	if as := (bme680Calib{t1: c.t1, t2: c.t2, t3: c.t3}).temperature(7000500>>4) / 5120; math.Abs(as-celsius) < 1 {
		t.Errorf("with a BME680's formulas %v °C: the example shows nothing", as)
	}
}

func TestBME690Parameters(t *testing.T) {
	// The places of the parameters (Bosch's BME690 API): words low byte first, 12 bits for h1 and h5.
	var b [42]byte
	for i := range b {
		b[i] = byte(i)
	}
	word := func(low int) float64 { return float64(low+1)*256 + float64(low) }
	got := parseBME690Calib(b)
	want := bme690Calib{t1: word(31), t2: word(0), t3: 2, p1: word(10), p2: word(12), p3: 14, p4: 15, p5: word(4), p6: word(6), p7: 8, p8: 9,
		p9: word(18), p10: 20, p11: 21, h1: 25<<4 | 8, h2: 26, h3: 28, h4: 27, h5: 23<<4 | 1, h6: 29}
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	for i := range b {
		b[i] = 0xFF
	}
	if got := parseBME690Calib(b); got.h1 != -1 || got.h5 != -1 || got.t3 != -1 || got.p11 != -1 || got.t1 != 65535 || got.p9 != -1 || got.p1 != 65535 {
		t.Errorf("all ones: %+v", got)
	}
}

func TestOracleMotion(t *testing.T) {
	const kernel = "Linux: inv_mpu_core.c, adxl345_core.c, st_accel_core.c"
	var rows []oracle
	for _, raw := range []int16{-32767, -10000, -4420, -1, 0, 1, 521, 10000, 32766} {
		b := [14]byte{6: byte(uint16(raw) >> 8), 7: byte(raw)}
		for _, c := range []struct {
			old                   bool
			offset, scale, within float64
		}{{false, 7011, 2.995178, 0.05}, {true, 12420, 2.941176, 0.01}} {
			m, err := (&mpu9250Sensor{accel: 1, gyro: 1, old: c.old}).decode(b)
			if err != nil {
				t.Fatal(err)
			}
			rows = append(rows, oracle{fmt.Sprintf("MPU (old %v), temperature of %d", c.old, raw), m[6].Value, (float64(raw) + c.offset) * c.scale / 1000, c.within, kernel})
		}
		x, _, _ := decodeADXL345([6]byte{byte(raw >> 3), byte(uint16(raw>>3) >> 8)})
		rows = append(rows, oracle{"ADXL345", x, float64(raw>>3) * 0.0383, 0.002 * math.Abs(float64(raw>>3)) * 0.0383, kernel})
	}
	compare(t, rows)
	for i, gain := range []float64{0.001, 0.002, 0.004, 0.012} { // g for a count of 12 bits
		compare(t, []oracle{{"LIS3DH, g for a count", lis3dhRanges[i].mg / 1000, gain, 1e-9, kernel}})
	}
}

func TestOracleINA226(t *testing.T) {
	const sheet = "SBOS547A, table 8-2: 0x1F40 and 0x2570 with 2 mΩ"
	m := inaMeasurements(0x1F40, 2.5e-6, 0x2570, 1.25e-3, 0.002)
	compare(t, []oracle{{"voltage", m[0].Value, 11.98, 1e-9, sheet}, {"current", m[1].Value, 10, 1e-9, sheet}, {"power", m[2].Value, 119.8, 1e-9, sheet}})
	m = inaMeasurements(-0x1F40, 2.5e-6, 0, 1.25e-3, 0.002)
	compare(t, []oracle{{"the other way", m[1].Value, -10, 1e-9, sheet}})
}

func TestOracleLight(t *testing.T) {
	const rohm = "technical note 11046EDT01: 1 / 1.2 * (69 / MTreg) lx for a count"
	compare(t, []oracle{
		{"usual", luxBH1750(0x8390, 69), 28067, 0.5, rohm},
		{"twice the time", luxBH1750(0x8390, 138), 28067 / 2.0, 0.5, rohm},
		{"shortest", luxBH1750(0xFFFF, 31), 121556.5, 0.5, "Linux bh1750.c: mtreg_min 31"},
		{"longest, one count", luxBH1750(1, 254), 0.2264, 0.0001, "Linux bh1750.c: mtreg_max 254"},
	})
}

func TestOracleTLV493D(t *testing.T) {
	const kernel = "Linux tlv493d.c: 0.098 mT for a count, and (raw - 317.28) * 1.1 °C"
	for _, raw := range []int{-2048, -1, 0, 1, 340, 1000, 2047} {
		low := byte(raw & 0xF)
		b := [7]byte{0: byte(raw >> 4), 1: byte(raw >> 4), 2: byte(raw >> 4), 3: byte(raw>>8) << 4, 4: low<<4 | low, 5: low, 6: byte(raw)}
		x, y, z, celsius := decodeTLV493D(b)
		compare(t, []oracle{
			{"x", x, float64(raw) * 0.098, 1e-9, kernel}, {"y", y, float64(raw) * 0.098, 1e-9, kernel}, {"z", z, float64(raw) * 0.098, 1e-9, kernel},
			{"temperature", celsius, (float64(raw) - 317.28) * 1.1, 0.01, kernel},
		})
	}
}

func TestOracleAHT20(t *testing.T) {
	const kernel = "Linux aht10.c: raw * 200 / 2^20 - 50 °C, raw * 100 / 2^20 %"
	for _, raw := range []struct{ rh, temp uint32 }{{0, 0x0CCCC}, {0x80000, 0x60000}, {0xFFFFF, 0xACCCC}, {0x12345, 0x39999}} {
		b := [7]byte{0x18, byte(raw.rh >> 12), byte(raw.rh >> 4), byte(raw.rh<<4) | byte(raw.temp>>16), byte(raw.temp >> 8), byte(raw.temp)}
		b[6] = crcSensirion(b[:6])
		celsius, percent, err := decodeAHT20(b)
		if err != nil {
			t.Fatal(err)
		}
		compare(t, []oracle{{"temperature", celsius, float64(raw.temp)*200/(1<<20) - 50, 1e-9, kernel}, {"humidity", percent, float64(raw.rh) * 100 / (1 << 20), 1e-9, kernel}})
	}
}

// Deviations of the kernel's drivers have a channel each, a factor, and a source; and none takes a kernel that follows the ABI
// for one that does not: what the same chip would have there is beyond the row's condition.
func TestDeviationsTakeNoRightValueForWrong(t *testing.T) {
	for _, d := range deviations {
		if d.factor == 0 || d.factor == 1 || d.source == "" || d.raw == nil && d.input == nil {
			t.Errorf("row %+v", d)
		}
		if _, known := iioTypes[d.kind]; !known {
			t.Errorf("row %s: there is no channel %s", d.device, d.kind)
		}
	}
	for _, v := range []struct {
		device, kind string
		input        bool
		wrong, right float64 // value or scale, as a deviating and as a right kernel has it
	}{
		{"bme680", "humidityrelative", true, 99.9, 99900}, {"bme680", "humidityrelative", true, 5, 5000},
		{"bme680", "pressure", true, 300, 30}, {"bme680", "pressure", true, 1100, 110},
		{"bme680", "humidityrelative", false, 0.001, 1}, {"hts221", "humidityrelative", false, -0.0042, -4.2},
		{"hts221", "temp", false, 0.025, 25}, {"mpl3115", "temp", false, 0.0625, 62.5}, {"mpu6050", "temp", false, 0.002941, 2.941176},
		{"mpu9250", "temp", false, 0.002941, 2.995178}, {"icm20602", "temp", false, 0.003059, 3.059976}, {"hdc1080", "humidityrelative", false, 0.001525878, 1.525878},
		{"itg3200", "temp", false, 0.003571428, 3.571428},
	} {
		d := deviationOf(v.device, v.kind)
		reports := d.raw
		if v.input {
			reports = d.input
		}
		if d.correct(reports, v.wrong) != d.factor || d.factor == 1 || d.correct(reports, v.right) != 1 {
			t.Errorf("%+v: factors %v and %v, want %v and 1", v, d.correct(reports, v.wrong), d.correct(reports, v.right), d.factor)
		}
	}
	if d := deviationOf("htu21", "humidityrelative"); d.correct(d.input, 50) != 1 {
		t.Error("a driver that is not in the table is corrected")
	}
	if low, high := plausible("bmp280", "pressure", -20e3, 1e6); low != 200 || high != 1300 {
		t.Errorf("a BMP280 measures %v to %v hPa", low, high)
	}
}

// A state of the VOC index goes on as if it had not been interrupted.
func TestVOCIndexGoesOn(t *testing.T) {
	a := newVOCIndex(1)
	signal := func(i int) uint16 { return uint16(30000 + 500*math.Sin(float64(i)/50)) }
	for i := range 2000 {
		a.next(signal(i))
	}
	b := newVOCIndex(1)
	b.restore(a.state())
	if len(a.state()) != vocStateSize {
		t.Fatalf("a state of %d bytes, want %d", len(a.state()), vocStateSize)
	}
	for i := 2000; i < 4000; i++ {
		if x, y := a.next(signal(i)), b.next(signal(i)); x != y || x == 0 {
			t.Fatalf("value %d: %d, and after the interruption %d", i, x, y)
		}
	}
	bad := a.state()
	copy(bad, []byte{0x7F, 0xF8, 0, 0, 0, 0, 0, 1}) // not a number
	c := newVOCIndex(1)
	if c.restore(bad); c.initialized || c.next(30000) != 0 {
		t.Error("a damaged state is used")
	}
}

func TestADS1x15FullScale(t *testing.T) {
	// SBAS444, table 3, and SBAS473: 0x7FFF, or 0x7FF0 with 12 bits, and 0x8000 stand for all beyond.
	for bits, most := range map[int]int16{16: 0x7FFF, 12: 0x7FF0} {
		if got := int16(math.MaxInt16 &^ (1<<(16-bits) - 1)); got != most {
			t.Errorf("%d bits: %#x, want %#x", bits, got, most)
		}
	}
}
