package chips

import (
	"math"
	"testing"
	"time"
)

// bme680Example is a real chip's calibration, as published with Pimoroni's driver together with what
// Bosch's formulas in integers make of raw values.
var bme680Example = bme680Calib{
	t1: 26041, t2: 26469, t3: 3,
	p1: 36673, p2: -10515, p3: 88, p4: 7310, p5: -129, p6: 30, p7: 46, p8: -3177, p9: -2379, p10: 30,
	h1: 676, h2: 1029, h3: 0, h4: 45, h5: 20, h6: 120, h7: -100,
	gh1: -30, gh2: -24754, gh3: 18, heatRange: 1, heatValue: 48,
}

func TestBME680Compensation(t *testing.T) {
	c := bme680Example
	fine := c.temperature(501240)
	p, err := c.pressure(353485, fine)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range []struct {
		what            string
		got, want, near float64
	}{
		{"temperature, °C", fine / 5120, 26.69, 0.01},
		{"fine temperature", fine, 136667, 2},
		{"pressure, Pa", p, 98712, 5},
		{"humidity, %", c.humidity(19019, fine), 42.402, 0.03},
		{"gas, Ω", c.gas(0, 0), 12946860, 100},
		{"gas of a BME688, Ω", bme688Gas(0, 0), 102400000, 500},
	} {
		if math.Abs(v.got-v.want) > v.near {
			t.Errorf("%s: got %f, want %f", v.what, v.got, v.want)
		}
	}
}

func TestBME680Heater(t *testing.T) {
	c := bme680Example
	// Bosch's formula in integers agrees where its divisions lose nothing: in air of 0 °C.
	for _, temp := range []int{200, 320, 400} {
		v := (int(c.gh1) + 784) * (((int(c.gh2)+154009)*temp*5/100 + 3276800) / 10)
		want := ((v/2/(int(c.heatRange)+4)/(131*int(c.heatValue)+65536)-250)*34 + 50) / 100
		if got := int(c.heater(float64(temp), 0)); got-want > 1 || want-got > 1 {
			t.Errorf("%d °C: got %d, want %d", temp, got, want)
		}
	}
	if cold, warm := c.heater(320, -40), c.heater(320, 85); cold >= warm {
		t.Errorf("in air of -40 °C %d, of 85 °C %d: gh3 is positive", cold, warm)
	}
	// Data sheet, "Quick start": 0x59 is 100 ms.
	for d, want := range map[time.Duration]byte{
		100 * time.Millisecond: 0x59, time.Millisecond: 1, 63 * time.Millisecond: 63, 64 * time.Millisecond: 0x50,
		150 * time.Millisecond: 0x66, 4032 * time.Millisecond: 0xFF,
	} {
		if got := bme680Wait(d); got != want {
			t.Errorf("%v: got %#02x, want %#02x", d, got, want)
		}
	}
}

// FuzzBME680 shows that no calibration and no measurement of a broken chip is more than an error.
func FuzzBME680(f *testing.F) {
	f.Add(make([]byte, 59))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < 59 {
			return
		}
		for _, high := range []bool{false, true} {
			s := &bme680Sensor{calib: parseBME680Calib([42]byte(b)), high: high, heat: 320}
			m, err := s.convert([17]byte(b[42:]))
			if (err == nil) != (len(m) == 4) {
				t.Errorf("got %v, %v", m, err)
			}
			for _, v := range m {
				if math.IsNaN(v.Value) || math.IsInf(v.Value, 0) {
					t.Errorf("got %v", v)
				}
			}
			s.calib.heater(400, s.ambient)
		}
	})
}
